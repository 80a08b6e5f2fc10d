//! Folders of agent files: what wins, what is read again, and what a broken change does.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kapelle_agents::files::{Shelf, Shelved};

fn write(folder: &Path, file: &str, name: &str, text: &str) {
    fs::create_dir_all(folder).unwrap();
    let text = format!("---\nname: {name}\ndescription: d\n---\n{text}\n");
    fs::write(folder.join(file), text).unwrap();
}

fn prompts(shelved: &Shelved) -> Vec<&str> {
    shelved.agents.iter().map(|agent| &*agent.definition.prompt).collect()
}

#[test]
fn the_first_folder_wins_and_the_shadowed_file_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (near, far) = (dir.path().join("near"), dir.path().join("far"));
    write(&near, "x.md", "a", "near");
    write(&far, "a.md", "a", "far");
    write(&far, "b.md", "b", "other");
    let shelf = Shelf::new(vec![near.clone(), dir.path().join("none"), far.clone()]);
    let shelved = shelf.look();
    assert_eq!(prompts(&shelved), ["near", "other"]);
    let [shadowed] = &shelved.shadowed[..] else { panic!("{shelved:?}") };
    assert_eq!(shadowed.agent.file, far.join("a.md"));
    assert_eq!(shadowed.by, near.join("x.md"));
    fs::remove_file(near.join("x.md")).unwrap();
    assert_eq!(prompts(&shelf.look()), ["far", "other"]);
}

#[test]
fn a_change_is_read_and_a_broken_one_keeps_what_was_good() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(vec![dir.path().to_owned()]);
    assert!(shelf.look().agents.is_empty());
    write(dir.path(), "a.md", "a", "first");
    let first = shelf.look();
    assert_eq!(prompts(&first), ["first"]);
    assert!(std::sync::Arc::ptr_eq(&first, &shelf.look()), "nothing has changed");
    write(dir.path(), "a.md", "a", "other");
    assert_eq!(prompts(&shelf.look()), ["other"], "of the same length");
    fs::write(dir.path().join("a.md"), b"\0").unwrap();
    let broken = shelf.look();
    assert_eq!(prompts(&broken), ["other"]);
    assert_eq!(broken.broken[0].message, "the file is no text");
    assert_eq!(shelf.look().broken.len(), 1, "it is told as long as it is so");
    write(dir.path(), "a.md", "a", "mended");
    assert_eq!((prompts(&shelf.look()), shelf.look().broken.len()), (vec!["mended"], 0));
    fs::remove_file(dir.path().join("a.md")).unwrap();
    assert!(shelf.look().agents.is_empty());
}

#[test]
fn links_do_not_lead_in_circles_and_pipes_do_not_hold_it_up() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("agents");
    write(&folder, "a.md", "a", "once");
    std::os::unix::fs::symlink(&folder, folder.join("again")).unwrap();
    std::os::unix::fs::symlink(folder.join("a.md"), folder.join("b.md")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.join("c.md")).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, folder.join("p.md"), rustix::fs::FileType::Fifo, mode, 0)
        .unwrap();
    let shelved = Shelf::new(vec![folder]).look();
    assert_eq!(prompts(&shelved), ["once"]);
    assert_eq!((shelved.shadowed.len(), shelved.broken.len()), (0, 2), "{shelved:?}");
}

/// The figure, a second for 2,000, is for a release build: this one is several times slower.
#[test]
fn two_thousand_files_are_loaded_in_seconds_and_looked_at_again_in_less() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..2_000 {
        let text = "You look for what others overlook.\n".repeat(100);
        write(dir.path(), &format!("{n}.md"), &format!("a-{n}"), &text);
    }
    let shelf = Shelf::new(vec![dir.path().to_owned()]);
    let begin = Instant::now();
    assert_eq!(shelf.look().agents.len(), 2_000);
    let loaded = begin.elapsed();
    shelf.look();
    let again = begin.elapsed() - loaded;
    println!("2,000 files: {loaded:?}, again {again:?}");
    assert!(loaded < Duration::from_secs(5) && again < loaded, "{loaded:?}, again {again:?}");
}
