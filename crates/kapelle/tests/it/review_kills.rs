//! The example `code-review` killed again and again, its journal compared with what the provider and a
//! counting tool have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use kapelle_fake::{Entry, Fake, Script};
use serde_json::Value as Json;

use crate::code_review::{example, repository, start};
use crate::support::{Folder, Running, run_of};

/// So often it is killed, unless `KAPELLE_REVIEW_KILLS` says another number.
const KILLS: usize = 4;
/// So often one review is killed at the most, that it may come to its end.
const KILLS_EACH: usize = 10;
/// How many calls of a model a review makes: five look, count and judge, one sums up.
const CALLS: usize = 16;
/// So far the clock of the journal, which never goes back, may be from that of another program. To begin
/// anew takes a process longer.
const CLOCKS_MS: i64 = 10;
/// What each reviewer does with its second turn: it leaves the number of its call, and when that was.
const COUNT: &str = "rules:
  - when: {offers_tool: run_command, turn: 1}
    answer:
      - tool: {name: run_command, input: {command: [sh, -c, 'echo {{n}} $(date +%s%3N) >> ran/calls']}}
";

/// From the last moment before something to the first one after it, in milliseconds since 1970.
type Span = (i64, i64);

#[test]
fn a_review_that_is_killed_asks_again_only_what_was_under_way() {
    let kills = std::env::var("KAPELLE_REVIEW_KILLS").ok().and_then(|n| n.parse().ok());
    let (kills, mut done, mut calls) = (kills.unwrap_or(KILLS), 0, 0);
    while done < kills {
        let review = Review::killed((kills - done).min(KILLS_EACH));
        review.check();
        done += review.kills.len();
        calls += review.fake.journal().len();
    }
    println!("{done} kills, {calls} calls");
}

/// A review at its end.
struct Review {
    folder: Folder,
    fake: Fake,
    run: String,
    kills: Vec<Span>,
}

impl Review {
    fn killed(kills: usize) -> Self {
        let (folder, fake) = counted();
        let mut running = start(&folder, &fake, &["run", "review"]);
        let run = run_of(&running.wait_for("run_created", None));
        // Calls of unknown end count as used: so many kills are more than its budget.
        folder.run(&format!("runs budget {run} --tokens 100000000 --usd 10000")).expect(0);
        let mut review = Self { folder, fake, run, kills: Vec::new() };
        for kill in 0..kills {
            // Another moment each time: so many calls after its start.
            review.wait_for_calls(1 + 3 * (kill % 4), &mut running);
            let before = now();
            if running.kill() {
                review.kills.push((before, now()));
            }
            running = review.resume();
        }
        // Each of five tools is in doubt once at the most now; whoever needs more words goes in circles.
        let mut words = 0..=5;
        while running.finish().code == 5 {
            assert!(words.next().is_some(), "a person is asked again and again");
            running = review.resume();
        }
        review
    }

    /// Until so many more calls were made, or none will be.
    fn wait_for_calls(&self, more: usize, running: &mut Running) {
        let wanted = self.fake.journal().len() + more;
        while self.fake.journal().len() < wanted && !running.is_over() {
            std::thread::yield_now();
        }
    }

    /// Goes on, tools of unknown end by a person's word.
    fn resume(&self) -> Running {
        let Self { folder, run, .. } = self;
        let steps = folder.run(&format!("runs show {run} --json")).expect(0).json();
        for step in steps["steps"].as_array().unwrap() {
            if step["status"] == "blocked" {
                let step = step["id"].as_str().unwrap();
                folder.run(&format!("runs resolve {run} {step} --action retry")).expect(0);
            }
        }
        start(folder, &self.fake, &["runs", "resume", run])
    }

    fn check(&self) {
        let events = self.folder.run(&format!("runs events {} --json", self.run)).expect(0);
        let events = events.events();
        assert_eq!(events.last().unwrap()["verdict"], "completed");
        let effects = effects(&events);
        for (at, effect) in &effects {
            assert_eq!(effect.recorded.len(), 1, "{at:?} is recorded once");
        }
        let asked: BTreeSet<String> =
            effects.keys().filter(|(step, ..)| step != "change").map(|at| at.0.clone()).collect();
        let mut made = BTreeMap::new();
        for step in &asked {
            made.extend(self.check_calls(step, &effects));
        }
        assert_eq!(made.len(), CALLS, "{made:#?}");
        self.check_counted(&made, &effects);
        self.check_bill(&effects);
    }

    /// No call of a model is made again that is on record, none but those under way at a kill is repeated.
    fn check_calls(&self, step: &str, effects: &Effects) -> BTreeMap<u64, (String, u64)> {
        let why = self.folder.run(&format!("why {} {step} --json", self.run)).expect(0).json();
        let models = effects.iter().filter(|((of, _), effect)| of == step && effect.is_model);
        let calls = why["calls"].as_array().unwrap();
        assert_eq!(calls.len(), models.clone().count());
        let journal = self.fake.journal();
        let mut made = BTreeMap::new();
        for (call, (at, effect)) in calls.iter().zip(models) {
            let is_it = |entry: &&Entry| call["request"] == *entry.request;
            let recorded = journal.iter().find(is_it).expect("the provider has seen it");
            let key = recorded.idempotency_key.as_ref().unwrap();
            let same: Vec<&Entry> =
                journal.iter().filter(|e| e.idempotency_key.as_ref() == Some(key)).collect();
            assert!(same.iter().all(|entry| entry.body == recorded.body), "one key, one question");
            let times: Vec<i64> = same.iter().map(|e| e.time_ms.cast_signed()).collect();
            self.check_times(&times, effect, at);
            made.insert(recorded.n, at.clone());
        }
        made
    }

    /// It was done at one of these times for each announcement at the most, never once it was on record;
    /// and it was announced again only after a kill.
    fn check_times(&self, done: &[i64], effect: &Effect, at: &(String, u64)) {
        let Effect { started, recorded, .. } = effect;
        assert!(done.len() <= started.len(), "{at:?}: {done:?} announced at {started:?}");
        assert!(
            done.iter().all(|time| *time <= recorded[0] + CLOCKS_MS),
            "{at:?}: {done:?} after {recorded:?}"
        );
        for pair in started.windows(2) {
            let between = |kill: &Span| pair[0] <= kill.1 && kill.0 <= pair[1];
            let kills = &self.kills;
            assert!(kills.iter().any(between), "{at:?}: {started:?} without a kill of {kills:?}");
        }
    }

    /// The tool ran once for each call that wanted it, unless a kill left its end unknown.
    fn check_counted(&self, made: &BTreeMap<u64, (String, u64)>, effects: &Effects) {
        let ran = std::fs::read_to_string(self.folder.path().join("ran/calls")).unwrap();
        let mut times: BTreeMap<(String, u64), Vec<i64>> = BTreeMap::new();
        for line in ran.lines() {
            let (n, time) = line.split_once(' ').unwrap();
            let (step, ordinal) = &made[&n.parse().unwrap()];
            let tool = (step.clone(), ordinal + 1);
            times.entry(tool).or_default().push(time.parse().unwrap());
        }
        assert_eq!(times.len(), 5, "{ran}");
        for (at, times) in times {
            self.check_times(&times, &effects[&at], &at);
        }
    }

    /// What was announced and not recorded is of unknown outcome, and nothing else is.
    fn check_bill(&self, effects: &Effects) {
        let bill = self.folder.run(&format!("runs bill {} --json", self.run)).expect(0).json();
        let mut open: BTreeMap<&str, usize> = BTreeMap::new();
        for ((step, _), effect) in effects.iter().filter(|(_, effect)| effect.is_model) {
            *open.entry(step).or_default() += effect.started.len() - 1;
        }
        for step in bill["steps"].as_array().unwrap() {
            let (open, name) = (open[step["step"].as_str().unwrap()], &step["step"]);
            let unknown = step["unknown_outcome"]["tokens"].as_u64().unwrap();
            // Each reserves what it may write, and that is thousands.
            assert_eq!(open > 0, unknown >= 1_000 * open.max(1) as u64, "{name}: {open}, {bill:#}");
            assert_eq!(open == 0, unknown == 0, "{name}: {open}, {bill:#}");
            assert_eq!(step["reserved"]["tokens"], 0, "{bill:#}");
        }
    }
}

/// What the events tell of an outside call.
#[derive(Default)]
struct Effect {
    is_model: bool,
    /// When, in milliseconds since 1970.
    started: Vec<i64>,
    recorded: Vec<i64>,
}

/// By step and ordinal.
type Effects = BTreeMap<(String, u64), Effect>;

fn effects(events: &[Json]) -> Effects {
    let mut effects = Effects::new();
    for event in events {
        let Some(ordinal) = event["ordinal"].as_u64() else { continue };
        let step = event["step"].as_str().unwrap().to_owned();
        let effect = effects.entry((step, ordinal)).or_default();
        effect.is_model = event["name"] == "model";
        let at: Timestamp = event["at"].as_str().unwrap().parse().unwrap();
        match event["type"].as_str().unwrap() {
            "effect_started" => effect.started.push(at.as_millisecond()),
            "effect_recorded" => effect.recorded.push(at.as_millisecond()),
            _ => {}
        }
    }
    effects
}

/// The example with a tool that counts, in a repository of its own.
fn counted() -> (Folder, Fake) {
    let (folder, example) = (repository(), example());
    for name in ["ran", "review", "review/agents"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    // Root gives up its rights for commands: whoever runs them has to see the folder.
    for (name, mode) in [("", 0o755), ("ran", 0o777)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(folder.path().join(name), mode).unwrap();
    }
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    folder.write("review/workflow.yaml", &text(&example.join("workflow.yaml")));
    for file in std::fs::read_dir(example.join("agents")).unwrap() {
        let path = file.unwrap().path();
        let with_tool = text(&path).replace("\ntools: ", "\ntools: run_command(sh:*), ");
        folder.write(
            &format!("review/agents/{}", path.file_name().unwrap().to_str().unwrap()),
            &with_tool,
        );
    }
    folder.write("kapelle.toml", "[models]\ngrants = [\"run_command(sh:*)\"]\n");
    let script = text(&example.join("fake.yaml")).replacen("rules:\n", COUNT, 1);
    (folder, Fake::start(Script::parse(&script).unwrap()).unwrap())
}

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}
