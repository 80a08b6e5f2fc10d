//! The library, as the example uses it.

use std::path::Path;
use std::process::Command;

use crate::support::{Folder, KAPELLE};

#[test]
fn the_example_runs_and_its_run_can_be_seen_from_the_command_line() {
    let folder = Folder::new();
    // Cargo builds examples with the tests, beside the binary.
    let example = Path::new(KAPELLE).with_file_name("examples").join("library");
    let store = folder.path().join(".kapelle");
    let output = Command::new(example).arg(&store).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let last: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(last["output"], "HELLO \"ADA\"");
    let run = last["run"].as_str().unwrap();
    let shown = folder.run(&format!("runs show {run} --json")).expect(0).json();
    assert_eq!(shown["status"], "completed");
}
