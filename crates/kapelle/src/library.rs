//! Kapelle inside another program: open a store, register functions as agents, run, watch.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kapelle_api as api;
use kapelle_core::Json;
use kapelle_core::port::agent::{Action, Agent, Answer, BoxFuture, Call, Card, Desk, Failure};
use kapelle_core::port::{Journal, Nodes};
use kapelle_core::problem::Problem;
use kapelle_core::workflow::Workflow;
use kapelle_engine::Options;
use serde_json::json;

use crate::node::{Node, Place, Reachable, Setup, Store};

/// How long running attempts are waited for by [`Kapelle::close`].
const CLOSE_GRACE: Duration = Duration::from_secs(10);

/// Opens the store in the folder `store` (made if there is none), or `memory` for none.
#[must_use]
pub fn open(store: impl AsRef<Path>) -> Builder {
    let place = match store.as_ref().to_str() {
        Some(text) => Place::named(text),
        None => Place::Folder(store.as_ref().to_path_buf()),
    };
    let (agents, options) = (Vec::new(), Options::default());
    Builder { place, store: None, agents, launcher: None, options }
}

/// The same on a store that is no folder: adapters of core's ports. Without a socket of its own,
/// other processes do not reach this node.
#[must_use]
pub fn open_on(journal: Arc<dyn Journal>, nodes: Arc<dyn Nodes>) -> Builder {
    Builder { store: Some((journal, nodes)), ..open("memory") }
}

/// A node that has not begun.
pub struct Builder {
    place: Place,
    store: Option<Store>,
    agents: Vec<Arc<dyn Agent>>,
    launcher: Option<PathBuf>,
    options: Options,
}

impl Builder {
    /// Registers an async function as the agent `name`. Its error is a definite failure: `Failure`
    /// says whether it is worth another attempt. For more than an answer, see [`agent_fn`].
    #[must_use]
    pub fn agent<F, Fut>(self, name: &str, work: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Json, Failure>> + Send + 'static,
    {
        self.register(Arc::new(Plain { card: card(name), work }))
    }

    /// Registers any agent. One of the same name, a built-in one too, is replaced.
    #[must_use]
    pub fn register(mut self, agent: Arc<dyn Agent>) -> Self {
        self.agents.push(agent);
        self
    }

    /// Registers the agent `process`, whose children run under `executable`: a `kapelle` binary.
    #[must_use]
    pub fn processes(mut self, executable: impl Into<PathBuf>) -> Self {
        self.launcher = Some(executable.into());
        self
    }

    /// How many attempts go on at once.
    #[must_use]
    pub const fn slots(mut self, slots: u32) -> Self {
        self.options.slots = slots;
        self
    }

    /// Opens the store and begins. Needs a tokio runtime.
    pub async fn start(self) -> Result<Kapelle, Error> {
        // A program of somebody else ends when it likes: a poisoned store is the error of every answer.
        let setup = Setup {
            store: self.store,
            options: self.options,
            launcher: self.launcher,
            agents: self.agents,
            ..Setup::plain(self.place, Reachable::Yes)
        };
        let node = Node::open(setup).await.map_err(|error| Error::Open(error.to_string()))?;
        let client = node.app.client();
        Ok(Kapelle { node, client })
    }
}

/// A node of a store, in this process.
pub struct Kapelle {
    node: Node,
    client: api::Client,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used, or an agent's schema is none.
    #[error("{0}")]
    Open(String),
    /// The workflow has problems: all of them, errors and warnings.
    #[error("the workflow cannot run: {}", .0.first().map_or("", |problem| &*problem.message))]
    Workflow(Vec<Problem>),
    /// The node says no.
    #[error(transparent)]
    Node(#[from] api::client::Error),
}

impl Kapelle {
    /// Runs a workflow (YAML or JSON text) and works on it here; durable when this returns.
    pub async fn run(&self, workflow: &str, inputs: Json) -> Result<Running, Error> {
        let read =
            Workflow::read("workflow", workflow.as_bytes(), Some(&self.node.engine().agents()));
        let Some(workflow) = read.workflow else { return Err(Error::Workflow(read.problems)) };
        let plan = serde_json::to_value(&workflow.plan).expect("a plan is JSON");
        self.submit(&api::NewRun { plan: Some(plan), inputs, ..api::NewRun::default() }).await
    }

    /// Submits a run with all that can be said of one.
    pub async fn submit(&self, new: &api::NewRun) -> Result<Running, Error> {
        let submitted = self.client.submit(new).await?;
        let events = self.client.events(&submitted.id, 0);
        Ok(Running { id: submitted.id, events })
    }

    /// Goes on with a run that was left behind or paused, and works on it here.
    pub async fn resume(&self, run: &str) -> Result<Running, Error> {
        let told = self.client.resume(run, &api::Wish::default()).await?;
        let events = self.client.events(&told.id, 0);
        Ok(Running { id: told.id, events })
    }

    /// Everything else that can be asked of a node.
    #[must_use]
    pub const fn client(&self) -> &api::Client {
        &self.client
    }

    /// Waits for running attempts (at most ten seconds) and leaves. Dropped instead, it stops at
    /// once; either way whoever opens the store next goes on.
    pub async fn close(self) -> Result<(), Error> {
        let closed = self.node.close(CLOSE_GRACE).await;
        closed.map_err(|error| Error::Open(error.to_string()))
    }
}

/// A run that is being watched.
pub struct Running {
    id: String,
    events: api::client::Events,
}

impl Running {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<Result<api::Event, Error>> {
        Some(self.events.next().await?.map_err(Error::from))
    }

    /// Reads all events to the end; the last one, with verdict and output.
    pub async fn finish(mut self) -> Result<api::Event, Error> {
        let mut last = None;
        while let Some(event) = self.next().await {
            last = Some(event?);
        }
        last.ok_or_else(|| Error::Open("the run has no events".to_owned()))
    }
}

/// An agent with one action, `run`, that takes any input: a function that gets the call and the desk.
///
/// ```
/// use kapelle::{Answer, agent_fn};
///
/// let agent = agent_fn("shout", |call, desk| {
///     Box::pin(async move {
///         desk.progress(kapelle::Progress { message: Some("shouting".into()), fraction: None });
///         Ok(Answer { value: call.input, ..Answer::default() })
///     })
/// });
/// assert_eq!(&*agent.card().name, "shout");
/// ```
pub fn agent_fn<F>(name: &str, work: F) -> Arc<dyn Agent>
where
    F: for<'a> Fn(Call, &'a dyn Desk) -> BoxFuture<'a, Result<Answer, Failure>>
        + Send
        + Sync
        + 'static,
{
    Arc::new(Function { card: card(name), work })
}

struct Function<F> {
    card: Card,
    work: F,
}

#[async_trait]
impl<F> Agent for Function<F>
where
    F: for<'a> Fn(Call, &'a dyn Desk) -> BoxFuture<'a, Result<Answer, Failure>> + Send + Sync,
{
    fn card(&self) -> &Card {
        &self.card
    }

    async fn perform(&self, call: Call, desk: &dyn Desk) -> Result<Answer, Failure> {
        (self.work)(call, desk).await
    }
}

struct Plain<F> {
    card: Card,
    work: F,
}

#[async_trait]
impl<F, Fut> Agent for Plain<F>
where
    F: Fn(Call) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Json, Failure>> + Send,
{
    fn card(&self) -> &Card {
        &self.card
    }

    async fn perform(&self, call: Call, _desk: &dyn Desk) -> Result<Answer, Failure> {
        Ok(Answer { value: (self.work)(call).await?, ..Answer::default() })
    }
}

fn card(name: &str) -> Card {
    Card {
        name: name.into(),
        description: "a function of the program".into(),
        actions: vec![Action {
            name: "run".into(),
            description: "calls the function".into(),
            input: json!(true),
            output: json!(true),
        }],
        concurrency_max: None,
    }
}
