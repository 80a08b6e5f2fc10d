//! The agents that ship with Kapelle: `echo`, `process`, `http`, `web`, `memory`, `model`, and those
//! that work by rules.
//!
//! **Invariant:** an agent reports; it never retries, times out or logs a failure it returns.
//! Every outgoing HTTP request goes through [`egress`]; every process runs under [`child`].
//!
//! What is promised of any agent is in [`contract`]; a desk without an engine is in [`desk`].

pub mod child;
pub mod contract;
pub mod desk;
mod echo;
pub mod egress;
pub mod files;
mod http;
mod input;
pub mod memory;
pub mod model;
mod names;
mod process;
pub mod provider;
mod rules;
mod text;
pub mod web;

use std::path::PathBuf;
use std::sync::Arc;

use kapelle_core::port::Agent;

pub use echo::Echo;
pub use http::Http;
pub use memory::Memory;
pub use model::Model;
pub use process::Process;
pub use web::Web;

/// What the built-in agents need to know of the node.
#[derive(Clone)]
pub struct Options {
    /// The executable that calls [`child::main`] when its first argument is [`child::ARG`]:
    /// usually `std::env::current_exe()`.
    pub launcher: PathBuf,
    /// The file whose shared lock every process of this node holds until its last descendant ended.
    pub kids: Option<PathBuf>,
    /// Where HTTP requests may go.
    pub egress: egress::Policy,
    /// How pages are read.
    pub web: web::Settings,
    /// What keeps texts across runs.
    pub memory: Arc<Memory>,
    /// The models that can be asked.
    pub models: Arc<provider::Models>,
    /// What agents that think may call.
    pub tools: Arc<model::tool::Tools>,
}

/// The agents that ship, in the order to list them.
#[must_use]
pub fn built_in(options: Options) -> Vec<Arc<dyn Agent>> {
    let web = Web::new(options.egress, options.web);
    let mut agents: Vec<Arc<dyn Agent>> = vec![
        Arc::new(Echo::new()),
        Arc::new(Process::new(options.launcher, options.kids)),
        Arc::new(Http::new(egress::Egress::new(options.egress))),
        Arc::new(web.clone()),
        options.memory,
        Arc::new(Model::new(model::Definition::plain(), options.models.clone(), options.tools)),
    ];
    agents.extend(rules::all(web, options.models));
    agents
}
