//! Syncs that fail in the kernel: a disk that promises more than there is room for.
//!
//! The disk is a sparse file in a memory that is too small for it: at some moment the kernel cannot
//! write back what the store wrote. The process must end with 6; what it acknowledged must be there
//! once the memory is larger, and the run goes on. Each disk is a bit larger than the one before.
//! With `--off` no sync is made, none fails, and what was acknowledged is lost.

use std::fs::{File, create_dir};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::disk::{Shelf, give, mount, unmount};
use crate::kill_check::{Journal, check_kept};
use crate::kill_node::{Lines, Place, kapelle};
use crate::kill_round::Told;

/// What the disk promises.
const DISK_BYTES: u64 = 256 << 20;
/// What there is room for on the first disk, in KiB.
const FIRST_KIB: u32 = 7 << 10;
/// How much more on each next one, in KiB.
const MORE_KIB: u32 = 600;
/// The longest that a run may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The work.
const RUN: [&str; 7] = ["--store", "store", "run", "load.yaml", "--json", "--task-id", "load"];

/// Fills `disks`; whether each ended as it should.
pub(crate) fn play(disks: u32, off: bool) -> ExitCode {
    let _shelf = Shelf::build();
    let kapelle = kapelle().display().to_string();
    let program = if off { vec!["eatmydata", &kapelle] } else { vec![kapelle.as_str()] };
    let (mut failed, mut told, mut wrong) = (0, 0, 0);
    for number in 0..disks {
        let kib = FIRST_KIB + number * MORE_KIB;
        let (code, said, acknowledged, faults) = round(kib, &program);
        let ended = code.map_or("killed".to_owned(), |code| code.to_string());
        eprintln!("room for {kib} KiB: {acknowledged} acknowledgements, {ended}: {said}");
        faults.iter().for_each(|fault| eprintln!("  {}", &fault[..fault.len().min(2_000)]));
        failed += u32::from(code == Some(6));
        told += acknowledged;
        wrong += faults.len();
    }
    println!("{disks} disks, {failed} failed; {told} acknowledgements; {wrong} lost or wrong");
    let as_expected = if off { wrong > 0 } else { wrong == 0 && failed > 0 };
    if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn round(kib: u32, program: &[&str]) -> (Option<i32>, String, usize, Vec<String>) {
    let place = Place::new();
    place.write("load.yaml", include_str!("load.yaml"));
    let (room, disk) = (place.path("room"), place.path("store"));
    let image = small_disk(&room, kib);
    create_dir(&disk).unwrap();
    mount(&image, &disk);

    let mut wrong = Vec::new();
    let lines = Lines::default();
    let args = [&program[1..], &RUN].concat();
    let mut node = place.start(Path::new(program[0]), &args, &lines);
    let deadline = Instant::now() + PATIENCE;
    let mut heard = (0..).map_while(|index| lines.get(index, deadline));
    let code = if heard.any(|line| line.text.is_empty()) {
        node.end().code()
    } else {
        wrong.push("it does not end".to_owned());
        node.kill();
        None
    };
    let is_event = |kind: &str| kind != "run_completed";
    let lines = lines.all().into_iter();
    let lines = lines.filter(|line| line.json["type"].as_str().is_some_and(is_event)).collect();
    let told = Told { lines, ..Told::default() };

    let said = place.read("stderr").lines().last().unwrap_or_default().to_owned();
    repair(&room, &image, &disk);
    if !matches!(code, Some(0 | 6)) {
        wrong.push(format!("it ended with {code:?}"));
    }
    wrong.extend(compare(&place, &told));
    unmount(&disk);
    unmount(&room);
    (code, said, told.lines.len(), wrong)
}

fn small_disk(room: &Path, kib: u32) -> PathBuf {
    create_dir(room).unwrap();
    let size = format!("size={kib}k");
    give("mount", &["-t", "tmpfs", "-o", &size, "none", room.to_str().unwrap()]);
    let image = room.join("disk.img");
    File::create_new(&image).and_then(|file| file.set_len(DISK_BYTES)).unwrap();
    let lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
    give("mkfs.ext4", &["-q", "-E", lazy, "-N", "256", "-J", "size=4", image.to_str().unwrap()]);
    image
}

/// The disk after a start of the machine, with room for all that it promises.
fn repair(room: &Path, image: &Path, disk: &Path) {
    unmount(disk);
    give("mount", &["-o", "remount,size=512m", room.to_str().unwrap()]);
    let checked = Command::new("e2fsck").arg("-fy").arg(image).output().unwrap();
    assert!(checked.status.code().is_some_and(|code| code < 4), "e2fsck: {checked:?}");
    mount(image, disk);
}

/// What was acknowledged is there, and the run goes on to its end.
fn compare(place: &Place, told: &Told) -> Vec<String> {
    let mut wrong = Vec::new();
    let events = ["--store", "store", "runs", "events", "load", "--json"];
    if !told.lines.is_empty() {
        let output = place.give(&events);
        let lines = String::from_utf8_lossy(&output.stdout);
        match output.status.success() {
            true => {
                let journal = Journal::new(lines.lines().map(str::to_owned).collect());
                check_kept(told, &journal, &mut wrong);
            }
            false => wrong.push(format!("lost: {}", String::from_utf8_lossy(&output.stderr))),
        }
    }
    let output = place.give(&RUN);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        wrong.push(format!("it does not go on: {}: {said}", output.status));
    }
    wrong
}
