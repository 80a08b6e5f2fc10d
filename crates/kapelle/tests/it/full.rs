//! A disk that fills up under the real binary: a small one of our own, in a namespace.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::support::{Folder, run_of};

/// Where the disk is, in a process that has one.
const DISK: &str = "KAPELLE_TEST_DISK";

/// Plays `play` where a folder is a disk of `size`: this test once more, in a namespace that ends
/// with it.
fn on_a_small_disk(test: &str, size: &str, play: impl FnOnce(&Path)) {
    if let Some(disk) = std::env::var_os(DISK) {
        return play(Path::new(&disk));
    }
    let folder = tempfile::tempdir().unwrap();
    let mount =
        format!("mount -t tmpfs -o size={size} none \"$KAPELLE_TEST_DISK\" && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    // Somebody who is not root is root in a namespace, where the system permits that.
    command.args(["--map-root-user", "--mount", "sh", "-c", &mount]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    let output = command.env(DISK, folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn fill_up(disk: &Path, name: &str) {
    let mut file = File::create(disk.join(name)).unwrap();
    for size in [1 << 16, 1 << 12] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
fn a_disk_that_fills_up_under_a_run_refuses_new_ones_and_hears_people() {
    const WORK: &str = r#"
id: people
tasks:
  - { id: begin, approval: {} }
  - id: large
    agentName: process
    dependencies: [begin]
    input: { shell: "head -c 600000 /dev/urandom | base64 -w 0" }
  - { id: middle, approval: {}, dependencies: [large] }
  - { id: end, approval: {}, dependencies: [middle] }
  - { id: last, agentName: echo, dependencies: [end], input: { value: done } }
output: "{{ steps.last.output }}"
"#;
    let large = |n: u32| {
        let text = format!("{n} ").repeat(200_000);
        format!("{{id: new, tasks: [{{id: a, agentName: echo, input: {{value: '{text}'}}}}]}}")
    };
    let name = "full::a_disk_that_fills_up_under_a_run_refuses_new_ones_and_hears_people";
    on_a_small_disk(name, "48m", |disk| {
        let folder = Folder::new();
        folder.write("workflow.yaml", WORK);
        folder.write("new.yaml", "{id: new, tasks: [{id: a, agentName: echo, input: {value: 1}}]}");
        let on_it = |line: &str| format!("--store {}/store {line}", disk.display());
        let mut first = folder.start(&on_it("run . --json --wait"));
        let run = run_of(&first.wait_for("approval_requested", Some("begin")));
        fill_up(disk, "filler");
        // A log that is copied and emptied has room for a small one.
        folder.write("large.yaml", &large(99));
        for _ in 0..2 {
            let new = folder.run(&on_it("run large.yaml")).expect(6);
            let names = format!("no space left for `{}/store/", disk.display());
            assert!(new.err.contains(&names) && new.err.contains("; free some"), "{}", new.err);
        }
        let listed = folder.run(&on_it("runs list --json")).expect(0);
        assert!(listed.out.contains(&run) && !listed.out.contains("\"new\""), "{}", listed.out);
        folder.run(&on_it(&format!("runs approve {run} begin"))).expect(0);
        first.wait_for("approval_requested", Some("middle"));
        // Each of them is a process that finds the reserve given up and used in part: none takes more.
        for n in 0..30 {
            folder.write("large.yaml", &large(n));
            let new = folder.run(&on_it("run large.yaml")).expect(6);
            assert!(new.err.contains("no space left for `"), "{}", new.err);
        }
        folder.run(&on_it("run new.yaml --detach")).expect(6);
        folder.run(&on_it(&format!("runs approve {run} middle"))).expect(0);
        first.wait_for("approval_requested", Some("end"));
        let listed = folder.run(&on_it("runs list --json")).expect(0).json();
        assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
        let shown = folder.run(&on_it(&format!("runs show {run} --json"))).expect(0).json();
        assert_eq!(shown["status"], "waiting", "{shown}");
        // Not even the reserve is left.
        fill_up(disk, "more");
        folder.run(&on_it(&format!("runs events {run} --json"))).expect(0);
        folder.run(&on_it("doctor --verify")).expect(0);
        std::fs::remove_file(disk.join("more")).unwrap();

        std::fs::remove_file(disk.join("filler")).unwrap();
        folder.run(&on_it("run new.yaml")).expect(0);
        folder.run(&on_it(&format!("runs approve {run} end"))).expect(0);
        assert_eq!(first.finish().expect(0).last()["output"], "done");
        folder.run(&on_it("doctor --verify")).expect(0);
        assert_eq!(std::fs::metadata(disk.join("store/ballast")).unwrap().len(), 16 << 20);
    });
}

#[test]
fn pruning_makes_room_on_a_full_disk() {
    // 24 MiB in the database.
    const MUCH: &str = r#"
id: much
tasks:
  - id: each
    agentName: process
    forEach: "{{ [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28] }}"
    input: { shell: "head -c 660000 /dev/urandom | base64 -w 0" }
"#;
    on_a_small_disk("full::pruning_makes_room_on_a_full_disk", "96m", |disk| {
        let folder = Folder::new();
        folder.write("workflow.yaml", MUCH);
        folder.write("new.yaml", "{id: new, tasks: [{id: a, agentName: echo, input: {value: 1}}]}");
        let on_it = |line: &str| format!("--store {}/store {line}", disk.display());
        let much = run_of(&folder.run(&on_it("run . --json")).expect(0).events()[0]);
        // Empties the log, which has room for a small run otherwise.
        folder.run(&on_it("runs resume --all")).expect(0);
        fill_up(disk, "filler");
        folder.run(&on_it("run new.yaml")).expect(6);
        let pruned = folder.run(&on_it("runs prune --keep 0 --json")).expect(0).json();
        assert_eq!(pruned["runs"], serde_json::json!([much]));
        folder.run(&on_it("run new.yaml")).expect(0);
        assert_eq!(std::fs::metadata(disk.join("store/ballast")).unwrap().len(), 16 << 20);
        folder.run(&on_it("doctor --verify")).expect(0);
    });
}

#[test]
fn without_any_space_the_file_and_the_way_out_are_named() {
    let name = "full::without_any_space_the_file_and_the_way_out_are_named";
    on_a_small_disk(name, "4m", |disk| {
        let folder = Folder::new();
        let one = |value: &str| {
            format!("{{id: x, tasks: [{{id: a, agentName: echo, input: {{value: {value}}}}}]}}")
        };
        folder.write("workflow.yaml", &one("1"));
        folder.write("large.yaml", &one(&"x".repeat(2 << 20)));
        let give = |line: &str| folder.run(&format!("--store {}/{line}", disk.display()));
        give("store run .").expect(0);
        fill_up(disk, "filler");
        for line in ["other run .", "store run large.yaml", "store run large.yaml --detach"] {
            let done = give(line).expect(6);
            let (store, _) = line.split_once(' ').unwrap();
            let names = format!("no space left for `{}/{store}", disk.display());
            assert!(done.err.contains(&names), "{line}: {}", done.err);
            assert!(done.err.contains("; free some, then repeat"), "{line}: {}", done.err);
        }
        std::fs::remove_file(disk.join("filler")).unwrap();
        give("store run .").expect(0);
        give("other run .").expect(0);
    });
}

#[test]
fn a_read_only_disk_is_read() {
    const WORK: &str = r#"
id: kept
tasks: [{ id: a, agentName: process, input: { shell: "echo made > $KAPELLE_OUT/text" } }]
"#;
    on_a_small_disk("full::a_read_only_disk_is_read", "48m", |disk| {
        let folder = Folder::new();
        folder.write("workflow.yaml", WORK);
        let on_it = |line: &str| format!("--store {}/store {line}", disk.display());
        let run = run_of(&folder.run(&on_it("run . --json")).expect(0).last());
        let mount = |how: &str| {
            let mounted = Command::new("mount").args(["-o", how]).arg(disk).status().unwrap();
            assert!(mounted.success(), "{how}");
        };
        mount("remount,ro");
        for line in ["runs list", "doctor --verify"] {
            folder.run(&on_it(line)).expect(0);
        }
        for line in ["runs show", "runs events", "runs watch", "artifacts list"] {
            let done = folder.run(&on_it(&format!("{line} {run}"))).expect(0);
            assert!(!done.out.is_empty(), "{line}");
        }
        let done = folder.run(&on_it("run .")).expect(6);
        assert!(done.err.contains("/store") && done.err.contains("writable"), "{}", done.err);
        mount("remount,rw");
        folder.run(&on_it("run .")).expect(0);
    });
}
