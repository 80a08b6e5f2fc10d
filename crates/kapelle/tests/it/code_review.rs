//! The example `code-review`, against the fake provider. [`crate::review_kills`] kills it.

use std::path::{Path, PathBuf};
use std::process::Command;

use kapelle_fake::{Fake, Script};

use crate::support::{Folder, Running, run_of};

/// How many calls of a model it makes.
const CALLS: usize = 11;

pub(crate) fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/code-review")
}

/// A repository with a change.
pub(crate) fn repository() -> Folder {
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

pub(crate) fn start(folder: &Folder, fake: &Fake, words: &[&str]) -> Running {
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

/// Pipes hide that git fails: five reviewers would be paid to look at nothing.
#[test]
fn what_git_cannot_tell_is_said_before_anybody_is_paid() {
    let (outside, one, fake) = (Folder::new(), repository(), fake());
    let example = example();
    let run = |folder: &Folder, range: &str| {
        let input = format!("range={range}");
        let words = ["run", example.to_str().unwrap(), "--input", &input];
        let done = start(folder, &fake, &words).finish().expect(1);
        serde_json::to_string(&done.events()).unwrap()
    };
    let told = run(&outside, "HEAD~1..HEAD");
    assert!(told.contains("not a git repository"), "{told}");
    // As in a repository of one commit.
    let told = run(&one, "HEAD~2..HEAD");
    assert!(told.contains("git knows no HEAD~2..HEAD"), "{told}");
    let told = run(&one, "HEAD..HEAD");
    assert!(told.contains("there is no change in HEAD..HEAD"), "{told}");
    assert_eq!(fake.journal().len(), 0, "{:?}", fake.counts());
}
