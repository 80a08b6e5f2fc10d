//! A server in the network, as its users have it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use kapelle_api::{Client, EventKind, NewKey, NewRun, RunsQuery};

use tokio::sync::watch;

use crate::support::{Folder, Running, memory};

/// A server in the background, killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start(folder: &Folder) -> Self {
        Self::start_at(folder, "127.0.0.1:0")
    }

    pub(crate) fn start_at(folder: &Folder, at: &str) -> Self {
        Self::start_with(folder, at, |_| {})
    }

    /// The same with what `more` adds to its command.
    pub(crate) fn start_with(folder: &Folder, at: &str, more: impl FnOnce(&mut Command)) -> Self {
        let mut command = folder.command(&format!("serve --listen {at}"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        more(&mut command);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect("it listens").to_owned();
        Self { child, url }
    }

    pub(crate) fn client(&self, key: Option<&str>) -> Client {
        Client::url(&self.url, key)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub(crate) fn at(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }

    /// How much memory it takes, in KiB: `VmRSS:` now, `VmHWM:` at the most so far.
    pub(crate) fn memory(&self, what: &str) -> u64 {
        memory(self.child.id(), what)
    }

    /// Tells it to leave, and waits until it has; its exit code.
    pub(crate) fn leave(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn workflow(text: &str) -> NewRun {
    NewRun { workflow: Some(text.to_owned()), ..NewRun::default() }
}

const ONE: &str = "{id: one, tasks: [{id: a, agentName: echo, input: {value: 1}}]}";
const COMMAND: &str = "{id: bad, tasks: [{id: a, agentName: process, input: {argv: [id]}}]}";

async fn code(client: &Client, new: &NewRun) -> Option<String> {
    client.submit(new).await.err()?.code().map(str::to_owned)
}

#[tokio::test]
async fn a_server_works_for_those_it_knows_and_goes_on_after_a_restart() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    // Without a key there is somebody on this machine, who may run no commands and see no keys.
    let somebody = server.client(None);
    let run = somebody.submit(&workflow(ONE)).await.unwrap().id;
    let mut events = somebody.events(&run, 0);
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event.unwrap().kind);
    }
    assert!(matches!(last, Some(EventKind::RunCompleted { .. })), "{last:?}");
    assert_eq!(code(&somebody, &workflow(COMMAND)).await.as_deref(), Some("not_permitted"));
    let elsewhere = NewRun { root: Some("/etc".to_owned()), ..workflow(ONE) };
    assert_eq!(code(&somebody, &elsewhere).await.as_deref(), Some("root_not_allowed"));
    assert!(somebody.keys().await.is_err());

    // With a key there is nobody without one.
    let made = folder.run("keys create --name root --role admin --json").expect(0).json();
    let admin = server.client(made["key"].as_str());
    let nobody = somebody.runs(&RunsQuery::default()).await.unwrap_err();
    assert_eq!(nobody.code(), Some("unauthenticated"));
    assert_eq!(admin.run(&run).await.unwrap().status, "completed");
    assert!(admin.submit(&workflow(COMMAND)).await.is_ok());

    // Keys of another tenant, and of less: made by the owner of the store.
    let line =
        "keys create --name ci --role submitter --tenant acme --workflow on* --agent echo --json";
    let made = folder.run(line).expect(0).json();
    let ci = server.client(made["key"].as_str());
    assert_eq!(ci.runs(&RunsQuery::default()).await.unwrap().items, []);
    assert_eq!(ci.run(&run).await.unwrap_err().code(), Some("run_not_found"));
    let theirs = ci.submit(&workflow(ONE)).await.unwrap().id;
    assert_eq!(admin.run(&theirs).await.unwrap_err().code(), Some("run_not_found"));
    let two = workflow("{id: two, tasks: [{id: a, agentName: echo, input: {value: 2}}]}");
    assert_eq!(code(&ci, &two).await.as_deref(), Some("not_permitted"));
    let other = workflow(
        "{id: one, tasks: [{id: a, agentName: web, action: read, input: {urls: [\"http://a.example\"]}}]}",
    );
    assert_eq!(code(&ci, &other).await.as_deref(), Some("not_permitted"));
    let more = NewKey { name: "x".into(), roles: vec!["admin".into()], ..NewKey::default() };
    assert_eq!(ci.create_key(&more).await.unwrap_err().code(), Some("not_permitted"));
    let theirs = NewKey { tenant: Some("acme".to_owned()), ..more };
    assert_eq!(admin.create_key(&theirs).await.unwrap_err().code(), Some("not_permitted"));

    assert_eq!(server.leave(), Some(0));
    let server = Server::start(&folder);
    let admin = server.client(admin_key(&folder).as_deref());
    assert_eq!(admin.run(&run).await.unwrap().status, "completed");
}

/// Another key for the same tenant.
fn admin_key(folder: &Folder) -> Option<String> {
    let made = folder.run("keys create --name again --role admin --json").expect(0).json();
    let listed = folder.run("keys list").expect(0).out;
    assert!(listed.contains("again") && !listed.contains(made["key"].as_str()?), "{listed}");
    let id = made["id"].as_str()?;
    let spare = folder.run("keys create --name spare --role viewer --json").expect(0).json();
    folder.run(&format!("keys revoke {}", spare["id"].as_str()?)).expect(0);
    assert!(folder.run("keys list").expect(0).out.contains("revoked") && !id.is_empty());
    made["key"].as_str().map(str::to_owned)
}

#[test]
fn a_server_others_can_reach_needs_a_key() {
    let folder = Folder::new();
    let refused = folder.run("serve --listen 0.0.0.0:0").expect(2);
    assert!(refused.err.contains("kapelle keys create"), "{}", refused.err);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = folder.run(&format!("serve --listen {}", taken.local_addr().unwrap())).expect(4);
    assert!(refused.err.contains("--listen"), "{}", refused.err);
}

/// The numbers of all events of a run, from a stream that is opened once more when the server is back.
async fn watched(client: Client, run: String, mut back: watch::Receiver<bool>) -> Vec<u64> {
    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let mut events = client.events(&run, after);
        let again = *back.borrow_and_update();
        let why = loop {
            match events.next().await {
                Some(Ok(event)) => {
                    seen.extend(event.seq);
                    if matches!(event.kind, EventKind::RunCompleted { .. }) {
                        return seen;
                    }
                }
                end => break end,
            }
        };
        assert!(!again, "the stream broke off twice: {why:?}");
        after = events.last_seq();
        back.wait_for(|is_back| *is_back).await.unwrap();
    }
}

/// How many runs are streamed while their server ends, unless `KAPELLE_STREAMS` says another number.
const STREAMED: usize = 40;

/// Runs that are streamed while their server is ended by `end` and comes again.
async fn outlive(end: fn(Server)) {
    let streamed = std::env::var("KAPELLE_STREAMS").ok().and_then(|n| n.parse().ok());
    let streamed = streamed.unwrap_or(STREAMED);
    let tasks: Vec<_> = (0..40)
        .map(|n| format!("{{id: s{n}, agentName: echo, input: {{value: {n}}}{}}}", needs(n)))
        .collect();
    let long = workflow(&format!("{{id: long, tasks: [{}]}}", tasks.join(", ")));
    let folder = Folder::new();
    let server = Server::start(&folder);
    let (client, at) = (server.client(None), server.at());
    let (mut runs, mut watching) = (Vec::new(), tokio::task::JoinSet::new());
    let (is_back, back) = watch::channel(false);
    for _ in 0..streamed {
        let run = client.submit(&long).await.unwrap().id;
        watching.spawn(watched(client.clone(), run.clone(), back.clone()));
        runs.push(run);
    }
    end(server);
    let server = Server::start_at(&folder, &at);
    is_back.send(true).unwrap();
    let mut all = Vec::new();
    while let Some(seen) = watching.join_next().await {
        all.push(seen.unwrap());
    }
    for seen in &all {
        assert_eq!(*seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    }
    // Whatever was acknowledged has come to its end.
    for run in &runs {
        assert_eq!(client.run(run).await.unwrap().status, "completed");
    }
    assert_eq!((all.len(), server.leave()), (streamed, Some(0)));
}

fn needs(n: usize) -> String {
    n.checked_sub(1).map_or_else(String::new, |before| format!(", dependencies: [s{before}]"))
}

#[tokio::test]
async fn streams_go_on_after_a_kill_without_loss_or_repeat() {
    outlive(drop).await;
}

#[tokio::test]
async fn streams_go_on_after_a_leave_without_loss_or_repeat() {
    outlive(|server| assert_eq!(server.leave(), Some(0))).await;
}

#[test]
fn a_run_at_a_server_is_told_with_what_it_has_cost() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let fake = kapelle_fake::Fake::start(kapelle_fake::Script::default()).unwrap();
    let models = format!(
        "[providers.local]\nwire = \"openai\"\nurl = \"{}/v1\"\nkey_file = \"llm\"\n",
        fake.url()
    );
    folder.write("llm", "k");
    folder
        .write("kapelle.toml", &format!("{models}[models]\nbalanced = [\"local/gpt-6.1-sol\"]\n"));
    let server = Server::start(&folder);
    let made = folder.run("keys create --name me --role admin --json").expect(0).json();
    let asks = [("KAPELLE_SERVER", &*server.url), ("KAPELLE_KEY", made["key"].as_str().unwrap())];
    elsewhere.write("one.yaml", "{id: one, tasks: [{id: a, agentName: model, prompt: hello}]}");
    let done = elsewhere.run_with("run one.yaml", &asks).expect(0);
    assert!(done.out.contains("  cost:    ") && done.out.contains("runs bill"), "{}", done.out);
}

#[test]
fn the_command_line_asks_a_server_as_it_asks_a_store() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let server = Server::start(&folder);
    let made = folder.run("keys create --name me --role admin --json").expect(0).json();
    let key = made["key"].as_str().unwrap();
    let url = server.url.clone();
    let ask =
        |line: &str| elsewhere.run_with(line, &[("KAPELLE_SERVER", &url), ("KAPELLE_KEY", key)]);
    elsewhere.write("one.yaml", ONE);
    let done = ask("run one.yaml --json").expect(0);
    assert_eq!(done.last()["type"], "run_completed", "{}", done.out);
    // Whoever is no person does not wait for one, and is told where to say what.
    let gated = "{id: gated, inputs: {n: {type: integer}}, tasks: [\
        {id: gate, approval: {}}, {id: a, agentName: echo, input: {value: '{{ inputs.n }}'}, dependencies: [gate]}]}";
    elsewhere.write("gated.yaml", gated);
    let wrong = ask("run gated.yaml --input n=x").expect(2);
    assert!(wrong.err.contains("inputs.n"), "{}", wrong.err);
    let waits = ask("run gated.yaml --input n=7 --task-id seven").expect(5);
    let hint = format!("kapelle --server {} runs approve", server.url);
    assert!(waits.out.contains(&hint) || waits.err.contains(&hint), "{waits:?}");
    assert!(ask("runs list").expect(0).out.contains("gated"));
    assert!(ask("why seven").expect(0).out.contains("gate"));
    ask("runs approve seven gate").expect(0);
    let watched = ask("runs watch seven --json").expect(0);
    assert_eq!(watched.last()["output"], 7, "{}", watched.out);
    assert_eq!(ask("runs show seven --json").expect(0).json()["status"], "completed");
    let forked = ask("runs fork seven --from a --json").expect(0);
    assert_eq!(forked.last()["output"], 7, "{}", forked.out);
    assert!(ask("agents list").expect(0).out.contains("echo"));
    assert!(ask("keys list").expect(0).out.contains("me"));
    assert!(ask("artifacts list seven").expect(0).out.contains("DIGEST"));
    // A server that is killed and comes back is waited for.
    let mut command = elsewhere.command("run gated.yaml --input n=8 --task-id eight --json --wait");
    command.envs([("KAPELLE_SERVER", &*server.url), ("KAPELLE_KEY", key)]);
    let mut eight = Running::of(command);
    eight.wait_for("approval_requested", Some("gate"));
    let at = server.at();
    drop(server);
    let server = Server::start_at(&folder, &at);
    ask("runs approve eight gate").expect(0);
    assert_eq!(eight.finish().expect(0).last()["output"], 8);
    // It has no store here, and made none.
    assert!(!elsewhere.path().join(".kapelle").exists());

    let refused = elsewhere.run_with("runs list", &[("KAPELLE_SERVER", &server.url)]).expect(2);
    assert!(refused.err.contains("KAPELLE_KEY"), "{}", refused.err);
    assert!(!elsewhere.run("--server ftp://x runs list").expect(2).out.contains("RUN"));
    let here = elsewhere.run("--server http://127.0.0.1:1 serve").expect(2);
    assert!(here.err.contains("about this machine"), "{}", here.err);
    let nobody = elsewhere.run("--server http://127.0.0.1:1 runs list").expect(4);
    assert!(nobody.err.contains("cannot be reached"), "{}", nobody.err);
}

#[tokio::test]
async fn what_a_server_does_is_in_its_log_by_run_and_step() {
    let folder = Folder::new();
    let server = Server::start(&folder);
    let client = server.client(None);
    let two = "{id: two, tasks: [{id: well, agentName: echo, input: {value: 1}}, \
        {id: badly, agentName: http, action: request, input: {method: GET, url: 'http://127.0.0.1:1/'}, retry: {maxAttempts: 1}}]}";
    let new = NewRun { task_id: Some("named".to_owned()), ..workflow(two) };
    let run = client.submit(&new).await.unwrap().id;
    let mut events = client.events(&run, 0);
    while events.next().await.is_some() {}
    assert_eq!(server.leave(), Some(0));
    let log =
        std::fs::read_to_string(folder.path().join(".kapelle/logs/orchestrator.log")).unwrap();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |message: &str| {
        lines.iter().find(|line| line["message"] == message).unwrap_or_else(|| panic!("{log}"))
    };
    let trace = run.replace('-', "");
    assert_eq!(said("the run is created")["task_id"], "named");
    assert_eq!(said("the run has ended")["verdict"], "failed");
    for (message, step) in [("the attempt is done", "well"), ("the attempt failed", "badly")] {
        let ids = &said(message)["span"];
        let wanted = [
            ("run", &*run),
            ("step", step),
            ("task_id", "named"),
            ("subtask_id", step),
            ("trace", &trace),
        ];
        assert!(wanted.iter().all(|(name, value)| ids[*name] == **value), "{ids}");
    }
}

#[tokio::test]
async fn the_log_of_a_server_gives_way_when_it_is_full_and_loses_no_line_of_what_is_kept() {
    const MAX: u64 = 64 << 10;
    let folder = Folder::new();
    folder.write("kapelle.toml", &format!("[log]\nfile_max = {MAX}\nfiles_kept = 2\n"));
    let server = Server::start(&folder);
    let client = server.client(None);
    let logs = folder.path().join(".kapelle/logs");
    let at = |name: &str| logs.join(format!("orchestrator.log{name}"));
    let names = |path: &std::path::Path| -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        // Each line is whole.
        let lines =
            text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let created = lines.filter(|line| line["message"] == "the run is created");
        created.map(|line| line["task_id"].as_str().unwrap().to_owned()).collect()
    };
    let mut made = 0;
    // Until the first file has gone for good.
    while !at(".2").exists() || names(&at(".2")).first().is_some_and(|first| first == "t00000") {
        let new = NewRun { task_id: Some(format!("t{made:05}")), ..workflow(ONE) };
        let run = client.submit(&new).await.unwrap().id;
        let mut events = client.events(&run, 0);
        while events.next().await.is_some() {}
        made += 1;
    }
    assert_eq!(server.leave(), Some(0));
    let kept: Vec<String> = [".2", ".1", ""].iter().flat_map(|name| names(&at(name))).collect();
    let all: Vec<String> = (0..made).map(|n| format!("t{n:05}")).collect();
    assert!(kept.len() < all.len() && all.ends_with(&kept), "{} of {made}", kept.len());
    let count = std::fs::read_dir(&logs).unwrap().count();
    assert_eq!(count, 3);
    assert!([".2", ".1", ""].iter().all(|name| at(name).metadata().unwrap().len() <= MAX));
}
