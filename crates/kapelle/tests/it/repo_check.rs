//! The shipped example over real repositories: ordinary, odd and missing ones.

use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

use crate::support::Folder;

const WORKFLOW: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/repo-check/workflow.yaml");

fn git(folder: &Path, line: &[&str]) {
    let who = ["-c", "user.name=A <b>", "-c", "user.email=a@example.org"];
    let done = Command::new("git").args(who).args(line).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{line:?}: {done:?}");
}

fn artifact(folder: &Folder, last: &Json, name: &str) -> String {
    let artifacts = last["artifacts"].as_array().unwrap();
    let path = artifacts.iter().find(|a| a["name"] == name).and_then(|a| a["path"].as_str());
    std::fs::read_to_string(folder.path().join(path.unwrap())).unwrap()
}

#[test]
fn a_repository_is_reported_on_whatever_its_files_are_called() {
    let folder = Folder::new();
    git(folder.path(), &["init", "-q", "-b", "main"]);
    std::fs::create_dir_all(folder.path().join("src and more")).unwrap();
    folder.write("README.md", "# Hello\n");
    folder.write("src and more/it's \"odd\" <b>.rs", "fn main() {} // $(touch pwned)\n");
    folder.write(".gitignore", ".kapelle/\n");
    git(folder.path(), &["add", "-A"]);
    git(folder.path(), &["commit", "-q", "-m", "first; $(touch pwned) {{ inputs }}"]);

    let done = folder.run(&format!("run {WORKFLOW} --json")).expect(0);
    let last = done.last();
    assert_eq!(last["verdict"], "completed", "{last}");
    let markdown = artifact(&folder, &last, "report.md");
    assert!(markdown.contains("src and more"), "{markdown}");
    let html = artifact(&folder, &last, "report.html");
    assert!(html.contains("&lt;b&gt;") && !html.contains("A <b>"), "{html}");
    assert!(!html.contains("<script"), "{html}");
    let drawn = html.split_once("<svg class=run").and_then(|rest| rest.1.split_once("</svg>"));
    let steps = drawn.unwrap().0.matches("<rect").count();
    let ended = done.events().iter().filter(|event| event["type"] == "step_completed").count();
    // The group of folders ended too, but is no work of its own; the report was not there yet.
    assert_eq!(steps, ended - 2, "{html}");
    assert!(!folder.path().join("pwned").exists());
}

#[test]
fn a_folder_without_a_repository_is_a_clear_failure() {
    let folder = Folder::new();
    let done = folder.run(&format!("run {WORKFLOW} --json")).expect(1);
    let last = done.last();
    assert_eq!(last["verdict"], "failed");
    let failed = done.events().into_iter().find(|event| event["type"] == "step_failed");
    let said = failed.unwrap().to_string();
    assert!(said.contains("repository"), "{said}");
}

#[test]
fn a_repository_without_a_commit_is_reported_on() {
    let folder = Folder::new();
    git(folder.path(), &["init", "-q"]);
    let last = folder.run(&format!("run {WORKFLOW} --json")).expect(0).last();
    assert!(artifact(&folder, &last, "report.md").contains("commit"));
}
