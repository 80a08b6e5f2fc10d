//! `web`: reads pages, of the web and of files, without a browser.
//!
//! **Invariants:** each page is a recorded effect: what was read once is not fetched again, whatever
//! becomes of the step. Every page ends within the limits of bytes, elements and time, and all of a
//! call within a limit of bytes. A host is asked at a pace, and not for what its `robots.txt` forbids,
//! also where a redirect leads to it. A file is read only below the run's
//! folder or a root that the operator named.
//!
//! Absent: scripts, sessions, cookies. From bytes to answer: `fetch`, `page`, and below it
//! `charset`, `doctype`, `tree`, `content`, `write`.

mod charset;
mod content;
mod doctype;
mod fetch;
mod file;
mod front;
mod gathered;
mod input;
mod language;
mod pace;
mod page;
mod parts;
mod patience;
mod refresh;
mod robots;
mod schema;
mod sheet;
mod tag;
mod tree;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use kapelle_core::Json;
use kapelle_core::port::agent::{
    Agent, Answer, BoxFuture, Call, Card, Desk, Effect, Failure, FailureKind, Progress, Safety,
};
use serde_json::json;
use tokio::sync::Semaphore;
use url::Url;

use crate::egress::{Egress, Hosts, Limits, Policy};
use crate::input::{cancelled, invalid};
use fetch::{Fetcher, Road};
use gathered::Gathered;
use input::{Input, Target};

/// How many pages of a step are asked for at once, over all hosts.
const AT_ONCE: usize = 8;

/// How pages are read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folders besides the run's own below which files may be read.
    pub roots: Vec<PathBuf>,
    /// How many requests go on at once to one host.
    pub at_once: usize,
    /// How long to wait between two requests to one host.
    pub gap: Duration,
    /// How long a page may take to arrive.
    pub page_time: Duration,
    /// The longest page, decompressed, in bytes.
    pub page_max: usize,
    /// How long a page is waited for whose host has too much to do, or asks to be left alone.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            at_once: 2,
            gap: Duration::from_millis(200),
            page_time: Duration::from_secs(30),
            page_max: 8 << 20,
            patience: Duration::from_secs(5),
        }
    }
}

/// What is read of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Read,
    Links,
    Headings,
}

impl Action {
    const ALL: [Self; 3] = [Self::Read, Self::Links, Self::Headings];

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Links => "links",
            Self::Headings => "headings",
        }
    }
}

/// What came of a URL.
#[derive(Debug)]
struct Fetched {
    /// Where it came from in the end.
    url: Url,
    bytes: Bytes,
    media: Media,
    /// What the server says of the charset.
    charset: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Html,
    Markdown,
    Text,
}

/// What is at an address.
#[derive(Debug)]
enum Found {
    /// What was asked for.
    Page(Json),
    /// Nothing but where it is now.
    Lead(Url),
}

/// Reads pages. Clones keep one pace together.
#[derive(Clone, Debug)]
pub struct Web {
    card: Card,
    fetcher: Arc<Fetcher>,
    /// The hosts that may be asked; `None`: all.
    hosts: Option<Hosts>,
    /// Who may take a page apart: as many as there are cores.
    readers: Arc<Semaphore>,
}

impl Web {
    /// The agent; its requests go where `policy` lets them.
    #[must_use]
    pub fn new(policy: Policy, settings: Settings) -> Self {
        let limits = Limits {
            idle: settings.page_time,
            body_max: settings.page_max,
            redirects_max: fetch::LEADS_MAX,
            ..Limits::default()
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let card = Card {
            name: "web".into(),
            description: "Reads pages of the web and of files, without a browser".into(),
            actions: Action::ALL.map(schema::action).into(),
            concurrency_max: None,
        };
        let egress = Egress::with_limits(policy, limits);
        let fetcher = Arc::new(Fetcher::new(egress, settings));
        Self { card, fetcher, hosts: None, readers: Arc::new(Semaphore::new(cores)) }
    }

    /// The same, which asks no host but these, wherever it is sent.
    #[must_use]
    pub fn only(&self, hosts: Hosts) -> Self {
        Self { hosts: Some(hosts), ..self.clone() }
    }

    /// Reads one page: the work of its effect.
    async fn page(&self, target: Target, action: Action) -> Result<Json, Failure> {
        let mut road = self.fetcher.road(target, self.hosts.clone());
        loop {
            match self.look(&mut road, action).await? {
                Found::Page(page) => return Ok(page),
                Found::Lead(to) => self.fetcher.lead(&mut road, to)?,
            }
        }
    }

    /// Looks at what is at the end of `road`.
    async fn look(&self, road: &mut Road, action: Action) -> Result<Found, Failure> {
        let fetcher = Arc::clone(&self.fetcher);
        let get: Box<dyn FnOnce() -> Result<Fetched, Failure> + Send> = match road {
            Road::Web { way, time } => {
                let fetched = fetcher.fetch(way, time).await?;
                Box::new(move || Ok(fetched))
            }
            Road::File { path, root, .. } => {
                let (path, root) = (path.clone(), root.clone());
                Box::new(move || fetcher.open(&path, root.as_deref()))
            }
        };
        let permit = Arc::clone(&self.readers).acquire_owned().await;
        let permit = permit.expect("it is never closed");
        let read = tokio::task::spawn_blocking(move || {
            // Held until the work has ended, also when nobody waits for it any more.
            let _permit = permit;
            let fetched = get()?;
            page::read(&fetched, action)
        });
        let died = |_| Failure::new(FailureKind::Bug, "panic", "the page could not be read");
        read.await.map_err(died)?
    }
}

#[async_trait]
impl Agent for Web {
    fn card(&self) -> &Card {
        &self.card
    }

    fn is_one_service(&self) -> bool {
        false
    }

    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        let Some(action) = Action::ALL.into_iter().find(|action| action.name() == &*call.action)
        else {
            let message = format!("`web` has no action `{}`", call.action);
            return Err(invalid("no_such_action", message));
        };
        let input = Input::read(&call)?;
        let value = tokio::select! {
            value = self.pages(&input, action, desk) => value?,
            () = desk.cancelled() => return Err(cancelled()),
        };
        let engine = Some("rules".into());
        Ok(Answer { value, engine, ..Answer::default() })
    }
}

impl Web {
    async fn pages(&self, input: &Input, action: Action, desk: &dyn Desk) -> Result<Json, Failure> {
        let (all, done) = (input.targets.len(), AtomicUsize::new(0));
        // All are named before the first is begun: the number of each must not depend on the order
        // in which they end.
        let pages: Vec<_> = input
            .targets
            .iter()
            .map(|(given, target)| {
                let page = self.effect(target.clone(), action, desk);
                let done = &done;
                async move {
                    let page = page.await;
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    let message = format!("{done} of {all}: {given}");
                    let fraction = Some(done as f64 / all as f64);
                    desk.progress(Progress { message: Some(message.into()), fraction });
                    page
                }
            })
            .collect();
        let mut ends = stream::iter(pages).buffered(AT_ONCE);
        let mut gathered = Gathered::new(input);
        while let Some(end) = ends.next().await {
            if !gathered.take(end)? {
                break;
            }
        }
        gathered.end()
    }

    fn effect<'a>(
        &'a self,
        target: Target,
        action: Action,
        desk: &'a dyn Desk,
    ) -> BoxFuture<'a, Result<Json, Failure>> {
        let name = format!("web.{}", action.name()).into();
        let input = json!({"url": target.name()});
        let effect = Effect { name, safety: Safety::Repeatable, input };
        desk.effect(effect, Box::new(move |_key| Box::pin(self.page(target, action))))
    }
}
