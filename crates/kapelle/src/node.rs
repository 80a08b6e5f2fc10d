//! This process as a node: a store, an engine on it, and the routes that lead there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kapelle_agents::egress::Policy;
use kapelle_agents::files::Shelf;
use kapelle_agents::memory::Settings as Remembering;
use kapelle_agents::model::tool::Tools;
use kapelle_agents::model::tools::{Commands, Limits, Reserved, lent, run_command};
use kapelle_agents::provider::Models;
use kapelle_agents::web::Settings as Web;
use kapelle_agents::{Memory as Memories, Web as Pages};
use kapelle_core::port::agent::BadCard;
use kapelle_core::port::{Agent, Agents, Journal, Nodes, journal};
use kapelle_engine::{Engine, Options, Parts};
use kapelle_store::{Alone, Member, Memory, Sqlite};

use crate::cassette::Tape;
use crate::roster::Roster;
use crate::server::Upkeep;
use crate::server::rooms::Space;
use crate::server::roots::Roots;
use crate::server::socket::Socket;
use crate::server::{App, Kept};
use crate::workers::registry::Registry;

/// Where runs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a folder.
    Folder(PathBuf),
    /// Nowhere: they end with the process.
    Memory,
}

impl Place {
    /// The place that a text names: `memory`, or a folder.
    pub(crate) fn named(text: &str) -> Self {
        match text {
            "memory" => Self::Memory,
            "" => Self::Folder(".kapelle".into()),
            folder => Self::Folder(folder.into()),
        }
    }

    /// The folder, if it is one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Memory => None,
        }
    }
}

/// Why a node cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] journal::Error),
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] kapelle_engine::Error),
    /// An agent cannot be registered.
    #[error(transparent)]
    Agent(#[from] BadCard),
}

/// What a node is put together from.
pub(crate) struct Setup {
    pub(crate) place: Place,
    /// The store itself, instead of one in `place`.
    pub(crate) store: Option<Store>,
    pub(crate) options: Options,
    /// The executable that runs the children of process agents; without it there are none.
    pub(crate) launcher: Option<PathBuf>,
    /// How pages are read.
    pub(crate) web: Web,
    /// The models that can be asked.
    pub(crate) models: Models,
    /// What agents that think may call.
    pub(crate) tools: Tools,
    /// What they do not see, or not change.
    pub(crate) reserved: Arc<Reserved>,
    /// Agents beside those that ship.
    pub(crate) agents: Vec<Arc<dyn Agent>>,
    /// Agents of files.
    pub(crate) shelf: Arc<Shelf>,
    /// Where outside calls are recorded, or answered from.
    pub(crate) tape: Option<Arc<Tape>>,
    /// Where runs from the network may begin.
    pub(crate) roots: Vec<PathBuf>,
    /// How streams are kept up.
    pub(crate) upkeep: Upkeep,
    /// What there is room for.
    pub(crate) space: Space,
    /// Where requests of its agents may go.
    pub(crate) egress: Policy,
    /// Whether other processes can reach it.
    pub(crate) reachable: Reachable,
    /// Whether workers come to it.
    pub(crate) has_workers: bool,
    /// What to do as soon as the store must not be touched any more.
    pub(crate) on_poisoned: Option<fn(&journal::Error)>,
}

impl Setup {
    /// One of nothing but what ships, without processes.
    pub(crate) fn plain(place: Place, reachable: Reachable) -> Self {
        Self {
            place,
            store: None,
            options: Options::default(),
            launcher: None,
            web: Web::default(),
            models: Models::default(),
            tools: Tools::default(),
            reserved: Arc::default(),
            agents: Vec::new(),
            shelf: Arc::default(),
            tape: None,
            roots: Vec::new(),
            upkeep: Upkeep::default(),
            space: Space::default(),
            egress: Policy::Operator,
            reachable,
            has_workers: true,
            on_poisoned: None,
        }
    }
}

/// A journal, and who works on it.
pub(crate) type Store = (Arc<dyn Journal>, Arc<dyn Nodes>);

/// Whether other processes can reach a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reachable {
    /// Over its socket.
    Yes,
    /// It leaves soon.
    No,
    /// The same, and it only reads: the store is opened for that alone where that is possible.
    Reads,
}

/// This process as a node, until it is closed.
pub(crate) struct Node {
    pub(crate) app: App,
    pub(crate) place: Place,
    socket: Option<Socket>,
    /// The store, if it is to be closed with the node.
    store: Option<Arc<Sqlite>>,
}

impl Node {
    /// Opens the store and starts the engine. A folder is made if there is none.
    pub(crate) async fn open(setup: Setup) -> Result<Self, Error> {
        let mut socket = None;
        let mut kids = None;
        let mut opened = None;
        let mut kept = None;
        let store = match (setup.reachable, setup.place.folder()) {
            (Reachable::Reads, Some(dir)) if setup.store.is_none() => reading(dir)?.map(|store| {
                kept = Some(Kept::of(store.clone()));
                (store as Arc<dyn Journal>, Arc::new(Member::look(dir)) as Arc<dyn Nodes>)
            }),
            _ => setup.store,
        };
        let (journal, nodes): Store = match (store, &setup.place) {
            (Some(store), _) => store,
            (None, Place::Memory) => (Arc::new(Memory::new()), Arc::new(Alone::new())),
            (None, Place::Folder(dir)) => {
                let store = Arc::new(Sqlite::open(dir)?);
                if let Some(end) = setup.on_poisoned {
                    store.on_poisoned(end);
                }
                opened = Some(Arc::clone(&store));
                kept = Some(Kept::of(store.clone()));
                if setup.reachable == Reachable::Yes {
                    let bind = || Socket::bind(dir).map_err(|error| no_socket(dir, &error));
                    socket = Some(with_room(&store, bind)?);
                }
                let path = socket.as_ref().map(Socket::path);
                let member = with_room(&store, || Member::join(dir, path))?;
                kids = Some(std::path::absolute(member.kids_file()).unwrap_or(member.kids_file()));
                (store, Arc::new(member))
            }
        };
        let memory = Arc::new(Memories::new(memory(setup.place.folder())));
        let egress = setup.egress;
        let launcher = setup.launcher.clone().unwrap_or_default();
        let tools = with_lent(setup.tools, &setup.web, &memory);
        let tools = match setup.launcher.clone() {
            Some(launcher) => {
                let (kids, reserved, limits) = (kids.clone(), setup.reserved, Limits::default());
                tools.with(run_command(Commands { launcher, kids, reserved, limits }))
            }
            None => tools,
        };
        if let Some(dir) = setup.place.folder() {
            setup.models.keep_waits_in(dir.join("pace"));
        }
        let (web, models, tools) = (setup.web, Arc::new(setup.models), Arc::new(tools));
        let (asked, called) = (Arc::clone(&models), Arc::clone(&tools));
        let built_in =
            kapelle_agents::Options { launcher, kids, egress, web, memory, models, tools };
        let built_in = built_in_agents(setup.launcher.is_some(), built_in);
        let roster = Roster::new(built_in, setup.agents, setup.shelf, (asked, called), setup.tape);
        let kept = kept.unwrap_or_else(|| Kept::of(Arc::new(Memory::new())));
        let registry = Registry::new(kept.records.clone(), setup.has_workers);
        registry.read().await?;
        let mut agents = roster.agents()?;
        registry.add_to(&mut agents);
        let engine = Engine::open(Parts { journal, nodes, agents }, setup.options).await?;
        let folder = setup.place.folder().map(Path::to_path_buf);
        let own = folder.as_ref().and_then(|folder| std::path::absolute(folder).ok());
        let roots = Roots { named: setup.roots, own: own.map(|own| own.join("files")) };
        let app =
            App::new(engine, folder, (roster, registry), kept, (roots, setup.upkeep, setup.space));
        if let Some(socket) = &mut socket {
            socket.serve(crate::server::router(app.clone()));
        }
        Ok(Self { app, place: setup.place, socket, store: opened })
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Engine {
        self.app.engine()
    }

    /// Waits at most `grace` for what goes on, then gives up the shards and leaves.
    pub(crate) async fn close(self, grace: Duration) -> Result<(), kapelle_engine::Error> {
        self.app.leave_workers();
        let drained = self.engine().drain(grace).await;
        if let Some(socket) = self.socket {
            socket.close().await;
        }
        self.app.audit().flush().await;
        drained?;
        if let Some(store) = self.store {
            let closed = tokio::task::spawn_blocking(move || store.close()).await;
            closed.expect("it does not panic")?;
        }
        Ok(())
    }
}

/// The store in `dir` for somebody who only reads; `None` if it has to be made ready first.
fn reading(dir: &Path) -> Result<Option<Arc<Sqlite>>, journal::Error> {
    Ok(Sqlite::open_reader(dir)?.map(Arc::new))
}

/// Where memory is kept: beside the journal, in a file of its own.
pub(crate) fn memory_file(folder: &Path) -> PathBuf {
    folder.join("memory.db")
}

fn memory(folder: Option<&Path>) -> Remembering {
    let file = folder.map(memory_file);
    let file = file.map(|file| std::path::absolute(&file).unwrap_or(file));
    Remembering { file, ..Remembering::default() }
}

/// The same tools, and those that agents lend. Where a model wants to read is no wish of the operator:
/// it is led nowhere but into the world.
fn with_lent(tools: Tools, web: &Web, memory: &Arc<Memories>) -> Tools {
    let reader = Pages::new(Policy::Global, web.clone());
    let memory: Arc<dyn Agent> = memory.clone();
    lent(reader, &memory).into_iter().fold(tools, Tools::with)
}

/// The agents that ship, without `process` where nothing runs its children.
fn built_in_agents(has_launcher: bool, options: kapelle_agents::Options) -> Vec<Arc<dyn Agent>> {
    let mut agents = kapelle_agents::built_in(options);
    agents.retain(|agent| has_launcher || &*agent.card().name != "process");
    agents
}

/// The agents that ship and those of files, without a node: for checking workflows.
pub(crate) fn known_agents(shelf: &Arc<Shelf>) -> Agents {
    let built_in = kapelle_agents::Options {
        launcher: PathBuf::new(),
        kids: None,
        egress: Policy::Operator,
        web: Web::default(),
        memory: Memories::new(Remembering::default()).into(),
        models: Arc::default(),
        tools: Arc::default(),
    };
    let built_in = built_in_agents(true, built_in);
    let roster = Roster::new(built_in, Vec::new(), shelf.clone(), Default::default(), None);
    roster.agents().expect("the schemas of our own agents are right")
}

/// What `make` gives, on a full disk with what the store keeps for that: who wants to say a word to
/// a run has to be a node first.
fn with_room<T>(
    store: &Sqlite,
    make: impl Fn() -> Result<T, journal::Error>,
) -> Result<T, journal::Error> {
    match make() {
        Err(journal::Error::Full { .. }) if store.make_room() => make(),
        made => made,
    }
}

fn no_socket(dir: &Path, error: &std::io::Error) -> journal::Error {
    use std::io::ErrorKind;
    let file = dir.join("nodes").display().to_string().into();
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        return journal::Error::Full { file };
    }
    let message = format!("no socket can be made there: {error}; choose a folder on a local disk");
    journal::Error::Unavailable { file, message: message.into() }
}
