//! `audit`: who did what, who was refused, and whether that was changed afterwards.

use kapelle_api::{AuditEntry, Client};
use kapelle_store::{Audited, Sqlite};
use serde_json::json;

use super::exit::{Exit, Stop};
use super::out;
use super::session::{Settings, with_reader};

/// How many entries one request asks for.
const PAGE: usize = 1_000;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List what was noted, newest first
    List {
        /// How many entries
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Follow the chain of all entries, of all tenants, and name the first that does not fit
    Verify {
        /// An end that an earlier `audit verify` printed and that was kept elsewhere
        #[arg(long, value_name = "NUMBER:HASH", value_parser = end)]
        kept: Option<(u64, [u8; 32])>,
        /// Print one JSON object: `{"entries", "hash", "fault"}`
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn perform(command: Command, settings: &Settings) -> Result<Exit, Stop> {
    match command {
        Command::List { limit, json } => {
            let list = async |client: &Client, _: Option<&_>| list(client, limit, json).await;
            with_reader(settings, list).await?;
            Ok(Exit::Done)
        }
        Command::Verify { kept, json } => verify(settings, kept, json).await,
    }
}

async fn list(client: &Client, limit: usize, json: bool) -> Result<(), Stop> {
    let (mut entries, mut cursor) = (Vec::<AuditEntry>::new(), None);
    while entries.len() < limit {
        let wanted = u32::try_from((limit - entries.len()).min(PAGE)).expect("a page is small");
        let page = client.audit(wanted, cursor.as_deref()).await?;
        entries.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if json {
        return Ok(entries.iter().try_for_each(out::json)?);
    }
    let head = ["NUMBER", "WHEN", "WHO", "FROM", "WHAT", "OUTCOME"].map(str::to_owned).to_vec();
    let rows = entries.iter().map(row);
    Ok(out::text(&out::table(&[head].into_iter().chain(rows).collect::<Vec<_>>()))?)
}

fn row(entry: &AuditEntry) -> Vec<String> {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut what = vec![of(&entry.method), of(&entry.route)];
    what.extend(entry.about.iter().map(|(what, name)| format!("{what}={name}")));
    for (count, kind) in [(entry.reads, "read"), (entry.work, "report"), (entry.refused, "refusal")]
    {
        if count > 0 {
            what.push(out::counted(count, kind));
        }
    }
    if let Some(since) = &entry.since {
        what.push(format!("since {since}"));
    }
    what.retain(|part| !part.is_empty());
    let status = entry.status.map(|status| status.to_string()).unwrap_or_default();
    let outcome = format!("{status} {}", of(&entry.code));
    let from = entry.peer.clone().unwrap_or_else(|| "here".to_owned());
    let cells = [entry.at.clone(), entry.who.clone(), from, what.join(" "), outcome];
    let shown = cells.iter().map(|cell| out::shown(cell, 200));
    [entry.seq.to_string()].into_iter().chain(shown).collect()
}

/// Reads the files themselves, whoever has them open: what is checked is not asked.
async fn verify(
    settings: &Settings,
    kept: Option<(u64, [u8; 32])>,
    json: bool,
) -> Result<Exit, Stop> {
    settings.expect_store()?;
    let Some(folder) = settings.place.folder() else {
        return Err(Stop::usage("a store in memory has no audit log to check"));
    };
    let store = match Sqlite::inspect(folder).map_err(failed)? {
        Some(store) => store,
        None => Sqlite::open(folder).map_err(failed)?,
    };
    let Audited { entries, hash, fault } = store.audit(kept).await.map_err(failed)?;
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    if json {
        out::json(&json!({ "entries": entries, "hash": hash, "fault": fault }))?;
    } else {
        out::line(&format!("{entries}:{hash}"))?;
    }
    match fault {
        None => {
            let all = out::counted(entries, "entry").replace("entrys", "entries");
            out::say(&format!("{all}, each as it was noted"));
            Ok(Exit::Done)
        }
        Some(fault) => Err(Stop::new(Exit::Store, fault)),
    }
}

fn failed(error: kapelle_core::port::journal::Error) -> Stop {
    Stop::new(Exit::Store, error)
}

/// `NUMBER:HASH`.
fn end(text: &str) -> Result<(u64, [u8; 32]), String> {
    let wrong = || "it is the line that `kapelle audit verify` prints, NUMBER:HASH".to_owned();
    let (number, hash) = text.split_once(':').ok_or_else(wrong)?;
    let mut bytes = [0; 32];
    if hash.len() != 64 || !hash.is_ascii() {
        return Err(wrong());
    }
    for (byte, digits) in bytes.iter_mut().zip(hash.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok((number.parse().map_err(|_| wrong())?, bytes))
}
