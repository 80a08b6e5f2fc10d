//! The second example that ships: twelve long pages, what they answer and where they contradict
//! each other, the same after `kill -9`.

use std::path::{Path, PathBuf};

use kapelle_fake::{Fake, Script};
use serde_json::{Value as Json, json};

use crate::pages::Server;
use crate::support::{Folder, Running, run_of};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/research");
/// How many pages are read before the process is killed.
const BEFORE: usize = 5;

fn expected() -> Json {
    let text = std::fs::read_to_string(Path::new(EXAMPLE).join("expected.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// The pages in the order in which the workflow names them.
fn shipped() -> Vec<PathBuf> {
    let text = std::fs::read_to_string(Path::new(EXAMPLE).join("workflow.yaml")).unwrap();
    let workflow: Json = serde_saphyr::from_str(&text).unwrap();
    let pages = workflow["inputs"]["pages"]["default"].as_array().unwrap();
    let name = |page: &Json| page.as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    pages.iter().map(|page| Path::new(EXAMPLE).join("pages").join(name(page))).collect()
}

/// A folder that the example stands in as it does in a fresh clone.
fn clone() -> Folder {
    let folder = Folder::new();
    let to = folder.path().join("examples/research/pages");
    std::fs::create_dir_all(&to).unwrap();
    std::fs::copy(format!("{EXAMPLE}/workflow.yaml"), to.join("../workflow.yaml")).unwrap();
    for page in shipped() {
        std::fs::copy(&page, to.join(page.file_name().unwrap())).unwrap();
    }
    folder
}

fn artifact(folder: &Folder, last: &Json, name: &str) -> String {
    let artifacts = last["artifacts"].as_array().unwrap();
    let path = artifacts.iter().find(|a| a["name"] == name).and_then(|a| a["path"].as_str());
    std::fs::read_to_string(folder.path().join(path.unwrap())).unwrap()
}

/// The contradictions of a report: what it is about with its values in a line, the quotes below it.
fn contradictions(report: &str) -> Vec<&str> {
    let sections = report.split("\n## ").filter(|section| {
        section.starts_with("What the sources do not") || section.starts_with("What else the")
    });
    sections.flat_map(|section| section.split("\n- **").skip(1)).collect()
}

/// Whether `told` gives each value of `wanted` with the number of the page that says so.
fn names(report: &str, told: &str, wanted: &Json) -> bool {
    let first = told.lines().next().unwrap();
    wanted["values"].as_array().unwrap().iter().all(|wanted| {
        let (value, page) = (wanted["value"].as_str().unwrap(), wanted["page"].as_str().unwrap());
        let number = first.split_once(&format!(" {value} [[")).map(|rest| rest.1);
        let link = number.and_then(|rest| rest.split_once("]]")).and_then(|(number, _)| {
            report.lines().find_map(|line| line.strip_prefix(&format!("[{number}]: ")))
        });
        link.is_some_and(|link| link.ends_with(&format!("/{page}>")))
    })
}

#[test]
fn twelve_messy_pages_are_answered_from_with_their_contradictions() {
    let (folder, expected) = (clone(), expected());
    let last = folder.run("run examples/research/workflow.yaml --json").expect(0).last();
    assert_eq!(last["verdict"], "completed", "{last}");
    let report = artifact(&folder, &last, "report.md");

    let first: String = report.lines().take(3).collect();
    assert!(first.contains(expected["answer"].as_str().unwrap()), "{first}");
    assert!(last["output"].as_str().unwrap().contains(expected["answer"].as_str().unwrap()));

    let told = contradictions(&report);
    let wanted = expected["contradictions"].as_array().unwrap();
    let missed: Vec<_> = wanted
        .iter()
        .filter(|wanted| !told.iter().any(|told| names(&report, told, wanted)))
        .collect();
    assert!(wanted.len() >= 6 && missed.is_empty(), "{missed:?}\n{report}");
    let invented: Vec<_> = told
        .iter()
        .filter(|told| !wanted.iter().any(|wanted| names(&report, told, wanted)))
        .collect();
    assert!(invented.is_empty(), "{invented:?}");

    let html = artifact(&folder, &last, "report.html");
    assert!(html.contains("<figure class=\"run\">") && html.contains("upgrade-story.html"));
    assert!(!html.contains("<script") && !html.contains("src="), "it loads nothing");
    for clutter in ["cookie", "Newsletter", "Accept all", "Logged in", "Advertisement"] {
        assert!(!report.contains(clutter) && !html.contains(clutter), "{clutter}");
    }
    let (passages, best) = remembered(&folder);
    assert!(passages == 12 && best.ends_with("/upgrade.html"), "{passages} {best}");
    let walkthrough: Json =
        serde_json::from_str(&artifact(&folder, &last, "walkthrough.json")).unwrap();
    let mut steps = walkthrough["steps"].as_array().unwrap().iter();
    for wanted in expected["steps"].as_array().unwrap() {
        let does = |step: &Json| step["do"].as_str().unwrap().contains(wanted.as_str().unwrap());
        assert!(steps.any(does), "{wanted} in this order: {walkthrough}");
    }
}

#[test]
fn the_pages_that_ship_are_long_and_one_of_them_is_no_utf_8() {
    let folder = clone();
    let pages = shipped();
    assert_eq!(pages.len(), 12);
    let is_odd = |page: &PathBuf| std::str::from_utf8(&std::fs::read(page).unwrap()).is_err();
    assert!(pages.iter().any(is_odd), "one is ISO-8859-1");
    let named = |page: &PathBuf| format!("pages/{}", page.file_name().unwrap().to_str().unwrap());
    let urls: Vec<_> = pages.iter().map(named).collect();
    let read = json!({"id": "read", "agentName": "web", "action": "read", "input": {"urls": urls}});
    let to = "examples/research";
    folder.write(&format!("{to}/words.json"), &json!({"id": "words", "tasks": [read]}).to_string());
    let mut command = folder.command("run words.json --json");
    let output = command.current_dir(folder.path().join(to)).output().unwrap();
    let last = String::from_utf8(output.stdout).unwrap().lines().next_back().unwrap().to_owned();
    let last: Json = serde_json::from_str(&last).unwrap();
    for page in last["output"]["pages"].as_array().unwrap() {
        let text = page["text"].as_str().unwrap();
        let words = text.split_whitespace().count();
        assert!(words >= 1_500, "{}: {words} words", page["url"]);
        assert!(!text.contains('\u{fffd}'), "{}", page["url"]);
    }
}

/// How many passages the folder's memory has, and where the one is from that answers best.
fn remembered(folder: &Folder) -> (u64, String) {
    let input = json!({"namespace": "research", "query": "upgrade one broker at a time"});
    let step = json!({"id": "r", "agentName": "memory", "action": "retrieve", "input": input});
    folder.write("recall.json", &json!({"id": "recall", "tasks": [step]}).to_string());
    let last = folder.run("run recall.json --json").expect(0).last();
    let best = last["output"]["entries"][0]["source"].as_str().unwrap().to_owned();
    (last["output"]["of"].as_u64().unwrap(), best)
}

/// A report without what tells of the one run that made it.
fn timeless(html: &str) -> String {
    let (before, rest) = html.split_once("<figure class=\"run\">").unwrap();
    format!("{before}{}", rest.split_once("</figure>").unwrap().1)
}

#[test]
fn a_research_that_was_killed_ends_in_the_same_report() {
    let pages = shipped().iter().map(|page| std::fs::read(page).unwrap()).collect();
    let (server, folder) = (Server::start(pages), clone());
    folder.write("kapelle.toml", "[web]\ngap = \"0ms\"\n");
    let inputs = json!({ "pages": server.urls() });
    folder.write("inputs.json", &inputs.to_string());
    let run = "run examples/research/workflow.yaml --inputs inputs.json --json --task-id";
    let whole = folder.run(&format!("{run} whole")).expect(0).last();

    server.hold_after(Some(BEFORE));
    let mut running = folder.start(&format!("{run} killed"));
    for _ in 0..BEFORE {
        running.wait_for("effect_recorded", Some("read"));
    }
    running.crash();
    server.hold_after(None);
    let before = server.asked();
    let resumed = folder.run("runs resume killed --json --wait").expect(0);
    let again: Vec<_> = server.asked().iter().zip(&before).map(|(now, then)| now - then).collect();
    assert!(again[..BEFORE].iter().all(|times| *times == 0), "{again:?}");

    let killed = resumed.last();
    assert_eq!(killed["verdict"], "completed", "{killed}");
    for name in ["report.md", "walkthrough.json"] {
        assert_eq!(artifact(&folder, &killed, name), artifact(&folder, &whole, name), "{name}");
    }
    let html = |last: &Json| timeless(&artifact(&folder, last, "report.html"));
    assert_eq!(html(&killed), html(&whole));
}

#[test]
fn pages_that_cannot_be_read_are_named_and_without_any_the_run_fails() {
    let folder = clone();
    let run = "run examples/research/workflow.yaml --json --input question=port --input";
    let some = r#"pages=["examples/research/pages/install.html","gone.html"]"#;
    let last = folder.run(&format!("{run} {some}")).expect(0).last();
    let report = artifact(&folder, &last, "report.md");
    assert!(report.contains("## What could not be read\n\n- gone.html"), "{report}");
    let said = last["output"].as_str().unwrap();
    assert!(
        said.contains(" in 1 page.\n1 page could not be read: ") && said.contains("gone.html"),
        "{said}"
    );
    let none = folder.run(&format!(r#"{run} pages=["gone.html"]"#)).expect(1).last();
    assert!(none["detail"].as_str().unwrap().contains("gone.html"), "{none}");
}

/// A model that chooses sensibly: by what stands behind the numbers that it is given.
const CHOICES: &str = r#"
rules:
  - {when: {user_contains: "Rank the passages"}, answer: [{json: {passages: [1, 2, 3, 4, 5]}}]}
  - when:
      user_matches: '(?s)Find the steps.*\n\[(\d+)\] [^\n]*Freeze the format.*\n\[(\d+)\] [^\n]*Lift the freeze'
    violate: true
    answer:
      - text: '{"steps": [{"do": {{1}}, "commands": [], "notes": [], "warnings": [], "expect": []},
          {"do": {{2}}, "commands": [], "notes": [], "warnings": [999], "expect": []}]}'
  - {when: {user_contains: "Find the steps"}, answer: [{json: {steps: []}}]}
  - {when: {user_contains: "Summarize the texts"}, answer: [{json: {sentences: [1, 2, 3, 4, 5]}}]}
  - when: {user_matches: '(?s)Answer the question.*?\n\[(\d+)\] [^\n]*upgrade one broker at a time'}
    violate: true
    answer: [{text: '{"answer": [{{1}}], "contradictions": []}'}]
"#;

#[test]
fn with_a_model_the_same_pages_are_answered_from_by_its_choices_and_it_says_so() {
    let (folder, expected) = (clone(), expected());
    let fake = Fake::start(Script::parse(CHOICES).unwrap()).unwrap();
    let run = |line: &str| {
        let mut command = folder.command(line);
        command.env("ANTHROPIC_API_KEY", "k").env("ANTHROPIC_BASE_URL", fake.url());
        Running::of(command).finish().expect(0)
    };
    let done = run("run examples/research/workflow.yaml --json");
    // One of each agent, and three pages that may be guides.
    assert_eq!(fake.journal().len(), 6, "{:?}", fake.counts());
    let engine = |step: &str| {
        let ended = |event: &&Json| event["type"] == "step_completed" && event["step"] == step;
        done.events().iter().find(ended).unwrap()["engine"].clone()
    };
    for step in ["rank", "guides.1", "summary", "report"] {
        assert_eq!(engine(step), "model", "{step}");
    }
    assert_eq!(engine("walkthrough"), "rules");
    let said = "asks anthropic/claude-sonnet-5-5";
    assert!(done.events().iter().any(|event| event["message"] == said), "{}", done.out);

    let last = done.last();
    let report = artifact(&folder, &last, "report.md");
    let first: String = report.lines().take(3).collect();
    assert!(first.contains(expected["answer"].as_str().unwrap()), "{first}");
    assert!(report.contains("by anthropic/claude-sonnet-5-5."), "{report}");
    let told = contradictions(&report);
    for wanted in expected["contradictions"].as_array().unwrap() {
        assert!(told.iter().any(|told| names(&report, told, wanted)), "{wanted}\n{report}");
    }
    let walkthrough: Json =
        serde_json::from_str(&artifact(&folder, &last, "walkthrough.json")).unwrap();
    assert_eq!(walkthrough["steps"].as_array().unwrap().len(), 2, "{walkthrough:#}");

    let id = run_of(&done.events()[0]);
    let why = folder.run(&format!("why {id} report --json")).expect(0).json();
    assert_eq!(why["calls"][0]["model"], "anthropic/claude-sonnet-5-5", "{why:#}");
    let bill = folder.run(&format!("runs bill {id} --json")).expect(0).json();
    assert_eq!(bill["models"][0]["calls"], 6, "{bill:#}");

    // Turned off for all, with the same key in the environment.
    folder.write("kapelle.toml", "[models]\nrules_only = true\n");
    run("run examples/research/workflow.yaml --json");
    assert_eq!(fake.journal().len(), 6, "{:?}", fake.counts());
}

#[test]
fn what_rules_have_said_is_played_without_a_model() {
    let folder = clone();
    let run = "run examples/research/workflow.yaml --json";
    let first = folder.run(&format!("{run} --record tape")).expect(0).last();
    let again = folder.run(&format!("{run} --replay tape")).expect(0).last();
    for name in ["report.md", "walkthrough.json"] {
        assert_eq!(artifact(&folder, &again, name), artifact(&folder, &first, name), "{name}");
    }
}
