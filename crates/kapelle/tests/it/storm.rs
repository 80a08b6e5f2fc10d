//! Many runs at once against a provider that refuses, fails and breaks off.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kapelle_agents::egress::{Egress, Policy};
use kapelle_agents::model::tool::{Reach, Told, Tool, ToolCard, Tools};
use kapelle_agents::model::{Definition, Model};
use kapelle_agents::provider::{KeySource, LIMITS, Models, Prices, Provider, Wire};
use kapelle_api::NewRun;
use kapelle_core::Json;
use kapelle_core::port::agent::{Call, Desk, Failure, Safety};
use kapelle_fake::{Counts, Fake, Script};
use serde_json::json;

/// So many runs, each of five steps, unless `KAPELLE_STORM_RUNS` says another number.
const RUNS: usize = 20;

/// Fewer requests a second than are wanted.
const TOLD: &str = "limits: {requests: {per_minute: 6000, burst: 20}}";
const SILENT: &str = "limits: {requests: {per_minute: 6000, burst: 20}, silent: true}";

/// 500 for a tenth of the requests, a tenth cut, a twentieth malformed.
const STORM: &str = r#"
seed: 5
faults:
  - {status: 500, probability: 0.1}
  - {cut: true, probability: 0.1}
  - {malformed: true, probability: 0.05}
rules:
  - when: {tool_results: true}
    answer: [{text: "done"}]
  - when: {user_contains: with a tool}
    answer: [{tool: {name: note, input: {what: it}}}]
  - answer: [{text: "an answer of some length, so that there is something to be cut in the middle of"}]
"#;

/// Notes the outward keys of its calls.
struct Note(ToolCard, Mutex<BTreeMap<String, u32>>);

#[async_trait]
impl Tool for Note {
    fn card(&self) -> &ToolCard {
        &self.0
    }

    async fn call(&self, _: &Call, _: &Json, key: &str, _: &dyn Desk) -> Result<Told, Failure> {
        *self.1.lock().unwrap().entry(key.to_owned()).or_default() += 1;
        Ok(Told::well("noted"))
    }
}

fn note() -> Arc<Note> {
    let input = json!({"type": "object", "properties": {"what": {"type": "string"}}});
    let (name, description) = ("note".into(), "Notes something.".into());
    let (reach, safety) = (Reach::Reads, Safety::Unsafe);
    Arc::new(Note(ToolCard { name, description, input, reach, safety }, Mutex::default()))
}

fn workflow() -> String {
    let steps = (1..=5).map(|n| {
        let needs = if n == 1 { String::new() } else { format!("dependencies: [s{}], ", n - 1) };
        let what = if n == 3 { "with a tool" } else { "without" };
        format!(
            "  - {{ id: s{n}, agentName: asker, {needs}prompt: \"step {n} {what}\", \
             retry: {{ maxAttempts: 50, initial: 5ms, max: 50ms }} }}\n"
        )
    });
    format!("id: storm\ntasks:\n{}", steps.collect::<String>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_runs_end_whatever_the_provider_does_and_nothing_is_done_twice() {
    let counts = storm(TOLD).await;
    let wanted = 6 * runs() as u64;
    assert!(counts.requests * 2 <= wanted * 3, "{wanted} answers took {counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_tells_of_its_limits_only_by_refusing_is_not_pressed_either() {
    let counts = storm(SILENT).await;
    assert!(counts.status.contains_key(&429), "{counts:?}");
}

fn runs() -> usize {
    std::env::var("KAPELLE_STORM_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(RUNS)
}

/// What the provider counted.
async fn storm(limits: &str) -> Counts {
    let runs = runs();
    let fake = Fake::start(Script::parse(&format!("{STORM}{limits}")).unwrap()).unwrap();
    let egress = Arc::new(Egress::with_limits(Policy::Operator, LIMITS));
    let key = KeySource::Command(vec!["echo".into(), "k".into()]);
    let base = fake.url().parse().unwrap();
    let provider = Provider::new("fake", Wire::Anthropic, &base, Some(key), egress);
    let models = Arc::new(Models::new(vec![provider], Prices::shipped()));
    let note = note();
    let definition = Definition {
        name: "asker".into(),
        model: Some("fake/claude-sonnet-5-5".into()),
        tools: vec!["note".into()],
        tokens_max: Some(500),
        ..Definition::plain()
    };
    let tools = Arc::new(Tools::new(vec![note.clone()], []));
    let agent = Arc::new(Model::new(definition, models, tools));
    let folder = tempfile::tempdir().unwrap();
    let kapelle = kapelle::open(folder.path()).register(agent).start().await.unwrap();
    let workflow = workflow();
    let mut all = Vec::new();
    for _ in 0..runs {
        let new = NewRun { workflow: Some(workflow.clone()), ..NewRun::default() };
        all.push(kapelle.submit(&new).await.unwrap());
    }
    for run in all {
        let end = run.finish().await.unwrap();
        let end = serde_json::to_value(&end).unwrap();
        assert_eq!(end["verdict"], "completed", "{end:#}");
    }
    let counts = fake.counts();
    // A request may cross with the word to wait on its way, and only then.
    let late: Vec<_> = fake.journal().into_iter().filter_map(|entry| entry.early).collect();
    assert!(late.iter().all(|early| early.since_ms < 500), "{late:?}");
    kapelle.close().await.unwrap();
    let notes = note.1.lock().unwrap();
    assert_eq!(notes.len(), runs, "one for each run");
    assert!(notes.values().all(|times| *times == 1), "{notes:?}");
    counts
}
