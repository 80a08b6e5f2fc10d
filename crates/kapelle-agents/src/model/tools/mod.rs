//! The tools that ship: files below the run's folder, commands in it, what steps have left, pages, memory, and
//! words to others.
//!
//! **Invariants:** a tool that changes something is there only where the operator grants it; what a
//! tool is asked comes from a model, and is bounded, checked and never a command.

mod artifact;
mod command;
mod folder;
mod lent;
mod people;
mod reserved;
mod walls;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use kapelle_core::Json;
use kapelle_core::port::Agent;
use kapelle_core::port::agent::{Call, Desk, Failure, FailureKind, Safety};
use regex::RegexBuilder;
use serde_json::json;

use super::tool::{Reach, Told, Tool, ToolCard};
use crate::web::Web;
use folder::{Folder, Refused};
pub(super) use people::SEND;

pub use crate::child::confine::Limits;
pub use command::{Commands, RUN_COMMAND, can_be_confined, first_words, run_command};
pub use reserved::Reserved;

/// How many lines are told at the most.
const LINES_MAX: usize = 2_000;
/// How many entries of a folder.
const ENTRIES_MAX: usize = 2_000;
/// How many matches.
const MATCHES_MAX: usize = 200;
/// How many files are searched.
const FILES_MAX: usize = 20_000;
/// The longest line that is told, in characters.
const LINE_MAX: usize = 400;

/// The tools that need nothing of the node; [`run_command`] needs a launcher, [`lent`] other agents.
#[must_use]
pub fn shipped(reserved: &Arc<Reserved>) -> Vec<Arc<dyn Tool>> {
    let reserving = |tool| Files { reserved: Arc::clone(reserved), ..tool };
    let files =
        [read(), list(), search(), write()].map(|tool| Arc::new(reserving(tool)) as Arc<dyn Tool>);
    let artifact: Arc<dyn Tool> = Arc::new(artifact::Artifact::new());
    files.into_iter().chain([artifact]).chain(people::shipped()).collect()
}

/// The tools that `web` and `memory` lend.
#[must_use]
pub fn lent(web: Web, memory: &Arc<dyn Agent>) -> Vec<Arc<dyn Tool>> {
    let [remember, recall] = lent::memory(memory);
    vec![lent::fetch(web), remember, recall]
}

/// What the tool is called that reads pages.
pub const FETCH_URL: &str = "fetch_url";
/// What the tool is called that writes files.
pub(super) const WRITE_FILE: &str = "write_file";
/// What the other tools of [`lent`] are called.
pub const LENT: [&str; 2] = ["remember", "recall"];

/// A tool on files.
struct Files {
    card: ToolCard,
    work: fn(&Folder, &Json, &str) -> Result<String, Refused>,
    reserved: Arc<Reserved>,
}

fn tool(
    name: &str,
    description: &str,
    (properties, required): (Json, &[&str]),
    reach: Reach,
    work: fn(&Folder, &Json, &str) -> Result<String, Refused>,
) -> Files {
    let input = object(&properties, required);
    let (name, description) = (name.into(), description.into());
    // A file that is written again with the same text is the same file.
    let card = ToolCard { name, description, input, reach, safety: Safety::Repeatable };
    Files { card, work, reserved: Arc::default() }
}

/// The schema of an object with nothing but these.
fn object(properties: &Json, required: &[&str]) -> Json {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// The lines of a text that `from_line` and `lines` of the input want, with their numbers.
fn numbered(text: &str, input: &Json) -> String {
    let number = |name: &str, default: usize| {
        input[name].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
    };
    let (from, count) = (number("from_line", 1), number("lines", LINES_MAX));
    let mut told = String::new();
    for (at, line) in text.lines().enumerate().skip(from.saturating_sub(1)).take(count) {
        let _ = writeln!(told, "{}\t{}", at + 1, short(line));
    }
    let all = text.lines().count();
    if from.saturating_sub(1).saturating_add(count) < all {
        let _ = writeln!(told, "… {all} lines in all");
    }
    told
}

#[async_trait]
impl Tool for Files {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    async fn call(
        &self,
        of: &Call,
        input: &Json,
        key: &str,
        _: &dyn Desk,
    ) -> Result<Told, Failure> {
        let (root, input, key) = (of.root.clone(), input.clone(), key.to_owned());
        let (work, reserved) = (self.work, Arc::clone(&self.reserved));
        let done = tokio::task::spawn_blocking(move || {
            Folder::open(Path::new(&*root), &reserved)
                .and_then(|folder| work(&folder, &input, &key))
        });
        let done = done
            .await
            .map_err(|error| Failure::new(FailureKind::Bug, "tool_panicked", error.to_string()))?;
        Ok(done.map_or_else(Told::badly, Told::well))
    }
}

fn read() -> Files {
    let properties = json!({
        "path": {"type": "string", "description": "Relative to the run's folder."},
        "from_line": {"type": "integer", "minimum": 1},
        "lines": {"type": "integer", "minimum": 1, "maximum": LINES_MAX},
    });
    tool(
        "read_file",
        "Reads a text file below the run's folder; each line comes with its number.",
        (properties, &["path"]),
        Reach::Reads,
        |folder, input, _| {
            let text = folder.read(input["path"].as_str().unwrap_or_default())?;
            Ok(numbered(&text, input))
        },
    )
}

fn list() -> Files {
    let properties = json!({
        "path": {"type": "string", "description": "A folder, relative to the run's; absent: that itself."},
        "depth": {"type": "integer", "minimum": 1, "maximum": 10},
    });
    tool(
        "list_files",
        "Lists what is in a folder below the run's folder; folders end with `/`.",
        (properties, &[]),
        Reach::Reads,
        |folder, input, _| {
            let mut found = Vec::new();
            let depth = input["depth"].as_u64().unwrap_or(1);
            walk(folder, input["path"].as_str().unwrap_or("."), depth, &mut |path, is_dir| {
                found.push(if is_dir { format!("{path}/") } else { path.to_owned() });
                found.len() < ENTRIES_MAX
            })?;
            if found.len() >= ENTRIES_MAX {
                found.push(format!("… only the first {ENTRIES_MAX} are told"));
            }
            Ok(found.join("\n"))
        },
    )
}

fn search() -> Files {
    let properties = json!({
        "pattern": {"type": "string", "maxLength": 1000, "description": "A regular expression."},
        "path": {"type": "string", "description": "A file or folder; absent: all of the run's folder."},
        "ignore_case": {"type": "boolean"},
    });
    tool(
        "search_files",
        "Finds lines that match a regular expression, as `file:line: text`.",
        (properties, &["pattern"]),
        Reach::Reads,
        |folder, input, _| {
            let mut pattern = RegexBuilder::new(input["pattern"].as_str().unwrap_or_default());
            pattern.case_insensitive(input["ignore_case"] == true).size_limit(1 << 20);
            let pattern = pattern.build().map_err(|error| format!("the pattern: {error}"))?;
            let (mut told, mut matches, mut files) = (String::new(), 0, 0);
            let mut look = |path: &str| {
                files += 1;
                let text = folder.read(path).unwrap_or_default();
                let lines = text.lines().enumerate().filter(|(_, line)| pattern.is_match(line));
                for (at, line) in lines.take(MATCHES_MAX - matches) {
                    matches += 1;
                    let _ = writeln!(told, "{path}:{}: {}", at + 1, short(line));
                }
                matches < MATCHES_MAX && files < FILES_MAX
            };
            let path = input["path"].as_str().unwrap_or(".");
            if folder.list(path).is_ok() {
                walk(folder, path, 20, &mut |path, is_dir| is_dir || look(path))?;
            } else {
                folder.read(path)?;
                look(path);
            }
            if matches == MATCHES_MAX {
                let _ = writeln!(told, "… only the first {MATCHES_MAX} are told");
            }
            Ok(if told.is_empty() { "nothing matches".to_owned() } else { told })
        },
    )
}

fn write() -> Files {
    let properties = json!({
        "path": {"type": "string", "description": "Relative to the run's folder."},
        "text": {"type": "string", "maxLength": 1_000_000, "description": "All of the file."},
    });
    tool(
        WRITE_FILE,
        "Writes a text file below the run's folder, instead of one that is there.",
        (properties, &["path", "text"]),
        Reach::Writes,
        |folder, input, key| {
            let text = |name: &str| input[name].as_str().unwrap_or_default();
            folder.write(text("path"), text("text"), key)?;
            Ok(format!("{} bytes are written", text("text").len()))
        },
    )
}

/// Shows all that is below `path` to `each`, until that says that it is enough.
fn walk(
    folder: &Folder,
    path: &str,
    depth: u64,
    each: &mut dyn FnMut(&str, bool) -> bool,
) -> Result<bool, Refused> {
    for entry in folder.list(path)? {
        if !each(&entry.path, entry.is_dir) {
            return Ok(false);
        }
        // A folder that goes away meanwhile is none.
        if entry.is_dir && depth > 1 && !walk(folder, &entry.path, depth - 1, each).unwrap_or(true)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn short(line: &str) -> String {
    let mut chars = line.chars();
    let start: String = chars.by_ref().take(LINE_MAX).collect();
    if chars.next().is_some() { format!("{start}…") } else { start }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::contract;
    use crate::desk::ScratchDesk;

    async fn told(root: &Path, tool: &Files, input: Json) -> Told {
        let wrong = kapelle_core::port::agent::wrong_with(&tool.card.input, &input);
        assert_eq!(wrong, Vec::<String>::new(), "{input}");
        let call = contract::call("work", json!({}), root.to_str().unwrap());
        let desk = ScratchDesk::new().unwrap();
        tool.call(&call, &input, "run/step/1/0", &desk).await.unwrap()
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("run/src/.git")).unwrap();
        fs::write(dir.path().join("outside.txt"), "secret").unwrap();
        let run = dir.path().join("run");
        fs::write(run.join("src/a.rs"), "fn a() {}\nfn b() {}\n").unwrap();
        fs::write(run.join(".env"), "KEY=secret").unwrap();
        fs::write(run.join("src/bin"), b"a\0b").unwrap();
        symlink("../outside.txt", run.join("link")).unwrap();
        symlink("/etc", run.join("etc")).unwrap();
        dir
    }

    #[tokio::test]
    async fn files_are_read_listed_and_searched() {
        let dir = tree();
        let run = dir.path().join("run");
        let text = told(&run, &read(), json!({"path": "src/a.rs", "from_line": 2})).await;
        assert_eq!(text, Told::well("2\tfn b() {}\n"));
        let first = told(&run, &read(), json!({"path": "./src/a.rs", "lines": 1})).await;
        assert_eq!(first, Told::well("1\tfn a() {}\n… 2 lines in all\n"));
        let behind = json!({"path": "src/a.rs", "from_line": u64::MAX});
        assert_eq!(told(&run, &read(), behind).await, Told::well(""));
        let all = told(&run, &list(), json!({"depth": 3})).await;
        assert_eq!(all, Told::well("etc\nlink\nsrc/\nsrc/a.rs\nsrc/bin"));
        let found = told(&run, &search(), json!({"pattern": "FN b", "ignore_case": true})).await;
        assert_eq!(found, Told::well("src/a.rs:2: fn b() {}\n"));
        let none = told(&run, &search(), json!({"pattern": "secret"})).await;
        assert_eq!(none, Told::well("nothing matches"));
    }

    #[tokio::test]
    async fn nothing_leads_out_of_the_folder_or_to_a_secret() {
        let dir = tree();
        let run = dir.path().join("run");
        for path in ["../outside.txt", "/etc/passwd", "link", "etc/passwd", "src/../../outside.txt"]
        {
            let told = told(&run, &read(), json!({"path": path})).await;
            assert!(told.failed && told.text.contains("leads out"), "{path}: {told:?}");
        }
        symlink(".env", run.join("plain")).unwrap();
        for path in [
            ".env",
            "src/id_rsa",
            "a/.ssh/config",
            "server.PEM",
            "plain",
            "a/.docker/config.json",
            "secrets/prod.env",
            "credentials.json",
            ".envrc",
            "src/.git/config",
        ] {
            let told = told(&run, &read(), json!({"path": path})).await;
            assert!(told.failed && told.text.contains("secret by its name"), "{path}: {told:?}");
        }
        for path in ["../new.txt", "etc/new.txt", "/tmp/new.txt", ".env", ".git-credentials"] {
            let told = told(&run, &write(), json!({"path": path, "text": "x"})).await;
            assert!(told.failed, "{path}: {told:?}");
        }
        symlink(".git", run.join("src/hooks")).unwrap();
        for path in ["new/a/.git/x", "new/.env", "new/workflow.yml", "new/../x", "src/hooks/new/x"]
        {
            let told = told(&run, &write(), json!({"path": path, "text": "x"})).await;
            assert!(told.failed, "{path}: {told:?}");
        }
        assert!(!run.join("new").exists() && !run.join("src/.git/new").exists(), "nothing is made");
        for path in [
            "kapelle.toml",
            ".vscode/a.json",
            "src/.git/x",
            "src/hooks/x",
            ".GIT/x",
            "CLAUDE.md",
            ".github/workflows/x.yml",
            "sub/.husky/pre-commit",
            "sub/.claude/agents/y.md",
            "agents/x.md",
        ] {
            let told = told(&run, &write(), json!({"path": path, "text": "x"})).await;
            assert!(told.failed && told.text.contains("others act on it"), "{path}: {told:?}");
            assert!(!run.join(path).exists(), "{path}");
        }
        assert!(!dir.path().join("new.txt").exists());
        // A link is replaced, not followed.
        let told = told(&run, &write(), json!({"path": "link", "text": "mine"})).await;
        assert!(!told.failed, "{told:?}");
        assert_eq!(fs::read_to_string(dir.path().join("outside.txt")).unwrap(), "secret");
    }

    #[tokio::test]
    async fn what_the_node_reserves_is_not_read_and_not_written() {
        let dir = tree();
        let run = dir.path().join("run");
        fs::write(run.join("llm-key.txt"), "canary").unwrap();
        fs::write(run.join("flow.yaml"), "tasks").unwrap();
        fs::create_dir(run.join("team")).unwrap();
        symlink("llm-key.txt", run.join("plain.txt")).unwrap();
        let reserved = Reserved {
            secret: vec![run.join("llm-key.txt")],
            obeyed: vec![run.join("flow.yaml"), run.join("team")],
            store: None,
        };
        let reserving = |tool| Files { reserved: Arc::new(reserved.clone()), ..tool };
        for path in ["llm-key.txt", "./llm-key.txt", "plain.txt"] {
            let told = told(&run, &reserving(read()), json!({"path": path})).await;
            assert!(told.failed && told.text.contains("holds a key"), "{path}: {told:?}");
        }
        let found = told(&run, &reserving(search()), json!({"pattern": "canary"})).await;
        assert_eq!(found, Told::well("nothing matches"));
        for path in ["flow.yaml", "team/new.md", "llm-key.txt"] {
            let told = told(&run, &reserving(write()), json!({"path": path, "text": "x"})).await;
            assert!(told.failed, "{path}: {told:?}");
        }
        assert_eq!(fs::read_to_string(run.join("flow.yaml")).unwrap(), "tasks");
        let bare = told(&run, &read(), json!({"path": "llm-key.txt"})).await;
        assert!(bare.text.contains("canary"), "{bare:?}");
    }

    /// `.kapelle` is known by its name; any other folder is by its place.
    #[tokio::test]
    async fn a_store_is_not_there_for_tools_whatever_it_is_called_and_however_it_is_reached() {
        let dir = tree();
        let run = dir.path().join("run");
        fs::create_dir_all(run.join("data/st/pace")).unwrap();
        fs::write(run.join("data/st/kapelle.db"), "canary").unwrap();
        symlink("data", run.join("way")).unwrap();
        symlink("data/st", run.join("direct")).unwrap();
        let store = Some(run.join("way/st"));
        let reserved = Arc::new(Reserved { store, ..Reserved::default() });
        let reserving = |tool| Files { reserved: Arc::clone(&reserved), ..tool };
        for place in ["data/st", "way/st", "direct"] {
            for path in ["kapelle.db", "pace/x", "runs/x"] {
                let input = json!({"path": format!("{place}/{path}"), "text": "x"});
                let told = told(&run, &reserving(write()), input).await;
                assert!(told.failed && told.text.contains("our own"), "{place}/{path}: {told:?}");
            }
            let file = json!({"path": format!("{place}/kapelle.db")});
            let read = told(&run, &reserving(read()), file).await;
            assert!(read.failed && read.text.contains("our own"), "{place}: {read:?}");
            let listed = told(&run, &reserving(list()), json!({"path": place})).await;
            assert!(listed.failed && listed.text.contains("our own"), "{place}: {listed:?}");
        }
        let way = told(&run, &reserving(write()), json!({"path": "./way", "text": "x"})).await;
        assert!(way.failed && run.join("way").is_symlink(), "{way:?}");
        let all = told(&run, &reserving(list()), json!({"depth": 9})).await.text;
        assert!(all.contains("data/") && !all.contains("data/st"), "{all}");
        let found = told(&run, &reserving(search()), json!({"pattern": "canary"})).await;
        assert_eq!(found, Told::well("nothing matches"));
        assert_eq!(fs::read_dir(run.join("data/st/pace")).unwrap().count(), 0);
        let inside = told(&run.join("data/st"), &reserving(list()), json!({})).await;
        assert!(inside.failed && inside.text.contains("is the store"), "{inside:?}");
        let bare = told(&run, &read(), json!({"path": "direct/kapelle.db"})).await;
        assert!(bare.text.contains("canary"), "{bare:?}");
    }

    #[tokio::test]
    async fn a_file_is_written_whole_with_the_folders_it_needs() {
        let dir = tree();
        let run = dir.path().join("run");
        let input = json!({"path": "out/deep/report.md", "text": "# Report\n"});
        let wrote = told(&run, &write(), input).await;
        assert_eq!(wrote, Told::well("9 bytes are written"));
        assert_eq!(fs::read_to_string(run.join("out/deep/report.md")).unwrap(), "# Report\n");
        assert_eq!(fs::read_dir(run.join("out/deep")).unwrap().count(), 1, "no draft is left");
        let script = run.join("out/run.sh");
        fs::write(&script, "old").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o750)).unwrap();
        let again = told(&run, &write(), json!({"path": "out/run.sh", "text": "new"})).await;
        assert_eq!(again, Told::well("3 bytes are written"));
        assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o750);
        let _socket = std::os::unix::net::UnixListener::bind(run.join("out/socket")).unwrap();
        let odd = told(&run, &write(), json!({"path": "out/socket", "text": "x"})).await;
        assert_eq!(odd, Told::badly("`out/socket` is there, and is no file"));
        let binary = told(&run, &read(), json!({"path": "src/bin"})).await;
        assert_eq!(binary, Told::badly("`src/bin` is no text"));
    }
}
