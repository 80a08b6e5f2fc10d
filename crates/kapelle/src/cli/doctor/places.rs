//! What can be seen from outside: store, disk, clock, limits, tools.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use kapelle_agents::memory::{self, Depth};
use kapelle_agents::model::tools::can_be_confined;
use kapelle_core::port::journal::{Error, Journal as _, RunQuery};
use kapelle_core::port::nodes::Nodes as _;
use kapelle_core::{Tenant, Timestamp};
use kapelle_store::{Member, Sqlite};
use rustix::fs::{statfs, statvfs};
use rustix::process::{Resource, getrlimit};

use super::Check;
use super::verify::many;
use crate::cli::session::Settings;
use crate::config;
use crate::node::{Place, memory_file};

/// With less free space than this nothing can be promised, and with less than that soon not.
const FREE_MIN: u64 = 64 << 20;
const FREE_FEW: u64 = 1 << 30;
/// A disk that takes longer to write something down slows every step.
const SYNC_MAX: Duration = Duration::from_millis(10);
/// How often that is timed.
const SYNCS: usize = 5;
/// Fewer files than this are used up by a few hundred connections.
const FILES_MIN: u64 = 1_024;
/// Less memory than this is used up by one long run.
const MEMORY_MIN: u64 = 256 << 20;
/// A clock that is further ahead of the store's last word was set back.
const AHEAD_MAX: Duration = Duration::from_secs(5);
/// File systems, by the number the kernel gives them, that other machines write to as well.
const NETWORK: [(u64, &str); 6] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
];
const TMPFS: u64 = 0x0102_1994;

pub(super) async fn look(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![configuration(settings)];
    match &settings.place {
        Place::Memory => checks.push(Check::doubtful(
            "store",
            "it is in memory: what happened is gone with its process",
            "name a folder with `--store`",
        )),
        Place::Folder(folder) => {
            let (found, last) = store(folder, settings).await;
            checks.push(found);
            checks.push(notes(folder));
            let near = folder.ancestors().find(|near| near.is_dir()).unwrap_or(Path::new("."));
            checks.extend(disk(near));
            checks.push(clock(last));
        }
    }
    checks.extend([files(), free_memory()]);
    checks.extend(["sh", "git"].map(tool));
    checks.push(commands().await);
    checks
}

/// Whether commands of models can be confined: tried.
async fn commands() -> Check {
    let tried = match std::env::current_exe() {
        Ok(launcher) => can_be_confined(&launcher).await,
        Err(error) => Err(error.to_string()),
    };
    match tried {
        Ok(()) => {
            Check::fine("confine", "commands of models can be confined: namespaces, Landlock")
        }
        Err(lacks) => Check::doubtful(
            "confine",
            format!("commands of models cannot be confined, and are refused, for want of {lacks}"),
            "needed only where `models.grants` has `run_command`",
        ),
    }
}

fn configuration(settings: &Settings) -> Check {
    let message = match settings.config_file() {
        Some(file) => format!("`{}` was read", file.display()),
        None if Path::new(config::FILE).exists() => format!("`{}` was read", config::FILE),
        None => "none: everything is as it comes".to_owned(),
    };
    Check::fine("config", message)
}

/// The store, and when something was last written down in it.
async fn store(folder: &Path, settings: &Settings) -> (Check, Option<Timestamp>) {
    if !folder.is_file() && !folder.join("kapelle.db").exists() {
        let message =
            format!("there is none in `{}` yet; `kapelle run` makes it", folder.display());
        return (Check::fine("store", message), None);
    }
    match opened(folder).await {
        Ok((message, last)) => (Check::fine("store", message), last),
        Err(error) => {
            let mend = match &error {
                Error::Newer { .. } => {
                    "use the version of kapelle that wrote it, or a newer one".into()
                }
                Error::Busy { .. } => "another process holds it: wait, or end that one".into(),
                _ => format!("`{}` says how far it goes", settings.command("doctor --verify")),
            };
            (Check::broken("store", error.to_string(), mend), None)
        }
    }
}

async fn opened(folder: &Path) -> Result<(String, Option<Timestamp>), Error> {
    let store = match Sqlite::inspect(folder)? {
        Some(store) => store,
        None => Sqlite::open(folder)?,
    };
    let newest = RunQuery { limit: 1_000, ..RunQuery::default() };
    let runs = store.runs(&Tenant::default(), &newest).await?;
    let open: u64 = store.open_counts().await?.iter().map(|(_, count)| count).sum();
    let seen = Member::look(folder);
    let me = &seen.me().id;
    let nodes = seen.list().await?.iter().filter(|node| node.id != *me).count() as u64;
    let last = runs.iter().map(|run| run.updated_at).max();
    let bytes = ["kapelle.db", "kapelle.db-wal"]
        .map(|name| std::fs::metadata(folder.join(name)).map_or(0, |data| data.len()));
    let message = format!(
        "`{}`: {}, {} at work, {} in the database, {} in its log",
        folder.display(),
        many(open, "open run", "open runs"),
        many(nodes, "node", "nodes"),
        size(bytes[0]),
        size(bytes[1])
    );
    Ok((message, last))
}

/// What steps left for later ones.
fn notes(folder: &Path) -> Check {
    let file = memory_file(folder);
    match memory::look(&file, Depth::Outside) {
        Ok(None) => Check::fine("notes", "there are none; a step that remembers makes them"),
        Ok(Some(entries)) => {
            let entries = many(entries, "entry", "entries");
            Check::fine("notes", format!("`{}`: {entries}", file.display()))
        }
        Err(failure) => {
            let (message, mend) = failure
                .message
                .rsplit_once("; ")
                .unwrap_or((&failure.message, "try again when nobody writes to it"));
            Check::broken("notes", message, mend)
        }
    }
}

/// The disk that has `folder`.
fn disk(folder: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    let free = statvfs(folder).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    checks.push(match free {
        Ok(free) if free < FREE_MIN => Check::broken(
            "disk",
            format!("{} are free on the disk of `{}`", size(free), folder.display()),
            "free some space, or have `kapelle runs prune` do it",
        ),
        Ok(free) if free < FREE_FEW => Check::doubtful(
            "disk",
            format!("only {} are free on the disk of `{}`", size(free), folder.display()),
            "free some space, or have `kapelle runs prune` do it",
        ),
        Ok(free) => Check::fine("disk", format!("{} are free", size(free))),
        Err(error) => {
            let message = format!("`{}`: {error}", folder.display());
            Check::broken("disk", message, "name another folder with `--store`")
        }
    });
    let kind = statfs(folder).map(|stat| u64::try_from(stat.f_type).unwrap_or(0) & 0xffff_ffff);
    let kind = kind.unwrap_or(0);
    if let Some((_, name)) = NETWORK.iter().find(|(number, _)| *number == kind) {
        let message =
            format!("its file system is {name}, whose locks and syncs cannot be relied on");
        checks.push(Check::doubtful("disk", message, "keep the store on a local disk"));
    } else if kind == TMPFS {
        let message = "its file system is memory, which a restart of the machine empties";
        checks.push(Check::doubtful("disk", message, "keep the store on a disk"));
    }
    checks.push(syncs(folder));
    checks
}

/// How long the disk takes to write something down.
fn syncs(folder: &Path) -> Check {
    let timed = || -> std::io::Result<Duration> {
        let mut file = tempfile::tempfile_in(folder)?;
        let mut times = Vec::new();
        for _ in 0..SYNCS {
            let since = Instant::now();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            times.push(since.elapsed());
        }
        times.sort_unstable();
        Ok(times[SYNCS / 2])
    };
    match timed() {
        Ok(took) if took > SYNC_MAX => Check::doubtful(
            "sync",
            format!("the disk takes {took:.1?} to write something down, and so does each step"),
            "keep the store on a faster disk, or have its hypervisor or controller looked at",
        ),
        Ok(took) => {
            Check::fine("sync", format!("the disk takes {took:.1?} to write something down"))
        }
        Err(error) => Check::broken(
            "sync",
            format!("nothing can be written to `{}`: {error}", folder.display()),
            "make the folder writable for this user, or name another one with `--store`",
        ),
    }
}

fn clock(last: Option<Timestamp>) -> Check {
    let now = crate::now();
    let ahead = last.map(|last| last.since(now)).unwrap_or_default();
    if ahead > AHEAD_MAX {
        let message = format!(
            "it says {now}, and a run was written to {ahead:.0?} later: it was set back, and the time \
             of such runs stands still until then"
        );
        return Check::doubtful("clock", message, "set the clock, and have it kept by NTP");
    }
    Check::fine("clock", format!("it says {now}"))
}

fn files() -> Check {
    match getrlimit(Resource::Nofile).current {
        Some(most) if most < FILES_MIN => Check::doubtful(
            "limits",
            format!("at most {most} files may be open at once"),
            format!("`ulimit -n {}` before kapelle, or `LimitNOFILE=` in its unit", 4 * FILES_MIN),
        ),
        Some(most) => Check::fine("limits", format!("{most} files may be open at once")),
        None => Check::fine("limits", "any number of files may be open at once"),
    }
}

fn free_memory() -> Check {
    let left = ["/sys/fs/cgroup/memory.max", "/proc/meminfo"].map(|file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let kib = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        match kib {
            Some(kib) => {
                kib.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
            }
            None => text.trim().parse().ok(),
        }
    });
    match left.into_iter().flatten().min() {
        Some(left) if left < MEMORY_MIN => Check::doubtful(
            "memory",
            format!("{} are left for this process", size(left)),
            "a run of 100,000 steps takes about 1 GiB: give it more, or keep runs short",
        ),
        Some(left) => Check::fine("memory", format!("{} are left for this process", size(left))),
        None => Check::fine("memory", "nobody says how much there is"),
    }
}

/// A program that steps are likely to call.
fn tool(name: &'static str) -> Check {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    match found {
        Some(file) => Check::fine("tools", format!("`{name}` is {}", file.display())),
        None => Check::doubtful(
            "tools",
            format!("there is no `{name}` in the PATH"),
            format!("install it, if a workflow calls `{name}`"),
        ),
    }
}

fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
