//! The API as Schemathesis asks it, out of its own description: whatever it is asked, by whomever, it answers
//! with a status and a shape that stand there, and never fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use kapelle_api::NewRun;
use serde_json::{Value as Json, json};

use crate::serve::Server;
use crate::support::Folder;

/// Where `cargo xtask setup` installs it.
const PROGRAM: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/schemathesis/bin/schemathesis");
/// What it asks about.
const HOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");
/// What an answer is to be. That a wrong request is refused is not among it: the description says less than the checks.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance,response_headers_conformance";

const GATED: &str = "{id: gated, inputs: {n: {type: integer, default: 1}}, tasks: [\
    {id: a, agentName: echo, input: {value: '{{ inputs.n }}'}}, {id: gate, approval: {}, dependencies: [a]}]}";

fn number(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// A server with runs to look at, and somebody to ask it.
struct Asker {
    server: Server,
    folder: Folder,
    key: String,
    known: Json,
}

impl Asker {
    async fn of(role: &str) -> Self {
        let folder = Folder::new();
        let server = Server::start(&folder);
        let key = |name: &str, role: &str| {
            folder.run(&format!("keys create --name {name} --role {role} --json")).expect(0).json()
        };
        let (admin, asker, spare) =
            (key("admin", "admin"), key("asker", role), key("spare", "viewer"));
        let client = server.client(admin["key"].as_str());
        let mut runs = Vec::new();
        for _ in 0..3 {
            let new = NewRun { workflow: Some(GATED.to_owned()), ..NewRun::default() };
            runs.push(client.submit(&new).await.unwrap().id);
        }
        let known = json!({
            "run": runs, "other": runs, "step": ["a", "gate"], "name": ["echo", "http"], "key": [spare["id"]],
        });
        let key = asker["key"].as_str().unwrap().to_owned();
        Self { server, folder, key, known }
    }

    /// Asks, and gives how many cases there were and how many of them went well.
    fn ask(&self, seed: u32, how: &[&str]) -> (usize, usize) {
        let report = self.folder.path().join("report.har");
        let mut command = Command::new(PROGRAM);
        command.args(["run", &format!("{}/openapi.json", self.server.url())]);
        command.args(["-H", &format!("Authorization: Bearer {}", self.key), "--checks", CHECKS]);
        command.args([
            "--seed",
            &seed.to_string(),
            "--request-timeout",
            "5",
            "--continue-on-failure",
        ]);
        command.args(["--max-examples", &number("KAPELLE_API_EXAMPLES", 15).to_string()]);
        command.args(["--report", "har", "--report-har-path"]).arg(&report).args(how);
        command.env("SCHEMATHESIS_HOOKS", "hooks").env("PYTHONPATH", HOOKS);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("KAPELLE_KNOWN", self.known.to_string());
        let asked = command.current_dir(self.folder.path()).output();
        let asked = asked.expect("`cargo xtask setup` installs Schemathesis");
        let said = String::from_utf8_lossy(&asked.stdout);
        assert!(asked.status.success(), "{said}{}", String::from_utf8_lossy(&asked.stderr));
        counted(&report)
    }
}

fn counted(report: &Path) -> (usize, usize) {
    let report: Json = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let cases = report["log"]["entries"].as_array().unwrap();
    let is_well = |case: &&Json| case["response"]["status"].as_u64().is_some_and(|s| s / 100 == 2);
    (cases.len(), cases.iter().filter(is_well).count())
}

#[tokio::test]
async fn whatever_schemathesis_asks_is_answered_as_the_description_says() {
    assert!(PathBuf::from(PROGRAM).exists(), "`cargo xtask setup` installs Schemathesis");
    for seed in 1..=number("KAPELLE_API_SEEDS", 1) {
        let admin = Asker::of("admin").await;
        let (cases, well) = admin.ask(seed, &["--phases", "fuzzing", "--mode", "positive"]);
        println!(
            "seed {seed}, admin, requests that should be right: {cases} cases, {well} of them 2xx"
        );
        assert!(cases > 300 && well * 10 >= cases * 3, "{well} of {cases}");
        let (cases, well) = admin.ask(seed, &["--phases", "coverage,fuzzing"]);
        println!("seed {seed}, admin, any: {cases} cases, {well} of them 2xx");
        let weak = Asker::of("worker").await;
        let (cases, well) = weak.ask(seed, &["--phases", "fuzzing"]);
        println!("seed {seed}, worker, any: {cases} cases, {well} of them 2xx");
        for asker in [admin, weak] {
            assert_eq!(asker.server.leave(), Some(0));
        }
    }
}
