//! The official SDKs of both providers, as their users have them.

use std::path::Path;
use std::process::Command;

use kapelle_fake::{Fake, Script};
use serde_json::Value;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");
/// Made by `cargo xtask setup`.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/sdk/bin/python");

#[test]
fn the_official_sdks_are_served_and_refused() {
    assert!(Path::new(PYTHON).exists(), "the SDKs are not there: run `cargo xtask setup`");
    let script = std::fs::read_to_string(format!("{HERE}/script.yaml")).unwrap();
    let fake = Fake::start(Script::parse(&script).unwrap()).unwrap();
    let mut python = Command::new(PYTHON);
    // Neither a proxy nor a key of whoever runs this.
    python.env_clear().args(["-I", "-B", &format!("{HERE}/sdk.py"), &fake.url()]);
    let done = python.output().unwrap();
    let talk = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{talk}");
    let sums: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(sums["cases"].as_u64().unwrap() > 100, "{sums}");
}
