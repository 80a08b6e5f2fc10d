//! The example `code-review`, against the fake provider: whole, and killed again and again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kapelle_fake::{Fake, Script};

use crate::support::{Folder, Running, run_of};

/// So often it is killed, unless `KAPELLE_REVIEW_KILLS` says another number.
const KILLS: u64 = 4;
/// How many calls of a model it makes.
const CALLS: usize = 11;
/// How many steps ask a model at once.
const AT_ONCE: usize = 5;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/code-review")
}

/// A repository with a change.
fn repository() -> Folder {
    let folder = Folder::new();
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.email=a@b", "-c", "user.name=Ada"]).args(words);
        let done = command.current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    git(&["init", "--quiet"]);
    for (file, text) in [("a.sh", "echo one\n"), ("b.sh", "for x in y; do echo $x; done\n")] {
        folder.write(file, text);
        git(&["add", file]);
        git(&["commit", "--quiet", "-m", file]);
    }
    folder
}

fn fake() -> Fake {
    let script = std::fs::read_to_string(example().join("fake.yaml")).unwrap();
    Fake::start(Script::parse(&script).unwrap()).unwrap()
}

fn start(folder: &Folder, fake: &Fake, words: &[&str]) -> Running {
    let mut command = folder.command("");
    command.args(words).arg("--json");
    command.env("ANTHROPIC_API_KEY", "k").env("ANTHROPIC_BASE_URL", fake.url());
    command.env_remove("OPENAI_API_KEY");
    Running::of(command)
}

#[test]
fn five_reviewers_look_at_a_change_and_one_sums_up() {
    let (folder, fake) = (repository(), fake());
    let example = example();
    let done = start(&folder, &fake, &["run", example.to_str().unwrap()]).finish().expect(0);
    let review = done.last()["output"].as_str().unwrap().to_owned();
    assert!(
        review.starts_with("**Can be merged") && review.contains("security-auditor"),
        "{review}"
    );
    assert_eq!(fake.journal().len(), CALLS, "{:?}", fake.counts());
    assert!(fake.journal().iter().all(|entry| entry.status == 200), "{:?}", fake.counts());
    let id = run_of(&done.events()[0]);
    let bill = folder.run(&format!("runs bill {id} --json")).expect(0).json();
    assert_eq!(bill["models"].as_array().unwrap().len(), 3, "one for each tier: {bill:#}");
}

#[test]
fn a_review_that_is_killed_asks_again_only_what_was_under_way() {
    let kills = std::env::var("KAPELLE_REVIEW_KILLS").ok().and_then(|n| n.parse().ok());
    let kills: u64 = kills.unwrap_or(KILLS);
    let (folder, fake) = (repository(), fake());
    let example = example();
    let mut first = start(&folder, &fake, &["run", example.to_str().unwrap()]);
    let id = run_of(&first.wait_for("run_created", None));
    // Calls of unknown end count as used: so many kills are more than its budget.
    folder.run(&format!("runs budget {id} --tokens 100000000 --usd 10000")).expect(0);
    let mut running = first;
    for kill in 0..kills {
        // Another moment each time: when so many calls were made, or it is over.
        let wanted = fake.journal().len() + 1 + usize::try_from(kill % 3).unwrap();
        let until = Instant::now() + Duration::from_millis(700);
        while fake.journal().len() < wanted && Instant::now() < until {
            std::thread::yield_now();
        }
        running.crash();
        running = start(&folder, &fake, &["runs", "resume", &id]);
    }
    running.finish().expect(0);
    let events = folder.run(&format!("runs events {id} --json")).expect(0).events();
    let mut recorded: BTreeMap<String, u32> = BTreeMap::new();
    for event in events.iter().filter(|event| event["type"] == "effect_recorded") {
        *recorded.entry(format!("{}/{}", event["step"], event["ordinal"])).or_default() += 1;
    }
    assert!(recorded.values().all(|times| *times == 1), "{recorded:?}");
    // Each kill costs at most the calls that were under way.
    let most = CALLS + AT_ONCE * usize::try_from(kills).unwrap();
    assert!((CALLS..=most).contains(&fake.journal().len()), "{:?}", fake.counts());
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for entry in fake.journal() {
        *asked.entry(entry.body.to_string()).or_default() += 1;
    }
    let most = 1 + usize::try_from(kills).unwrap();
    assert!(asked.values().all(|times| *times <= most), "a call was made more often than killed");
}
