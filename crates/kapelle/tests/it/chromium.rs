//! Pages in a real browser that watch a run, while its server is killed and started again.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use kapelle_api::{Approval, Client, Decision};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::serve::{Server, workflow};
use crate::support::Folder;

/// The page of the manual whose code is tried.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/server.md");

/// How long a page may take until it says something.
const PATIENCE: Duration = Duration::from_secs(120);

/// What every page has: `say` tells the test, in order.
const SAY: &str = "let said = Promise.resolve();
const say = (word) => { said = said.then(() => fetch('/', { method: 'POST', body: String(word) })); };
const seen = (event) => {
  if (event.seq) say(event.seq);
  if (event.type === 'run_completed') say('done');
};
";

/// A site with one page, and what the page says.
struct Site {
    origin: String,
    said: mpsc::UnboundedReceiver<String>,
    script: tokio::sync::watch::Sender<String>,
}

impl Site {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (say, said) = mpsc::unbounded_channel();
        let (script, page) = tokio::sync::watch::channel(String::new());
        let show = move || {
            let page = page.borrow().clone();
            async move { Html(format!("<!doctype html><script>{SAY}{page}</script>")) }
        };
        let hear = move |word: String| async move { say.send(word).unwrap() };
        let router = Router::new().route("/", get(show).post(hear));
        drop(tokio::spawn(async move { axum::serve(listener, router).await }));
        Self { origin, said, script }
    }

    /// What the page says up to `word`, as numbers where it is one.
    async fn until(&mut self, word: &str) -> Vec<u64> {
        let mut numbers = Vec::new();
        loop {
            let said = timeout(PATIENCE, self.said.recv()).await;
            let said = said.unwrap_or_else(|_| panic!("no `{word}` after {numbers:?}")).unwrap();
            numbers.extend(said.parse::<u64>());
            if said == word {
                return numbers;
            }
        }
    }
}

/// A browser with all its processes.
struct Browser(Child);

impl Browser {
    fn open(folder: &Folder, url: &str) -> Self {
        let mut chromium = Command::new("chromium");
        chromium.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic"]);
        chromium.args(["--no-first-run", "--no-default-browser-check", "--disable-sync"]);
        chromium.args(["--disable-background-networking", "--disable-component-update"]);
        chromium.args(["--disable-dev-shm-usage", "--disable-extensions", "--disable-breakpad"]);
        chromium.args(["--password-store=basic", "--remote-debugging-port=0"]);
        let profile = folder.path().join("profile");
        chromium.arg(format!("--user-data-dir={}", profile.display())).arg(url);
        let log = File::create(folder.path().join("chromium.log")).unwrap();
        chromium.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        Self(chromium.spawn().expect("chromium is there: cargo xtask setup"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        kill_process_group(Pid::from_child(&self.0), Signal::KILL).ok();
        self.0.wait().ok();
    }
}

/// A run of many steps with a gate in the middle.
fn gated() -> String {
    let step = |n: usize, after: &str| {
        format!("{{id: s{n}, agentName: echo, input: {{value: {n}}}, dependencies: [{after}]}}")
    };
    let mut steps = vec![
        "{id: first, agentName: echo, input: {value: 1}}".to_owned(),
        "{id: gate, approval: {}, dependencies: [s19]}".to_owned(),
    ];
    steps.extend((0..40).map(|n| step(n, if n < 20 { "first" } else { "gate" })));
    format!("{{id: gated, tasks: [{}]}}", steps.join(", "))
}

/// Has a page watch a run whose server is killed when it waits, and comes again. `script` is of the server's address, a
/// key and the run.
async fn watched(with_key: bool, script: impl Fn(&str, &str, &str) -> String) {
    let mut site = Site::start().await;
    let folder = Folder::new();
    folder.write("kapelle.toml", &format!("[server]\nallow_origins = [\"{}\"]\n", site.origin));
    let key = with_key.then(|| {
        let made = folder.run("keys create --name page --role operator --json").expect(0).json();
        made["key"].as_str().unwrap().to_owned()
    });
    let server = Server::start(&folder);
    let (client, at): (Client, _) = (server.client(key.as_deref()), server.at());
    let run = client.submit(&workflow(&gated())).await.unwrap().id;
    let (mut events, mut waits) = (client.events(&run, 0), 0);
    let mut done = 0;
    // All that comes before somebody approves.
    while done < 21 || waits == 0 {
        let event = events.next().await.unwrap().unwrap();
        match event.kind {
            kapelle_api::EventKind::StepCompleted { .. } => done += 1,
            kapelle_api::EventKind::ApprovalRequested { .. } => waits = event.seq.unwrap(),
            _ => {}
        }
    }
    let last = events.last_seq();
    site.script.send_replace(script(&server.url, key.as_deref().unwrap_or_default(), &run));
    let _browser = Browser::open(&folder, &site.origin);
    let mut seen = site.until(&last.to_string()).await;
    // As `kill -9` does.
    drop(server);
    seen.extend(site.until("gone").await);
    let server = Server::start_at(&folder, &at);
    let yes = Approval { decision: Decision::Approve, by: None, comment: None };
    client.approve(&run, "gate", &yes).await.unwrap();
    seen.extend(site.until("done").await);
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    assert_eq!(client.run(&run).await.unwrap().seq, seen.len() as u64);
    assert_eq!(server.leave(), Some(0));
}

#[tokio::test]
async fn an_event_source_of_a_browser_survives_the_kill_of_its_server() {
    let script = |server: &str, _: &str, run: &str| {
        format!(
            "const events = new EventSource('{server}/runs/{run}/events');
            events.onmessage = ({{ data }}) => {{
              const event = JSON.parse(data);
              seen(event);
              if (event.type === 'run_completed') events.close();
            }};
            events.onerror = () => say('gone');"
        )
    };
    watched(false, script).await;
}

#[tokio::test]
async fn the_code_of_the_manual_watches_a_run_with_tickets_over_a_kill() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let code = page.split("```js\n").nth(1).unwrap().split("```").next().unwrap().to_owned();
    let script = |server: &str, key: &str, run: &str| {
        // What it hears of the kill is told to the test as well.
        let code =
            code.replace("events.onerror = () => {", "events.onerror = () => { say('gone');");
        assert!(code.contains("say('gone')"));
        format!("const server = '{server}', key = '{key}';\n{code}\nwatch('{run}', seen);")
    };
    watched(true, script).await;
}
