//! What a server counts, as Prometheus reads it and Grafana draws it.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kapelle_api::{Client, EventKind, NewRun};
use serde_json::Value as Json;

use crate::serve::Server;
use crate::support::Folder;

/// A Prometheus that reads one server, killed when this is dropped.
struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    fn of(server: &Server, folder: &Folder) -> Self {
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs:\n\
             - {{job_name: kapelle, static_configs: [{{targets: ['{}']}}]}}\n",
            server.at()
        );
        let config = folder.write("prometheus.yml", &config);
        // It takes no port of the system's choice: one that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()));
        command.arg(format!("--web.listen-address={free}"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, url: format!("http://{free}") }
    }

    /// What it answers to a query; nothing while it is not there yet.
    async fn ask(&self, query: &str) -> Vec<Json> {
        let mut promtool = Command::new("promtool");
        promtool.args(["query", "instant", "-o", "json", &self.url, query]);
        let asked = tokio::task::spawn_blocking(move || promtool.output().unwrap());
        serde_json::from_slice(&asked.await.unwrap().stdout).unwrap_or_default()
    }

    /// Whether a query has something to show before the time is up.
    async fn shows(&self, query: &str, until: Instant) -> bool {
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        while Instant::now() < until {
            tick.tick().await;
            let found = self.ask(query).await;
            if found.iter().any(|one| one["value"][1] != "NaN") {
                return true;
            }
        }
        false
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn run(client: &Client, text: &str) {
    let new = NewRun { workflow: Some(text.to_owned()), ..NewRun::default() };
    let run = client.submit(&new).await.unwrap().id;
    let mut events = client.events(&run, 0);
    while let Some(event) = events.next().await {
        if let EventKind::RunCompleted { .. } = event.unwrap().kind {
            return;
        }
    }
    panic!("it has no end");
}

/// A run that works, fails and tries again.
const WORK: &str = "{id: canary, tasks: [{id: canary-step, agentName: echo, input: {value: 1}}, \
    {id: b, agentName: http, action: request, input: {method: GET, url: 'http://127.0.0.1:1/'}, retry: {maxAttempts: 2, initial: 10ms}}]}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_counts_is_checked_scraped_and_drawn() {
    let folder = Folder::new();
    folder.write("kapelle.toml", "[server]\nprivate_addresses = true\n");
    let server = Server::start(&folder);
    let client = server.client(None);
    run(&client, WORK).await;
    let text = client.metrics().await.unwrap();
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut promtool = promtool.stderr(Stdio::piped()).spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let told = [said.stdout, said.stderr].concat();
    assert!(said.status.success() && told.is_empty(), "{}", String::from_utf8_lossy(&told));
    for line in [
        "kapelle_runs_created_total 1",
        "kapelle_runs_ended_total{verdict=\"failed\"} 1",
        "kapelle_attempts_total{agent=\"echo\",end=\"completed\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
    // No label holds what a user said.
    assert!(!text.contains("canary"), "{text}");

    let prometheus = Prometheus::of(&server, &folder);
    let drawn = include_str!("../../../../examples/grafana/kapelle.json");
    let drawn: Json = serde_json::from_str(drawn).unwrap();
    let panels = drawn["panels"].as_array().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    assert!(prometheus.shows("up == 1", until).await, "it is not scraped");
    // A rate is of two values, and a quantile of something that happened in between.
    let work = async {
        loop {
            run(&client, WORK).await;
        }
    };
    let look = async {
        let mut empty = Vec::new();
        for panel in panels {
            let query = panel["targets"][0]["expr"].as_str().unwrap();
            if !prometheus.shows(&query.replace("$__rate_interval", "10s"), until).await {
                empty.push(panel["title"].clone());
            }
        }
        empty
    };
    let empty = tokio::select! {
        empty = look => empty,
        () = work => unreachable!("it has no end"),
    };
    assert!(empty.is_empty() && panels.len() > 20, "{empty:?} of {}", panels.len());
}
