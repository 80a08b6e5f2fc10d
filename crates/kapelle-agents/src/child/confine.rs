//! The wall around a command that a model wants: what it sees, what it may use up, and whom it reaches.
//!
//! **Invariants:** the command starts behind all of the wall, or not at all; what cannot be enforced here
//! is a refusal that names it. The process that puts itself behind the wall is one of its own, between
//! the launcher and the command: it has one thread, and becomes the command.
//!
//! Two walls stand one behind the other. The command has a root of its own that holds nothing but system
//! folders (read-only), its folder and a temporary one, and no network device (`child/root.rs`); and
//! Landlock forbids all else, and signals to the world outside. Absent: limits over all its processes
//! together, which need a cgroup.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope, path_beneath_rules,
};
use rustix::fs::{Access, Stat};
use rustix::process::{Gid, Pid, Resource, Rlimit, Uid};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::{ARG, NAME, Report, Spec, root};

/// The argument after [`ARG`] that makes an executable what becomes a command.
pub(super) const STAGE: &str = "confined";
/// Its word that it has left the machine's namespaces, and the answer to it.
const WORLD: u8 = b'w';
/// What Landlock must be able to do: files, ports, devices, signals. Linux 6.12 has it.
const NEEDED: ABI = ABI::V6;
/// Who a command is where nobody else owns its folder.
const NOBODY: u32 = 65_534;

/// What a command is confined to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Walls {
    /// The folder that it works in, without links.
    pub(crate) root: String,
    /// Folders in it that keep their names, the outer ones first: in one of another name nobody would know what
    /// is a secret, or find the store.
    pub(crate) ways: Vec<String>,
    /// Links on the way to what others obey: one that leads elsewhere when the command has ended is its work.
    pub(crate) links: Vec<Kept>,
    /// What it does not see of that, relative to it.
    pub(crate) hidden: Vec<String>,
    /// What it sees and does not change.
    pub(crate) kept: Vec<Kept>,
    /// What was there of names that others obey, by [`super::sweep::id_of`]: anything else is no such thing.
    pub(crate) known: BTreeSet<String>,
    pub(crate) limits: Limits,
}

/// Something that a command sees and does not change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Where it is, relative to the command's folder.
    pub(crate) path: String,
    /// What it is known by.
    pub(crate) id: String,
}

/// What each process of a command may use up.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Time of a processor, in seconds.
    pub cpu_seconds: u64,
    /// Memory that it writes to, in bytes. Four times as much may be mapped.
    pub memory_bytes: u64,
    /// How many processes there are of the command's user in its world.
    pub processes: u64,
    /// The longest file that it writes, in bytes.
    pub file_bytes: u64,
    /// How many files it holds open.
    pub open_files: u64,
    /// What fits in its temporary folder, in bytes.
    pub temporary_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_seconds: 600,
            memory_bytes: 2 << 30,
            processes: 256,
            file_bytes: 1 << 30,
            open_files: 1_024,
            temporary_bytes: 256 << 20,
        }
    }
}

/// Starts the command of `spec` behind `walls`, or says why not.
pub(super) fn start(spec: &Spec, walls: &Walls) -> io::Result<Result<Pid, Report>> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new("/proc/self/exe")
        .arg0(NAME)
        .args([ARG, STAGE])
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    let text = serde_json::to_vec(spec)?;
    ours.write_all(&(text.len() as u64).to_le_bytes())?;
    ours.write_all(&text)?;
    let mut first = [0];
    ours.read_exact(&mut first)?;
    if first == [WORLD] {
        if let Err(error) = User::of(walls).and_then(|user| user.name_in_world_of(child.id())) {
            child.kill()?;
            return Ok(Err(no_namespace(&error)));
        }
        ours.write_all(&[WORLD])?;
        first = [b' '];
    }
    // It ends without a word when the command takes the place of the process that could have said one.
    let mut told = first.to_vec();
    ours.read_to_end(&mut told)?;
    if told == b" " {
        return Ok(Ok(Pid::from_child(&child)));
    }
    Ok(Err(serde_json::from_slice(&told)?))
}

/// Becomes a command behind its wall, as whoever is at the other end of stdin says.
pub(super) fn main() -> ExitCode {
    let parent = rustix::stdio::stdin().try_clone_to_owned().map(UnixStream::from);
    if let Ok(mut parent) = parent
        && let Err(report) = become_command(&mut parent)
    {
        let text = serde_json::to_vec(&report).unwrap_or_default();
        parent.write_all(&text).ok();
    }
    ExitCode::FAILURE
}

fn become_command(parent: &mut UnixStream) -> Result<Infallible, Report> {
    let spec = super::read_spec(parent).map_err(Report::not_started)?;
    let Some(walls) = &spec.confined else { return Err(lacks("a wall", "none was described")) };
    // A terminal of the operator would take words that are typed into it.
    rustix::process::setsid().map_err(|error| lacks("a session of its own", error))?;
    let user = User::of(walls).map_err(|error| lacks("the run's folder", error))?;
    own_world(parent)?;
    root::make(walls, &spec.cwd).map_err(|error| match error.kind() {
        // What it works in changed just now: that is no fault of the machine.
        io::ErrorKind::ResourceBusy => Report::not_started(error),
        _ => lacks("a root of its own", error),
    })?;
    user.become_it().map_err(|error| lacks("a user", error))?;
    if rustix::fs::access(&spec.cwd, Access::READ_OK | Access::EXEC_OK).is_err() {
        let why = format!("`{}` may not be read by it; give it that right", spec.cwd);
        return Err(lacks(&format!("a folder for user {}, which commands run as", user.uid), why));
    }
    forbid(walls).map_err(|error| lacks("Landlock of Linux 6.12 or newer", error))?;
    limit(&walls.limits).map_err(|error| lacks("limits", error))?;
    let (program, args) =
        spec.argv.split_first().ok_or_else(|| lacks("a program", "none is named"))?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(&spec.env).stdin(Stdio::null());
    Err(Report::not_started(command.exec()))
}

/// Leaves the users, the network, the mounts and the queues of the machine behind.
fn own_world(parent: &mut UnixStream) -> Result<(), Report> {
    let flags =
        UnshareFlags::NEWUSER | UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC;
    #[expect(
        deprecated,
        reason = "what took its place is unsafe for a flag that is not used here"
    )]
    rustix::thread::unshare(flags).map_err(|error| no_namespace(&error))?;
    let named = parent.write_all(&[WORLD]).and_then(|()| parent.read_exact(&mut [0]));
    named.map_err(|error| no_namespace(&error))
}

/// Who a command is.
pub(super) struct User {
    uid: u32,
    gid: u32,
    /// It is root that starts it.
    by_root: bool,
}

impl User {
    /// Who commands in this folder are: its owner, or nobody, if we are root; else we.
    pub(super) fn of(walls: &Walls) -> io::Result<Self> {
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        if !uid.is_root() {
            return Ok(Self { uid: uid.as_raw(), gid: gid.as_raw(), by_root: false });
        }
        let owner = std::fs::metadata(&walls.root)?;
        let or_nobody = |id| if id == 0 { NOBODY } else { id };
        let (uid, gid) = (or_nobody(owner.uid()), or_nobody(owner.gid()));
        // Of a folder that is root's, the group is not one to be in either.
        let gid = if uid == NOBODY { NOBODY } else { gid };
        Ok(Self { uid, gid, by_root: true })
    }

    /// Whether it may change what is in a folder, or give itself that right. The bits of the group are also
    /// the most that a list of rights gives to others by name.
    pub(super) fn may_change(&self, folder: &Stat) -> bool {
        folder.st_uid == self.uid || folder.st_mode & 0o022 != 0
    }

    /// Gives the world of `pid` its users: this one, and root to set it up if that is what we are.
    fn name_in_world_of(&self, pid: u32) -> io::Result<()> {
        let tell = |file: &str, text: &str| std::fs::write(format!("/proc/{pid}/{file}"), text);
        let root = if self.by_root { "0 0 1\n" } else { "" };
        if !self.by_root {
            tell("setgroups", "deny")?;
        }
        tell("uid_map", &format!("{root}{0} {0} 1\n", self.uid))?;
        tell("gid_map", &format!("{root}{0} {0} 1\n", self.gid))
    }

    fn become_it(&self) -> io::Result<()> {
        if !self.by_root {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
    }
}

fn limit(limits: &Limits) -> io::Result<()> {
    let all = [
        (Resource::Cpu, limits.cpu_seconds.saturating_add(1)),
        (Resource::Data, limits.memory_bytes),
        // What is shared is no data, and is written to all the same.
        (Resource::As, limits.memory_bytes.saturating_mul(4)),
        (Resource::Nproc, limits.processes),
        (Resource::Fsize, limits.file_bytes),
        (Resource::Nofile, limits.open_files),
        (Resource::Core, 0),
    ];
    for (resource, most) in all {
        // One that is lower already stays.
        let now = rustix::process::getrlimit(resource).maximum;
        let maximum = now.map_or(most, |now| now.min(most));
        // The signal that says why comes first, and a second later the end.
        let warning = u64::from(resource == Resource::Cpu && maximum > 1);
        let (current, maximum) = (Some(maximum - warning), Some(maximum));
        rustix::process::setrlimit(resource, Rlimit { current, maximum })?;
    }
    Ok(())
}

/// All that is not allowed is forbidden, for good: files, ports, signals and traces.
fn forbid(walls: &Walls) -> Result<(), RulesetError> {
    let all = AccessFs::from_all(NEEDED);
    let read = AccessFs::from_read(NEEDED);
    let device: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)?
        .handle_access(AccessNet::from_all(NEEDED))?
        .scope(Scope::from_all(NEEDED))?
        .create()?
        .add_rules(path_beneath_rules(root::readable(), read))?
        .add_rules(path_beneath_rules(root::devices(), device))?
        .add_rules(path_beneath_rules([root::TEMPORARY, &walls.root], all))?
        .no_new_privs(true)
        .restrict_self()?;
    Ok(())
}

fn no_namespace(error: &dyn std::fmt::Display) -> Report {
    let way = "allow them with `sysctl user.max_user_namespaces` and \
               `kernel.apparmor_restrict_unprivileged_userns=0`, in a container by its seccomp \
               profile or with CAP_SYS_ADMIN";
    lacks("namespaces", format!("{error}; {way}"))
}

fn lacks(what: &str, why: impl std::fmt::Display) -> Report {
    Report::NotConfined(format!("{what}: {why}"))
}
