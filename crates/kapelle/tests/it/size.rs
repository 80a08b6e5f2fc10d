//! What a store takes on disk: what happened, and little more.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::kill_round::Dice;
use crate::support::Folder;

const STEPS: u64 = 1_000;
const OUTPUT: u64 = 10 << 10;

#[tokio::test]
async fn a_store_grows_with_what_is_new_and_little_more() {
    let folder = Folder::new();
    let store = folder.path().join(".kapelle");
    let start = || {
        let dice = Arc::new(Mutex::new(Dice(1)));
        let random = move |_| {
            let dice = dice.clone();
            async move { Ok(json!(letters(&mut dice.lock().unwrap()))) }
        };
        kapelle::open(&store).agent("random", random).start()
    };
    start().await.unwrap().close().await.unwrap();
    let empty = taken(&store);
    let mut workflow = String::from("{id: large, tasks: [");
    for n in 0..STEPS {
        write!(workflow, "{{id: s{n}, agentName: random, input: {{}}}},").unwrap();
    }
    workflow.push_str("]}");
    let kapelle = start().await.unwrap();
    let run = kapelle.run(&workflow, json!({})).await.unwrap();
    let last = serde_json::to_value(run.finish().await.unwrap()).unwrap();
    assert_eq!(last["verdict"], "completed");
    let output = last["output"].as_object().unwrap();
    assert_eq!(output.len() as u64, STEPS, "all of them are its output, and not copied");
    assert!(output.values().all(|one| one.as_str().unwrap().len() as u64 == OUTPUT));
    kapelle.close().await.unwrap();
    // Who opens a store copies its log into the database and empties it.
    folder.run("runs resume --all").expect(0);
    let (grown, new) = (taken(&store) - empty, STEPS * OUTPUT);
    println!("{STEPS} outputs of {OUTPUT} bytes took {grown} bytes: {} %", grown * 100 / new);
    assert!(grown >= new, "where are they?");
    assert!(grown <= new * 14 / 10 + STEPS * 1024, "{grown} bytes for {new}");
}

/// Text without anything to compress.
fn letters(dice: &mut Dice) -> String {
    (0..OUTPUT / 16).map(|_| format!("{:016x}", dice.below(u64::MAX))).collect()
}

/// What the files of a folder take, as `du` counts.
pub(crate) fn taken(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().map(|item| item.unwrap());
    files
        .map(|item| {
            let found = item.metadata().unwrap();
            if found.is_dir() { taken(&item.path()) } else { found.blocks() * 512 }
        })
        .sum()
}
