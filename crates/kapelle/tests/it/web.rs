//! The `web` agent in the real binary: pages that were read are not fetched again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::IntoResponse;

use crate::support::Folder;

const PAGES: usize = 12;
/// How many are read before the process is killed.
const BEFORE: usize = 5;

/// What was asked for; pages after the first five are held back until it is let go.
#[derive(Clone)]
struct Asked {
    log: Arc<Mutex<BTreeMap<String, u32>>>,
    held: tokio::sync::watch::Receiver<bool>,
}

async fn answer(State(mut asked): State<Asked>, uri: Uri) -> impl IntoResponse {
    let path = uri.path().to_owned();
    let page = path.trim_start_matches('/').parse::<usize>().unwrap_or(0);
    *asked.log.lock().unwrap().entry(path).or_default() += 1;
    if page > BEFORE {
        asked.held.wait_for(|held| !*held).await.unwrap();
    }
    let words = "word, ".repeat(400);
    ([(header::CONTENT_TYPE, "text/html")], format!("<h1>Page {page}</h1><p>{words}</p>"))
}

/// A counting server, and what lets its held pages go.
struct Server {
    url: String,
    asked: Asked,
    hold: tokio::sync::watch::Sender<bool>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (hold, held) = tokio::sync::watch::channel(true);
        let asked = Asked { log: Arc::default(), held };
        let router = Router::new().fallback(answer).with_state(asked.clone());
        drop(runtime.spawn(async move { axum::serve(listener, router).await }));
        Self { url, asked, hold, _runtime: runtime }
    }

    fn times(&self, page: usize) -> u32 {
        self.asked.log.lock().unwrap().get(&format!("/{page}")).copied().unwrap_or(0)
    }
}

#[test]
fn twelve_pages_killed_after_the_fifth_are_seven_more() {
    let (server, folder) = (Server::start(), Folder::new());
    let urls: Vec<_> = (1..=PAGES).map(|page| format!("{}/{page}", server.url)).collect();
    let workflow = format!(
        "id: pages\ntasks:\n  - id: read\n    agentName: web\n    action: read\n    input: {{ urls: {} }}\n",
        serde_json::to_string(&urls).unwrap()
    );
    folder.write("workflow.yaml", &workflow);
    folder.write("kapelle.toml", "[web]\ngap = \"0ms\"\n");
    let mut running = folder.start("run workflow.yaml --task-id t --json");
    for _ in 0..BEFORE {
        running.wait_for("effect_recorded", Some("read"));
    }
    running.crash();
    let before: Vec<_> = (1..=PAGES).map(|page| server.times(page)).collect();
    server.hold.send_replace(false);

    let last = folder.run("runs resume t --json --wait").expect(0).last();
    assert_eq!(last["verdict"], "completed", "{last}");
    for page in 1..=PAGES {
        let again = server.times(page) - before[page - 1];
        assert_eq!(again, u32::from(page > BEFORE), "page {page}: {before:?}");
    }
    let store = folder.path().join(".kapelle");
    let journal = std::fs::metadata(store.join("kapelle.db")).unwrap().len();
    assert!(journal < 4 << 20, "{journal} bytes");
}
