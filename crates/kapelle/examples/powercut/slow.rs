//! A disk that does twenty operations a second, by the kernel's own throttle, under load.
//!
//! Two processes work on one store, each with chains side by side. Once both have said that the disk
//! is slow, it stays so for as long as told; then it is as fast as it is, and both say that too.
//! Nothing may be made twice, each step's end must be on disk, and the store must be whole.
//!
//! The throttle is of a loop device, in the root group of `blkio`: whoever ends us, a shell outside
//! of the namespaces takes it back, see [`crate::namespace`].

use std::collections::BTreeMap;
use std::fs::{File, create_dir};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::disk::{Shelf, give, mount, unmount};
use crate::kill_node::{Line, Lines, Place, eventually, kapelle};

/// Where the kernel is told how slow a disk is.
pub(crate) const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device";
/// How many writes a second the disk does.
const IOPS: u32 = 20;
/// How large it is.
const DISK_BYTES: u64 = 256 << 20;
/// How many chains a process works on.
const CHAINS: usize = 4;
/// The longest that all may take after the disk is fast again.
const PATIENCE: Duration = Duration::from_secs(120);

/// Works for `seconds` on a slow disk; whether all went as it should.
pub(crate) fn play(seconds: u64) -> ExitCode {
    let _shelf = Shelf::build();
    let place = Place::new();
    // A step for each commit that the disk has time for, and as many again.
    place.write("load.yaml", &workflow(seconds * u64::from(IOPS) / 2));
    let disk = place.path("store");
    let throttle = slow_disk(&place, &disk);
    let lines = [Lines::default(), Lines::default()];
    let mut wrong = Vec::new();
    {
        let mut nodes: Vec<_> = ["one", "two"]
            .iter()
            .zip(&lines)
            .map(|(name, lines)| {
                let args = ["--store", "store", "run", "load.yaml", "--json", "--task-id", name];
                place.start(&kapelle(), &args, lines)
            })
            .collect();
        let said = |what: &str| place.read("stderr").matches(what).count();
        eventually("both say that the disk is slow", || said("the disk is slow") == 2);
        let since = Instant::now();
        let before = completed(&lines).len();
        std::thread::sleep(Duration::from_secs(seconds));
        let (did, took) = (completed(&lines).len() - before, since.elapsed());
        let per_second = did as f64 / took.as_secs_f64();
        println!("{IOPS} writes a second: {did} steps in {took:.0?}, {per_second:.1} a second");
        throttle.end();
        let fast = Instant::now();
        for node in &mut nodes {
            let status = node.end();
            if !status.success() {
                wrong.push(format!("a process ended with {status}"));
            }
        }
        println!("fast again: the rest took {:.1?}", fast.elapsed());
        if fast.elapsed() > PATIENCE {
            wrong.push("it did not come back".to_owned());
        }
        for what in ["the disk is slow", "the disk is fast again"] {
            if said(what) != 2 {
                wrong.push(format!("`{what}` was said {} times by two", said(what)));
            }
        }
    }
    println!("{}", place.read("stderr").trim_end());
    ["one", "two"]
        .iter()
        .zip(&lines)
        .for_each(|(run, lines)| check(&place, run, lines, &mut wrong));
    let doctor = place.give(&["--store", "store", "doctor"]);
    println!("{}", String::from_utf8_lossy(&doctor.stdout).trim_end());
    if !doctor.status.success() {
        wrong.push("the store is damaged".to_owned());
    }
    unmount(&disk);
    wrong.iter().for_each(|wrong| eprintln!("{wrong}"));
    println!("{} lost or wrong", wrong.len());
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Chains side by side, `steps` in all.
fn workflow(steps: u64) -> String {
    let mut text = "id: load\ntasks:\n".to_owned();
    for step in 0..usize::try_from(steps).unwrap().max(2 * CHAINS) {
        let needs = step.checked_sub(CHAINS).map(|before| format!("dependencies: [s{before}], "));
        text += &format!(
            "  - {{ id: s{step}, agentName: echo, timeout: 5s, {}input: {{ value: {step} }} }}\n",
            needs.unwrap_or_default()
        );
    }
    text
}

/// A disk at `at` that is slow until the answer is told otherwise.
fn slow_disk(place: &Place, at: &Path) -> Throttle {
    let image = place.path("slow.img");
    File::create_new(&image).and_then(|file| file.set_len(DISK_BYTES)).unwrap();
    let whole = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
    give("mkfs.ext4", &["-q", "-E", whole, "-J", "size=4", image.to_str().unwrap()]);
    create_dir(at).unwrap();
    mount(&image, at);
    let device = std::fs::metadata(at).unwrap().dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    // The store is made while the disk is fast: what is asked is how work goes on.
    place.write("first.yaml", "{id: first, tasks: [{id: a, agentName: echo, input: {value: 1}}]}");
    place.lines_of(&["--store", "store", "run", "first.yaml", "--json"]);
    let throttle = Throttle { device };
    throttle.set(IOPS);
    throttle
}

struct Throttle {
    device: String,
}

impl Throttle {
    fn set(&self, iops: u32) {
        std::fs::write(THROTTLE, format!("{} {iops}", self.device)).unwrap();
    }

    fn end(self) {
        self.set(0);
    }
}

/// The steps whose end was told.
fn completed(lines: &[Lines]) -> Vec<Line> {
    let all = lines.iter().flat_map(Lines::all);
    all.filter(|line| line.json["type"] == "step_completed").collect()
}

/// Each step was started once and ended well, and the journal says what was told.
fn check(place: &Place, run: &str, lines: &Lines, wrong: &mut Vec<String>) {
    let journal = place.lines_of(&["--store", "store", "runs", "events", run, "--json"]);
    let told = lines.all();
    let durable = told.iter().filter(|line| line.json["seq"].is_u64());
    for line in durable.filter(|line| line.json["type"] != "run_completed") {
        if !journal.contains(&line.text) {
            wrong.push(format!("lost: {}", line.text));
        }
    }
    let mut starts = BTreeMap::new();
    for line in told.iter().filter(|line| line.json["type"] == "step_started") {
        *starts.entry(line.json["step"].to_string()).or_insert(0) += 1;
    }
    wrong.extend(
        starts.iter().filter(|(_, n)| **n != 1).map(|(step, n)| format!("{step}: {n} starts")),
    );
    let ended = told.iter().filter(|line| line.json["type"] == "step_completed").count();
    if ended != starts.len() || starts.is_empty() {
        wrong.push(format!("{run}: {ended} of {} steps ended well", starts.len()));
    }
}
