//! The agents that ship, called as a step calls them, without an engine.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;

use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::{Memory, Options, built_in, contract, egress, memory, web};
use kapelle_core::Json;
use kapelle_core::port::agent::{Agent, Desk as _, FailureKind};

/// The agents, and a folder for what they read.
pub struct Agents {
    all: Vec<Arc<dyn Agent>>,
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
}

/// What an agent made: its answer, and the artifact that is HTML.
pub struct Made {
    pub value: Json,
    pub html: Option<String>,
}

thread_local! {
    static AGENTS: OnceCell<Agents> = const { OnceCell::new() };
}

/// Does `work` with the agents, which are made once.
pub fn with<T>(work: impl FnOnce(&Agents) -> T) -> T {
    AGENTS.with(|agents| work(agents.get_or_init(Agents::new)))
}

impl Agents {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for pages");
        let options = Options {
            launcher: "unused".into(),
            kids: None,
            egress: egress::Policy::Operator,
            web: web::Settings { roots: vec![folder.path().into()], ..web::Settings::default() },
            memory: Memory::new(memory::Settings::default()).into(),
            models: Arc::default(),
            tools: Arc::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { all: built_in(options), runtime, folder }
    }

    /// The file that pages are put in.
    pub fn page(&self) -> PathBuf {
        self.folder.path().join("page.html")
    }

    /// What came of it; a failure has to be one that tells the caller something, no bug of ours.
    pub fn perform(&self, name: &str, action: &str, input: Json) -> Option<Made> {
        let agent = self.all.iter().find(|agent| &*agent.card().name == name).expect("it ships");
        let call = contract::call(action, input, "/");
        // Its own, for a desk hands out again what it has recorded.
        let desk = ScratchDesk::new().expect("a desk");
        let answer = match self.runtime.block_on(agent.perform(call, &desk)) {
            Ok(answer) => answer,
            Err(failure) => {
                assert!(failure.kind != FailureKind::Bug, "{name}.{action}: {failure}");
                return None;
            }
        };
        let html = answer.artifacts.iter().find(|made| made.media_type.starts_with("text/html"));
        let html = html.map(|made| {
            let bytes = self.runtime.block_on(desk.get(made.digest, made.len)).expect("it is kept");
            String::from_utf8(bytes.to_vec()).expect("a report is UTF-8")
        });
        Some(Made { value: answer.value, html })
    }
}
