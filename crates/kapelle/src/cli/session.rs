//! Opening the store that a command is about.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kapelle_agents::egress::Policy;
use kapelle_agents::files::Shelf;
use kapelle_agents::model::tools::Reserved;
use kapelle_api::Client;
use kapelle_core::plan::{Plan, analyze};
use kapelle_core::port::{Agents, journal};
use kapelle_engine::{Adopt, Limits, Options};

use super::exit::{Exit, Stop};
use super::{agent_folders, out};
use crate::cassette::Tape;
use crate::config::{self, Config};
use crate::node::{self, Node, Place, Reachable, Setup};

/// What holds for every command.
pub(crate) struct Settings {
    pub(crate) place: Place,
    pub(crate) config: Config,
    /// What was named: what is printed for the user to type has to name it too.
    named: Named,
    shelf: Arc<Shelf>,
}

/// What the arguments name.
pub(crate) struct Named {
    pub(crate) store: Option<String>,
    pub(crate) server: Option<Server>,
    pub(crate) config_file: Option<PathBuf>,
    /// Folders of agent files.
    pub(crate) agents: Vec<PathBuf>,
    /// The workflows that it is about.
    pub(crate) workflows: Vec<PathBuf>,
}

/// A server that is asked instead of a store on this machine.
pub(crate) struct Server {
    url: String,
    client: Client,
}

impl Server {
    /// The one at `url`, with the key of the environment. A command that is about this machine has no use for it.
    pub(crate) fn named(url: &str, here: Option<&str>) -> Result<Self, Stop> {
        if let Some(command) = here {
            return Err(Stop::usage(format!(
                "`{command}` is about this machine: leave out `--server` and `KAPELLE_SERVER`"
            )));
        }
        let known = url::Url::parse(url).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
        });
        if !known {
            let message =
                "`--server` is a URL such as `http://127.0.0.1:4700`; its key is in `KAPELLE_KEY`";
            return Err(Stop::usage(message));
        }
        let key = std::env::var("KAPELLE_KEY").ok().filter(|key| !key.is_empty());
        let client = Client::url(url, key.as_deref());
        Ok(Self { url: url.to_owned(), client })
    }
}

impl Settings {
    pub(crate) fn new(config: Config, named: Named) -> Result<Self, Stop> {
        let place = Place::named(named.store.as_ref().unwrap_or(&config.store));
        let shelf = Arc::new(Shelf::new(agent_folders::all(&named.agents)?));
        Ok(Self { place, config, named, shelf })
    }

    /// The server to ask, if it is not a store on this machine.
    pub(crate) fn server(&self) -> Option<&Client> {
        self.named.server.as_ref().map(|server| &server.client)
    }

    /// The agents that a workflow can name.
    pub(crate) fn known_agents(&self) -> Agents {
        node::known_agents(&self.shelf)
    }

    /// Warns of agents of files that do steps of `plan` in the place of agents that ship: whoever has written the
    /// workflow may have meant those.
    pub(crate) fn tell_shadowed(&self, plan: &Plan) {
        let (shelved, shipped) = (self.shelf.look(), node::known_agents(&Arc::default()));
        let steps = analyze(plan).steps;
        let named: BTreeSet<&str> = steps.iter().filter_map(|step| step.agent.as_deref()).collect();
        for agent in &shelved.agents {
            let (name, file) = (&*agent.definition.name, agent.file.display());
            if named.contains(name) && shipped.get(name).is_some() {
                out::say(&format!(
                    "warning: `{name}` is what `{file}` says, and not the agent that ships under this name"
                ));
            }
        }
    }

    /// A command line of ours about the same store.
    pub(crate) fn command(&self, rest: &str) -> String {
        match (&self.named.server, &self.named.store) {
            (Some(server), _) => format!("kapelle --server {} {rest}", quoted(&server.url)),
            (None, Some(store)) => format!("kapelle --store {} {rest}", quoted(store)),
            (None, None) => format!("kapelle {rest}"),
        }
    }

    /// The configuration file that was read, if there was one.
    pub(crate) fn config_file(&self) -> Option<&std::path::Path> {
        self.named.config_file.as_deref()
    }

    /// The arguments that make another process see the same store and configuration.
    pub(crate) fn arguments(&self) -> Vec<std::ffi::OsString> {
        let mut arguments = Vec::new();
        if let Some(store) = &self.named.store {
            arguments.extend(["--store".into(), store.into()]);
        }
        if let Some(file) = &self.named.config_file {
            arguments.extend(["--config".into(), file.into()]);
        }
        for folder in &self.named.agents {
            arguments.extend(["--agents".into(), folder.into()]);
        }
        arguments
    }

    /// What models' tools and commands do not see (files with keys, the store, the cassette), or not change
    /// (what we obey).
    fn reserved(&self, place: &Place, tape: Option<&Tape>) -> Reserved {
        let keys = self.config.providers.values().filter_map(|provider| provider.key_file.clone());
        let tape = tape.map(|tape| tape.file().to_path_buf());
        let agents = self.shelf.folders().iter().cloned();
        let config = self.named.config_file.clone().unwrap_or_else(|| config::FILE.into());
        let own = std::iter::once(config).chain(self.named.workflows.iter().cloned());
        let (secret, obeyed) = (keys.chain(tape).collect(), own.chain(agents).collect());
        Reserved { secret, obeyed, store: place.folder().map(Path::to_path_buf) }
    }

    /// This process as a node that works on what it is asked for; the store is made if there is none.
    pub(crate) async fn open(&self) -> Result<Node, Stop> {
        self.open_with(None).await
    }

    /// The same with a cassette for outside calls.
    pub(crate) async fn open_with(&self, tape: Option<Arc<Tape>>) -> Result<Node, Stop> {
        self.start(self.place.clone(), Reachable::Yes, self.options(), tape).await
    }

    /// The same where nobody watches what it does.
    pub(crate) async fn open_unwatched(&self) -> Result<Node, Stop> {
        let options = Options { watched: false, ..self.options() };
        self.start(self.place.clone(), Reachable::Yes, options, None).await
    }

    /// The same for a node that stays: it works on all there is.
    pub(crate) async fn open_to_serve(&self) -> Result<Node, Stop> {
        let options = Options { watched: false, adopt: Adopt::All, ..self.options() };
        self.start(self.place.clone(), Reachable::Yes, options, None).await
    }

    /// The same on a store that must be there.
    pub(crate) async fn look_to_work(&self) -> Result<Node, Stop> {
        self.expect_store()?;
        self.open().await
    }

    /// The same for a command that is done at once: nobody will ask it for anything.
    pub(crate) async fn look(&self) -> Result<Node, Stop> {
        self.expect_store()?;
        self.start(self.place.clone(), Reachable::No, self.options(), None).await
    }

    /// The same for one that only reads: beside a locked store too, a read-only or a full one.
    async fn read(&self) -> Result<Node, Stop> {
        self.expect_store()?;
        self.start(self.place.clone(), Reachable::Reads, self.options(), None).await
    }

    /// Refuses to go on where there is no store.
    pub(crate) fn expect_store(&self) -> Result<(), Stop> {
        if let Some(folder) = self.place.folder()
            && !folder.join("kapelle.db").exists()
            && !folder.is_file()
        {
            return Err(Stop::new(Exit::Store, no_database(folder)));
        }
        Ok(())
    }

    /// A node without a store.
    pub(crate) async fn without_store(&self) -> Result<Node, Stop> {
        self.start(Place::Memory, Reachable::No, self.options(), None).await
    }

    fn options(&self) -> Options {
        let node = &self.config.node;
        let loops = (node.loops > 0).then_some(node.loops);
        let limits = self.config.budgets.limits();
        Options { loops, slots: node.slots, watched: true, limits, ..Options::default() }
    }

    async fn start(
        &self,
        place: Place,
        reachable: Reachable,
        options: Options,
        tape: Option<Arc<Tape>>,
    ) -> Result<Node, Stop> {
        let launcher = std::env::current_exe()?;
        let (agents, web) = (Vec::new(), self.config.web.settings());
        // Who only reads starts no step, and need not wait for thousands of files.
        let reads = reachable == Reachable::Reads;
        let shelf = if reads { Arc::default() } else { self.shelf.clone() };
        let plays = tape.as_ref().is_some_and(|tape| tape.plays());
        let config = &self.config;
        // What is played is paid already, and no limit of all runs holds it up.
        let limits = if plays { Limits::default() } else { options.limits.clone() };
        let options = Options { limits, ..options };
        let models = if plays { config.asked_by_nobody() } else { config.asked() };
        let models = models.map_err(|error| Stop::new(Exit::Config, error))?;
        let reserved = Arc::new(self.reserved(&place, tape.as_deref()));
        // Workers come to those that stay, and so do the wishes of others.
        let has_workers = options.adopt == Adopt::All;
        let setup = Setup {
            place,
            store: None,
            options,
            launcher: Some(launcher),
            web,
            models,
            tools: self.config.models.tools(&reserved),
            reserved,
            agents,
            shelf,
            tape,
            roots: self.config.server.roots.clone(),
            upkeep: self.config.server.upkeep(),
            space: self.config.server.space(),
            egress: if has_workers { self.config.server.egress() } else { Policy::Operator },
            reachable,
            has_workers,
            on_poisoned: Some(end_at_once),
        };
        Ok(Node::open(setup).await?)
    }
}

/// What it means that there is no database in `folder`: no store, or one that has lost it.
fn no_database(folder: &Path) -> String {
    let mut left = ["kapelle.db-wal", "ends", "payloads"].map(|name| folder.join(name)).to_vec();
    left.retain(|path| path.exists());
    let folder = folder.display();
    if left.is_empty() {
        return format!(
            "there is no store in `{folder}`: `kapelle run` makes one, `--store` names another"
        );
    }
    let left: Vec<_> = left.iter().map(|path| format!("`{}`", path.display())).collect();
    format!(
        "`{folder}/kapelle.db` is gone, but there is what belonged to it: {}; nothing was changed; put \
         it back, or restore the whole folder from a backup",
        left.join(", ")
    )
}

/// Ends this process: nobody knows what the disk holds, so there is nothing to say to it, nothing to
/// acknowledge, and nobody to wait for. Children of agents end as they do when it is killed.
fn end_at_once(error: &journal::Error) {
    out::say(&format!("error: {error}"));
    std::process::exit(Exit::Store as i32);
}

/// Does `work` with a client of the server or the store, and leaves.
pub(crate) async fn with_client<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&Client, Option<&Node>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    served_by(settings, settings.look(), work).await
}

/// The same for work that only reads.
pub(crate) async fn with_reader<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&Client, Option<&Node>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    served_by(settings, settings.read(), work).await
}

/// The same for work that makes the store if there is none.
pub(crate) async fn with_store<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&Client, Option<&Node>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    served_by(settings, settings.open(), work).await
}

/// `node` is opened only where no server is named.
async fn served_by<T>(
    settings: &Settings,
    node: impl Future<Output = Result<Node, Stop>>,
    work: impl AsyncFnOnce(&Client, Option<&Node>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    if let Some(client) = settings.server() {
        return work(client, None).await;
    }
    let node = node.await?;
    let done = work(&node.app.client(), Some(&node)).await;
    node.close(std::time::Duration::ZERO).await?;
    done
}

/// `text` as a word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
