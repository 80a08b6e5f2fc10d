//! The live view, on a terminal of its own.

use rustix::process::Signal;

use crate::support::{Folder, run_of};
use crate::terminal::{Terminal, in_order};

/// A step that says something twice and waits for the file `go`, one that fails, and what needs them.
const WORK: &str = r#"
id: work
tasks:
  - { id: slow, agentName: process, input: { shell: "echo part 1 >&2; until [ -e more ]; do sleep 0.02; done; echo part 2 >&2; until [ -e go ]; do sleep 0.02; done" } }
  - { id: bad, agentName: process, input: { shell: "echo no luck at all >&2; exit 3" }, retry: { maxAttempts: 1 } }
  - { id: after, agentName: echo, dependencies: [bad], input: { value: 1 } }
  - { id: last, agentName: echo, dependencies: [slow], input: { value: 1 } }
"#;

/// A step, and a person's word before the next one.
const GATE: &str = "
id: gated
tasks:
  - { id: draft, agentName: echo, input: { value: text } }
  - { id: gate, approval: {}, dependencies: [draft] }
  - { id: publish, agentName: echo, dependencies: [gate], input: { value: done } }
";

fn folder(workflow: &str) -> Folder {
    let folder = Folder::new();
    folder.write("workflow.yaml", workflow);
    folder
}

fn terminal(folder: &Folder, line: &str, size: (u16, u16)) -> Terminal {
    let mut command = folder.command(line);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    Terminal::start(command, size)
}

/// What is on the screen has these texts, in this order.
#[track_caller]
fn assert_order(seen: &str, texts: &[&str]) {
    assert!(in_order(seen, texts), "no {texts:?} in this order in:\n{seen}");
}

#[test]
fn a_live_run_shows_waves_tails_and_what_became_of_it() {
    let folder = folder(WORK);
    let mut live = terminal(&folder, "run .", (80, 24));
    live.wait_for("part 1");
    folder.write("more", "");
    live.wait_for("│ part 2");
    live.wait_for("1 failed, 1 skipped");
    let order =
        ["wave 1  ▸ slow", "│ part 1", "│ part 2", "✗ bad", "no luck", "wave 2  - after", "· last"];
    live.wait_for_order(&order);
    live.wait_for("2 of 4 steps, 1 failed, 1 skipped");
    folder.write("go", "");
    let (code, all) = live.finish();
    assert_eq!(code, 1, "{all}");
    let order = [
        "✓ slow",
        "✓ last",
        "4 of 4 steps",
        " failed in ",
        "steps:   2 done, 1 failed, 1 skipped",
        "bad: failed (exit_3)",
        "kapelle why",
        "kapelle runs fork",
    ];
    assert_order(&all, &order);
    assert_eq!(all.matches("work  run ").count(), 1, "a picture was left behind:\n{all}");
}

#[test]
fn the_time_of_a_run_is_estimated_by_the_last_one_and_sizes_may_change() {
    let folder = folder(&WORK.replace("exit 3", "exit 0"));
    for name in ["more", "go"] {
        folder.write(name, "");
    }
    folder.run("run .").expect(0);
    std::fs::remove_file(folder.path().join("go")).unwrap();
    let mut live = terminal(&folder, "run .", (40, 24));
    live.wait_for("2 of 4  ");
    live.wait_for("part 2");
    assert_order(
        &live.seen(),
        &["work  run …", "1 ▸ slow", "✓ bad", "2 ✓ after", "2 of 4  ", " of about "],
    );
    live.resize((100, 30));
    live.wait_for("wave 1  ▸ slow");
    live.wait_for("(last time)");
    folder.write("go", "");
    assert_eq!(live.finish().0, 0);
}

#[test]
fn colours_are_where_they_are_wanted_and_a_dumb_terminal_gets_lines() {
    let folder = folder(WORK);
    for name in ["more", "go"] {
        folder.write(name, "");
    }
    let raw = |line: &str, name: &str, value: &str| {
        let mut command = folder.command(line);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR").env(name, value);
        Terminal::start(command, (80, 24)).finish_raw()
    };
    let is_coloured = |raw: &str| {
        let digits = |c: char| c.is_ascii_digit();
        raw.split("\x1b[").skip(1).any(|rest| rest.trim_start_matches(digits).starts_with('m'))
    };
    assert!(is_coloured(&raw("run .", "NO_COLOR", "")));
    for pale in [raw("run .", "NO_COLOR", "1"), raw("run . --no-color", "NO_COLOR", "")] {
        assert!(pale.contains("✓ slow") && !is_coloured(&pale), "{pale:?}");
    }
    let dumb = raw("run .", "TERM", "dumb");
    assert!(dumb.contains("slow: completed") && !dumb.contains('\x1b'), "{dumb:?}");
}

#[test]
fn a_thousand_steps_are_one_picture_that_never_leaves_its_place() {
    let steps: String = (0..1_000)
        .map(|n| format!("  - {{ id: s{n:03}, agentName: echo, input: {{ value: 1 }} }}\n"))
        .collect();
    let folder = folder(&format!("id: wide\ntasks:\n{steps}output: all\n"));
    let (code, all) = terminal(&folder, "run .", (80, 24)).finish();
    assert_eq!(code, 0, "{all}");
    assert_order(
        &all,
        &["wide  run ", "✓ s999", "… 980 more: 980 done", "1000 of 1000 steps", " completed in "],
    );
    assert_eq!(all.matches("wide  run ").count(), 1, "a picture was left behind:\n{all}");
    assert!(all.lines().count() < 32, "{all}");
}

#[test]
fn a_run_of_another_process_is_watched_and_left_as_it_is() {
    let folder = folder(WORK);
    let run = folder.run("run . --detach").expect(0).out.trim().to_owned();
    let mut watching = terminal(&folder, &format!("runs watch {run}"), (80, 24));
    watching.wait_for("part 1");
    folder.write("more", "");
    watching.wait_for("│ part 2");
    watching.signal(Signal::INT);
    let (code, all) = watching.finish();
    assert_eq!(code, 5, "{all}");
    assert!(all.contains("the run is left as it is"), "{all}");
    assert_eq!(folder.run(&format!("runs show {run} --json")).json()["status"], "running");
    let mut again = terminal(&folder, &format!("runs watch {run}"), (80, 24));
    again.wait_for("wave 1  ▸ slow");
    folder.write("go", "");
    let (code, all) = again.finish();
    assert_eq!(code, 1, "{all}");
    assert_order(&all, &["✓ slow", "4 of 4 steps", " failed in ", "bad: failed (exit_3)"]);
    let (code, all) = terminal(&folder, &format!("runs watch {run}"), (80, 24)).finish();
    assert_eq!(code, 1, "{all}");
    assert_order(&all, &["✓ slow", "4 of 4 steps", " failed in ", "bad: failed (exit_3)"]);
}

#[test]
fn who_watches_a_run_that_nobody_works_on_is_told_how_it_goes_on() {
    let folder = folder(GATE);
    let run = run_of(&folder.run("run . --json").expect(5).last());
    let last = folder.run(&format!("runs watch {run} --json")).expect(5).last();
    assert_eq!(
        (&last["type"], &last["resume"]),
        (&"run_paused".into(), &format!("kapelle runs resume {run}").into())
    );
    let mut watching = terminal(&folder, &format!("runs watch {run}"), (120, 24));
    watching.wait_for("nobody works on it now");
    let seen = watching.seen();
    assert!(seen.contains(&format!("kapelle runs approve {run} gate")), "{seen}");
    assert_order(&seen, &["wave 1  ✓ draft", "wave 2  ? gate", "wave 3  · publish"]);
    folder.run(&format!("runs approve {run}")).expect(0);
    folder.run(&format!("runs resume {run}")).expect(0);
    let (code, all) = watching.finish();
    assert_eq!(code, 0, "{all}");
    assert_order(&all, &["3 of 3 steps", " completed in "]);
}
