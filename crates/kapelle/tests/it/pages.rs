//! A server of pages that counts what it is asked for, and can hold back some.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::IntoResponse;

/// Pages, from 1.
type Pages = Arc<Vec<Vec<u8>>>;

#[derive(Clone)]
struct Shelf {
    pages: Pages,
    asked: Arc<Mutex<BTreeMap<usize, u32>>>,
    /// Pages after this one are held back until it is let go.
    held: tokio::sync::watch::Receiver<Option<usize>>,
}

async fn answer(State(mut shelf): State<Shelf>, uri: Uri) -> impl IntoResponse {
    let page = uri.path().trim_start_matches('/').parse::<usize>().unwrap_or(0);
    *shelf.asked.lock().unwrap().entry(page).or_default() += 1;
    shelf.held.wait_for(|held| held.is_none_or(|last| page <= last)).await.unwrap();
    let body = page.checked_sub(1).and_then(|at| shelf.pages.get(at)).cloned();
    ([(header::CONTENT_TYPE, "text/html")], body.unwrap_or_default())
}

pub(crate) struct Server {
    url: String,
    shelf: Shelf,
    hold: tokio::sync::watch::Sender<Option<usize>>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub(crate) fn start(pages: Vec<Vec<u8>>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (hold, held) = tokio::sync::watch::channel(None);
        let shelf = Shelf { pages: Arc::new(pages), asked: Arc::default(), held };
        let router = Router::new().fallback(answer).with_state(shelf.clone());
        drop(runtime.spawn(async move { axum::serve(listener, router).await }));
        Self { url, shelf, hold, _runtime: runtime }
    }

    /// The addresses of all pages.
    pub(crate) fn urls(&self) -> Vec<String> {
        (1..=self.shelf.pages.len()).map(|page| format!("{}/{page}", self.url)).collect()
    }

    /// Holds back the pages after `last`; with `None` none.
    pub(crate) fn hold_after(&self, last: Option<usize>) {
        self.hold.send_replace(last);
    }

    /// How often each page was asked for, from the first.
    pub(crate) fn asked(&self) -> Vec<u32> {
        let asked = self.shelf.asked.lock().unwrap();
        let pages = 1..=self.shelf.pages.len();
        pages.map(|page| asked.get(&page).copied().unwrap_or(0)).collect()
    }
}
