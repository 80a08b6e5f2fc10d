//! Workers and servers that die in the middle of a step, and what becomes of it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use kapelle_api::{Client, EventKind, NewAgent, WorkQuery};
use rustix::process::{Pid, Signal, kill_process};

use crate::serve::{Server, workflow};
use crate::support::{Folder, KAPELLE};

/// The workers that ship as examples.
#[derive(Clone, Copy)]
enum Language {
    Python,
    Rust,
}

/// A worker in the background, killed when this is dropped.
struct Worker {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Worker {
    fn start(language: Language, server: &Server, lease: &str) -> Self {
        let mut command = match language {
            Language::Python => {
                let script = "../../examples/worker-python/worker.py";
                let mut command = Command::new("python3");
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
                command
            }
            // Cargo builds examples with the tests, beside the binary.
            Language::Rust => {
                Command::new(Path::new(KAPELLE).with_file_name("examples").join("worker"))
            }
        };
        command.arg(format!("http://{}", server.at())).env("LEASE", lease);
        let mut child = command.env_remove("KAPELLE_KEY").stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The attempt that its next line is about, and what it says of it.
    fn says(&mut self) -> (String, String) {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "the worker is gone");
        let line = line.trim().replace("working on", "working");
        let mut words = line.split(' ').map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn submit(client: &Client, seconds: f64) -> String {
    let text = format!(
        "{{id: one, tasks: [{{id: a, agentName: shout, input: {{text: hi, seconds: {seconds}}}}}]}}"
    );
    client.submit(&workflow(&text)).await.unwrap().id
}

/// A server that has the agent `shout`.
async fn server(folder: &Folder, lease: &str) -> Server {
    let server = Server::start(folder);
    let (name, lease) = ("shout".to_owned(), Some(lease.to_owned()));
    let description = "says it loudly".to_owned();
    let shout = NewAgent { name, description, lease, ..NewAgent::default() };
    server.client(None).register_agent(&shout).await.unwrap();
    server
}

/// The numbers of the attempts that a run's step began and completed, once the run has ended.
async fn attempts(client: &Client, run: &str) -> (Vec<u32>, Vec<u32>) {
    let (mut events, mut begun, mut done) = (client.events(run, 0), Vec::new(), Vec::new());
    while let Some(event) = events.next().await {
        match event.unwrap().kind {
            EventKind::StepStarted { attempt, .. } => begun.push(attempt),
            EventKind::StepCompleted { attempt, .. } => done.extend(attempt),
            _ => {}
        }
    }
    assert_eq!(client.run(run).await.unwrap().output, "HI");
    (begun, done)
}

/// A worker is killed in the middle of a step, and another one of the same language does it.
async fn replaced(language: Language) {
    let folder = Folder::new();
    let server = server(&folder, "1s").await;
    let client = server.client(None);
    let mut first = Worker::start(language, &server, "1s");
    let run = submit(&client, 0.5).await;
    let (word, attempt) = first.says();
    assert_eq!(word, "working");
    drop(first);
    let mut second = Worker::start(language, &server, "1s");
    let (word, next) = second.says();
    assert!(word == "working" && next != attempt, "{next}");
    assert_eq!(second.says(), ("complete".to_owned(), next));
    assert_eq!(attempts(&client, &run).await, (vec![1, 2], vec![2]));
}

#[tokio::test]
async fn a_python_worker_that_is_killed_in_the_middle_of_a_step_is_replaced() {
    replaced(Language::Python).await;
}

#[tokio::test]
async fn a_rust_worker_that_is_killed_in_the_middle_of_a_step_is_replaced() {
    replaced(Language::Rust).await;
}

/// A worker is stopped past its lease; when it goes on another one has done the step.
async fn stopped(language: Language) {
    let folder = Folder::new();
    let server = server(&folder, "1s").await;
    let client = server.client(None);
    let mut first = Worker::start(language, &server, "1s");
    let run = submit(&client, 0.3).await;
    let (_, attempt) = first.says();
    first.signal(Signal::STOP);
    let mut second = Worker::start(language, &server, "1s");
    assert_eq!(second.says().0, "working");
    assert_eq!(second.says().0, "complete");
    first.signal(Signal::CONT);
    assert_eq!(first.says(), ("dropped".to_owned(), attempt));
    assert_eq!(attempts(&client, &run).await, (vec![1, 2], vec![2]));
}

#[tokio::test]
async fn a_python_worker_that_was_stopped_past_its_lease_is_refused() {
    stopped(Language::Python).await;
}

#[tokio::test]
async fn a_rust_worker_that_was_stopped_past_its_lease_is_refused() {
    stopped(Language::Rust).await;
}

/// The server goes in the middle of a step by `end` and comes again; its worker goes on with the same attempt.
async fn outlived(language: Language, end: fn(Server)) {
    let folder = Folder::new();
    let server = server(&folder, "5s").await;
    let (client, at) = (server.client(None), server.at());
    let mut worker = Worker::start(language, &server, "5s");
    let run = submit(&client, 1.0).await;
    let (_, attempt) = worker.says();
    end(server);
    let _server = Server::start_at(&folder, &at);
    assert_eq!(worker.says(), ("complete".to_owned(), attempt));
    assert_eq!(attempts(&client, &run).await, (vec![1], vec![1]));
}

#[tokio::test]
async fn a_python_worker_goes_on_over_a_kill_of_its_server() {
    outlived(Language::Python, drop).await;
}

#[tokio::test]
async fn a_rust_worker_goes_on_over_a_kill_of_its_server() {
    outlived(Language::Rust, drop).await;
}

#[tokio::test]
async fn a_worker_goes_on_over_a_leave_of_its_server() {
    outlived(Language::Python, |server| assert_eq!(server.leave(), Some(0))).await;
}

#[tokio::test]
async fn a_worker_that_does_not_come_back_to_a_server_that_was_killed_is_replaced() {
    let folder = Folder::new();
    let server = server(&folder, "1s").await;
    let (client, at) = (server.client(None), server.at());
    let mut first = Worker::start(Language::Rust, &server, "1s");
    let run = submit(&client, 2.0).await;
    assert_eq!(first.says().0, "working");
    drop((first, server));
    let server = Server::start_at(&folder, &at);
    // Longer at work than its lease, after a restart too.
    let mut second = Worker::start(Language::Rust, &server, "1s");
    let (word, attempt) = second.says();
    assert_eq!(word, "working");
    assert_eq!(second.says(), ("complete".to_owned(), attempt));
    assert_eq!(attempts(&client, &run).await, (vec![1, 2], vec![2]));
}

#[tokio::test]
async fn a_step_without_its_agent_waits_is_told_of_and_goes_on_by_itself() {
    let folder = Folder::new();
    let server = server(&folder, "5s").await;
    let client = server.client(None);
    let run = submit(&client, 0.0).await;
    let alerts = async || {
        let alerts = client.alerts().await.unwrap().items;
        alerts.into_iter().map(|alert| (alert.kind, alert.agent, alert.runs)).collect::<Vec<_>>()
    };
    let told = |kind: &str| vec![(kind.to_owned(), "shout".to_owned(), vec![run.clone()])];
    // It is registered, and nobody works for it.
    while alerts().await != told("no_worker") {}
    let why = client.why_step(&run, "a").await.unwrap();
    assert!(why.reasons[0].contains("no worker of `shout`"), "{:?}", why.reasons);
    assert_eq!(client.agent("shout").await.unwrap().health, "absent");
    // It is removed.
    client.remove_agent("shout").await.unwrap();
    let mut events = client.events(&run, 0);
    loop {
        let event = events.next().await.expect("it goes on").unwrap();
        if matches!(event.kind, EventKind::StepBlocked { .. }) {
            break;
        }
    }
    assert_eq!(alerts().await, told("no_agent"));
    let why = client.why_step(&run, "a").await.unwrap();
    assert!(why.unblock.iter().any(|help| help.what.contains("POST /agents")), "{:?}", why.unblock);
    // It is there again.
    let mut worker = Worker::start(Language::Rust, &server, "5s");
    assert_eq!(worker.says().0, "working");
    assert_eq!(worker.says().0, "complete");
    assert_eq!(attempts(&client, &run).await, (vec![1], vec![1]));
    assert_eq!(alerts().await, []);
    let nothing = WorkQuery { wait: Some("0s".to_owned()) };
    assert_eq!(client.work("shout", &nothing).await.unwrap(), None);
}
