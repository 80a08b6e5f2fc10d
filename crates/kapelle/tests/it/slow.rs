//! A disk that is slow, and a clock that jumps: work goes on, and says what it waits for.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Folder, Running, count};

/// A chain: each step is at least one commit.
const CHAIN: &str = r#"
id: chain
tasks:
  - { id: a, agentName: echo, timeout: 2s, input: { value: 1 } }
  - { id: b, agentName: echo, timeout: 2s, input: { value: "{{ steps.a.output }}" } }
  - { id: c, agentName: echo, timeout: 2s, input: { value: "{{ steps.b.output }}" } }
  - { id: d, agentName: echo, timeout: 2s, input: { value: "{{ steps.c.output }}" } }
  - { id: e, agentName: echo, timeout: 2s, input: { value: "{{ steps.d.output }}" } }
  - { id: f, agentName: echo, timeout: 2s, input: { value: "{{ steps.e.output }}" } }
  - { id: g, agentName: echo, timeout: 2s, input: { value: "{{ steps.f.output }}" } }
  - { id: h, agentName: echo, timeout: 2s, input: { value: "{{ steps.g.output }}" } }
  - { id: last, agentName: echo, dependencies: [h], input: { value: done } }
output: "{{ steps.last.output }}"
"#;

/// Twenty syncs a second.
#[test]
fn on_a_slow_disk_nothing_is_lost_and_it_is_said() {
    let folder = Folder::new();
    folder.write("workflow.yaml", CHAIN);
    folder.run("run .").expect(0);
    let plain = folder.command("run . --json");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"]);
    command.args(["-e", "inject=fdatasync,fsync:delay_enter=50000"]);
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(folder.path());
    let begin = Instant::now();
    let output = command.output().unwrap();
    let took = begin.elapsed();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{err}");
    let events: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.last().unwrap()["output"], "done");
    for step in ["a", "b", "c", "d", "e", "f", "g", "h", "last"] {
        assert_eq!(count(&events, "step_started", step), 1, "our own slowness is no failure");
    }
    assert!(took > Duration::from_millis(9 * 50), "the disk was not slow: {took:?}");
    let said = err.matches("the disk is slow: a commit to").count();
    assert_eq!(said, 1, "it is said once: {err}");
    assert!(err.contains("kapelle.db"), "{err}");
}

/// Where Debian keeps the library that `faketime` preloads.
fn faketime() -> String {
    let found = std::fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok).find_map(|folder| {
        let path = folder.path().join("faketime/libfaketimeMT.so.1");
        path.is_file().then_some(path)
    });
    found.expect("`cargo xtask setup` installs `faketime`").display().to_string()
}

/// Writes by how much the clock is wrong, all at once.
fn set_clock(folder: &Path, offset: &str) {
    std::fs::write(folder.join("offset.new"), offset).unwrap();
    std::fs::rename(folder.join("offset.new"), folder.join("offset")).unwrap();
}

#[test]
fn a_clock_that_jumps_by_hours_neither_fires_timers_nor_turns_time_back() {
    const HANG: &str = "
id: clocks
tasks:
  - id: hang
    agentName: process
    timeout: 2s
    input: { shell: 'if [ $KAPELLE_ATTEMPT = 3 ]; then echo again; else sleep 1000; fi' }
  - { id: last, agentName: echo, dependencies: [hang], input: { value: done } }
output: '{{ steps.last.output }}'
";
    let folder = Folder::new();
    folder.write("workflow.yaml", HANG);
    set_clock(folder.path(), "+0");
    let start = |line: &str| {
        let mut command = folder.command(line);
        command
            .env("LD_PRELOAD", faketime())
            .env("FAKETIME_TIMESTAMP_FILE", folder.path().join("offset"));
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Running::of(command)
    };
    let mut run = start("run . --json --task-id T");
    for (attempt, jump) in [(1, "+5h"), (2, "-7h")] {
        run.wait_for("step_started", Some("hang"));
        let begin = Instant::now();
        set_clock(folder.path(), jump);
        let retrying = run.wait_for("step_retrying", Some("hang"));
        assert_eq!(retrying["failure"]["kind"], "timeout", "{retrying}");
        let took = begin.elapsed();
        let fair = Duration::from_millis(1_500)..Duration::from_secs(20);
        assert!(fair.contains(&took), "attempt {attempt} ended after {took:?}, its limit is 2 s");
    }
    run.wait_for("step_started", Some("hang"));
    let done = run.finish().expect(0);
    assert_eq!(done.last()["output"], "done");
    // Another process, whose clock says it is long before all that.
    set_clock(folder.path(), "-9h");
    let again = start("run . --json --task-id T").finish().expect(0);
    for events in [done.events(), again.events()] {
        let at = |event: &serde_json::Value| event["at"].as_str().map(str::to_owned);
        let times: Vec<_> = events.iter().filter_map(at).collect();
        assert!(times.len() > 8 && times.is_sorted(), "time went back: {times:?}");
    }
}
