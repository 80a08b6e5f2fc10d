//! Pictures as they are seen, at three widths.

use kapelle_api::Event;
use kapelle_core::Timestamp;
use kapelle_core::workflow::Workflow;
use serde_json::{Value as Json, json};

use super::super::board::Board;
use super::{Look, frame};

const RELEASE: &str = "
id: release
tasks:
  - { id: fetch, agentName: process, description: The sources of this release, estimatedDuration: 2, input: { shell: x } }
  - { id: lint, agentName: process, estimatedDuration: 1, input: { shell: x } }
  - { id: compile, agentName: process, dependencies: [fetch], estimatedDuration: 60, input: { shell: x } }
  - { id: docs, agentName: process, dependencies: [fetch], estimatedDuration: 5, input: { shell: x } }
  - { id: sign-off, approval: {}, dependencies: [lint] }
  - { id: publish, agentName: http, dependencies: [compile, docs, sign-off], estimatedDuration: 1, input: { url: 'http://localhost' } }
";
/// When all runs here were created.
const BEGAN: Timestamp = Timestamp(1_700_000_000_000_000);

fn board(workflow: &str, last_ms: Option<u64>) -> Board {
    let checked = Workflow::read("w.yaml", workflow.as_bytes(), None);
    let plan = checked.workflow.unwrap_or_else(|| panic!("{:?}", checked.problems)).plan;
    let mut board = Board::default();
    board.plan(&plan, last_ms);
    tell(
        &mut board,
        0,
        None,
        json!({"type": "run_created", "workflow": &plan.workflow, "root": "/"}),
    );
    board
}

fn tell(board: &mut Board, ms: i64, step: Option<&str>, mut event: Json) {
    event["run"] = json!("018bcfe5-6800-7000-8000-00000000c0de");
    event["at"] = json!(Timestamp(BEGAN.0 + ms * 1_000).to_string());
    if let Some(step) = step {
        event["step"] = json!(step);
    }
    let event: Event = serde_json::from_value(event).unwrap();
    board.note(&event);
}

fn start(board: &mut Board, ms: i64, step: &str) {
    begin(board, ms, step, "process");
}

fn begin(board: &mut Board, ms: i64, step: &str, agent: &str) {
    let event = json!({"type": "step_started", "attempt": 1, "agent": agent, "deadline": ""});
    tell(board, ms, Some(step), event);
}

fn end(board: &mut Board, ms: i64, step: &str) {
    tell(board, ms, Some(step), json!({"type": "step_completed"}));
}

fn fail(board: &mut Board, ms: i64, step: &str, message: &str) {
    let failure = json!({"kind": "refused", "code": "exit_2", "message": message, "certain": true});
    tell(board, ms, Some(step), json!({"type": "step_failed", "failure": failure}));
}

fn say(board: &mut Board, step: &str, message: &str, fraction: Option<f64>) {
    let event =
        json!({"type": "step_progress", "attempt": 1, "message": message, "fraction": fraction});
    tell(board, 0, Some(step), event);
}

/// A run in which everything happens that can be seen.
fn busy() -> Board {
    let mut board = board(RELEASE, None);
    start(&mut board, 100, "fetch");
    start(&mut board, 100, "lint");
    end(&mut board, 450, "lint");
    tell(&mut board, 500, Some("sign-off"), json!({"type": "approval_requested", "gate": false}));
    end(&mut board, 1_300, "fetch");
    start(&mut board, 1_400, "compile");
    start(&mut board, 1_400, "docs");
    for name in ["serde", "syn", "tokio", "axum"] {
        say(&mut board, "compile", &format!("   Compiling {name} v1.0.219"), None);
    }
    fail(
        &mut board,
        3_000,
        "docs",
        "`mdbook` ended with 2: cannot resolve the link to `Journal::append` in port/journal.rs",
    );
    let skipped =
        json!({"type": "step_skipped", "reason": "needs", "needs": "docs", "blame": "docs"});
    tell(&mut board, 3_000, Some("publish"), skipped);
    board
}

fn seen(board: &Board, columns: usize, rows: usize, ms: i64) -> String {
    let look = Look { columns, rows, colours: false, last: false };
    let lines = frame(board, look, Timestamp(BEGAN.0 + ms * 1_000));
    assert!(lines.iter().all(|line| line.width < columns), "{lines:#?}");
    assert!(lines.len() < rows, "{lines:#?}");
    lines.iter().map(|line| format!("{}\n", line.text)).collect()
}

#[test]
fn a_picture_of_80_columns() {
    insta::assert_snapshot!(seen(&busy(), 80, 24, 65_432), @r"
    release  run 018bcfe5-6800-7000-8000-00000000c0de
    wave 1  ✓ fetch     process    1.2s
            ✓ lint      process   350ms
    wave 2  ▸ compile   process   1m04s
              │ Compiling syn v1.0.219
              │ Compiling tokio v1.0.219
              │ Compiling axum v1.0.219
            ✗ docs      process    1.6s
              │ `mdbook` ended with 2: cannot resolve the link to `Journal::append`
              │ in port/journal.rs
            ? sign-off            1m04s  waits for approval
    wave 3  - publish   http             skipped: it needs `docs`, which failed
    ━━━━━━━━────  4 of 6 steps, 1 failed, 1 skipped  1m05s of about 1m03s (planned)
    ");
}

#[test]
fn a_picture_of_160_columns() {
    insta::assert_snapshot!(seen(&busy(), 160, 24, 65_432), @r"
    release  run 018bcfe5-6800-7000-8000-00000000c0de
    wave 1  ✓ fetch     process    1.2s  The sources of this release
            ✓ lint      process   350ms
    wave 2  ▸ compile   process   1m04s
              │ Compiling syn v1.0.219
              │ Compiling tokio v1.0.219
              │ Compiling axum v1.0.219
            ✗ docs      process    1.6s  `mdbook` ended with 2: cannot resolve the link to `Journal::append` in port/journal.rs
            ? sign-off            1m04s  waits for approval
    wave 3  - publish   http             skipped: it needs `docs`, which failed
    ━━━━━━━━━━━━━━━━────────  4 of 6 steps, 1 failed, 1 skipped  1m05s of about 1m03s (planned)
    ");
}

#[test]
fn a_picture_of_40_columns() {
    insta::assert_snapshot!(seen(&busy(), 40, 24, 65_432), @r"
    release  run …00000000c0de
    1 ✓ fetch       1.2s
      ✓ lint       350ms
    2 ▸ compile    1m04s
        │ Compiling syn v1.0.219
        │ Compiling tokio v1.0.219
        │ Compiling axum v1.0.219
      ✗ docs        1.6s
        │ `mdbook` ended with 2: cannot
        │ resolve the link to
        │ `Journal::append` in port/journa…
      ? sign-off   1m04s  waits for approv…
    3 - publish
        │ skipped: it needs `docs`, which
        │ failed
    4 of 6, 1 failed  1m05s of about 1m03s
    ");
}

#[test]
fn where_rows_are_few_every_step_still_has_its_line() {
    insta::assert_snapshot!(seen(&busy(), 80, 10, 65_432), @r"
    release  run 018bcfe5-6800-7000-8000-00000000c0de
    wave 1  ✓ fetch     process    1.2s
            ✓ lint      process   350ms
    wave 2  ▸ compile   process   1m04s  Compiling axum v1.0.219
            ✗ docs      process    1.6s
              │ `mdbook` ended with 2: cannot resolve the link to `Journal::append…
            ? sign-off            1m04s  waits for approval
    wave 3  - publish   http             skipped: it needs `docs`, which failed
    ━━━━━━━━────  4 of 6 steps, 1 failed, 1 skipped  1m05s of about 1m03s (planned)
    ");
}

#[test]
fn no_size_is_too_small_and_no_message_too_strange() {
    let mut board = busy();
    fail(&mut board, 500, "lint", &"no luck ".repeat(60));
    say(&mut board, "compile", "日本語\u{1b}[2J\r\n\u{202e}👩‍👩‍👧 e\u{301}\u{0}", None);
    say(&mut board, "compile", &"宽".repeat(300), Some(0.5));
    for columns in 1..200 {
        for rows in 1..30 {
            let look = Look { columns, rows, colours: true, last: rows % 2 == 0 };
            let lines = frame(&board, look, BEGAN);
            assert!(lines.iter().all(|line| line.width < columns.max(2)), "{columns}: {lines:#?}");
            assert!(lines.len() < rows.max(5), "{rows}: {lines:#?}");
            assert!(lines.iter().all(|line| !line.text.contains(['\r', '\n'])), "{lines:#?}");
            assert!(lines.iter().all(|line| !line.text.contains("\u{1b}[2J")), "{lines:#?}");
        }
    }
}

/// Ten waves of a hundred steps: three are done, in the fourth one failed and eight go on.
fn thousand() -> Board {
    let mut workflow = String::from("id: wide\ntasks:\n");
    for wave in 0..10 {
        for step in 0..100 {
            let needs = if wave > 0 {
                format!("dependencies: [s{}-{step:02}], ", wave - 1)
            } else {
                String::new()
            };
            workflow += &format!(
                "  - {{ id: s{wave}-{step:02}, agentName: echo, {needs}input: {{ value: 1 }} }}\n"
            );
        }
    }
    let mut board = board(&workflow, Some(90_000));
    for wave in 0..3 {
        for step in 0..100 {
            begin(&mut board, 0, &format!("s{wave}-{step:02}"), "echo");
            end(&mut board, 20_000, &format!("s{wave}-{step:02}"));
        }
    }
    begin(&mut board, 20_000, "s3-00", "echo");
    fail(&mut board, 21_000, "s3-00", "no luck");
    (40..48).for_each(|step| begin(&mut board, 21_000, &format!("s3-{step}"), "echo"));
    board
}

#[test]
fn of_a_thousand_steps_those_are_seen_that_matter() {
    insta::assert_snapshot!(seen(&thousand(), 80, 18, 30_000), @r"
    wide  run 018bcfe5-6800-7000-8000-00000000c0de
    wave 4   ✗ s3-00  echo    1.0s  no luck
             · s3-01  echo
             · s3-02  echo
             · s3-03  echo
             · s3-04  echo
             · s3-05  echo
             ▸ s3-40  echo    9.0s
             ▸ s3-41  echo    9.0s
             ▸ s3-42  echo    9.0s
             ▸ s3-43  echo    9.0s
             ▸ s3-44  echo    9.0s
             ▸ s3-45  echo    9.0s
             ▸ s3-46  echo    9.0s
             ▸ s3-47  echo    9.0s
             … 986 more: 300 done, 686 to come
    ━━━─────────  301 of 1000 steps, 1 failed  30.0s of about 1m30s (last time)
    ");
}

#[test]
fn what_a_list_grows_is_counted_and_seen_where_it_belongs() {
    let workflow = "{id: pages, tasks: [
        {id: list, agentName: echo, input: {value: [1]}},
        {id: read, agentName: web, forEach: steps.list.output, as: page, action: read, input: {urls: ['{{ page }}']}},
        {id: sum, agentName: echo, dependencies: [read], input: {value: 1}}]}";
    let mut board = board(workflow, None);
    begin(&mut board, 0, "list", "echo");
    end(&mut board, 10, "list");
    tell(&mut board, 10, Some("read"), json!({"type": "steps_grown", "count": 12}));
    for part in [0, 1, 10] {
        begin(&mut board, 20, &format!("read.{part}"), "web");
    }
    end(&mut board, 900, "read.1");
    say(&mut board, "read.10", "page 1 of 4", Some(0.25));
    insta::assert_snapshot!(seen(&board, 80, 24, 2_000), @r"
    pages  run 018bcfe5-6800-7000-8000-00000000c0de
    wave 1  ✓ list     echo    10ms
    wave 2  ▸ read     web     1.9s  1 of 12
            ▸ read.0   web     1.9s
            ✓ read.1   web    880ms
            ▸ read.10  web     1.9s  25%  page 1 of 4
    wave 3  · sum      echo
            … 9 more: 9 to come
    ━───────────  2 of 15 steps  2.0s
    ");
    tell(
        &mut board,
        2_000,
        None,
        json!({"type": "steps_dropped", "steps": ["read.10", "read.11"]}),
    );
    assert_eq!(board.total(), 13);
}

#[test]
fn a_long_name_leaves_room_for_the_time_on_a_narrow_terminal() {
    let workflow = "
id: names
tasks:
  - { id: a-step-with-a-very-long-name-that-goes-on-and-on-and-on-and-on, agentName: echo, input: { value: 1 } }
";
    let mut board = board(workflow, None);
    let name = "a-step-with-a-very-long-name-that-goes-on-and-on-and-on-and-on";
    start(&mut board, 0, name);
    end(&mut board, 64_000, name);
    for columns in [40, 59] {
        let picture = seen(&board, columns, 24, 65_432);
        let line = picture.lines().nth(1).unwrap();
        assert!(line.ends_with(" 1m04s"), "{columns}: {picture}");
    }
}
