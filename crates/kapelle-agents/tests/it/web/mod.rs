//! `web`: what is read of pages, how politely, and what hostile pages come to.

mod generate;
mod hostile;
mod languages;
mod moved;
mod polite;
mod read;
mod roots;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kapelle_agents::contract;
use kapelle_agents::desk::ScratchDesk;
use kapelle_agents::egress::Policy;
use kapelle_agents::web::{Settings, Web};
use kapelle_core::Json;
use kapelle_core::port::agent::{Agent, Failure};
use serde_json::json;

/// At a pace for tests.
fn quick() -> Settings {
    Settings { gap: Duration::ZERO, ..Settings::default() }
}

fn agent(settings: Settings) -> Arc<dyn Agent> {
    Arc::new(Web::new(Policy::Operator, settings))
}

async fn perform(
    agent: &Arc<dyn Agent>,
    action: &str,
    input: Json,
    root: &Path,
) -> Result<Json, Failure> {
    let call = contract::call(action, input, root.to_str().unwrap());
    agent.perform(call, &ScratchDesk::new().unwrap()).await.map(|answer| answer.value)
}

async fn read(url: &str) -> Result<Json, Failure> {
    perform(&agent(quick()), "read", json!({ "url": url }), Path::new("/")).await
}

/// Reads a page that is a file.
async fn read_html(html: impl AsRef<[u8]>) -> Json {
    read_file(html).await.unwrap()
}

async fn read_file(html: impl AsRef<[u8]>) -> Result<Json, Failure> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("page.html"), html).unwrap();
    perform(&agent(quick()), "read", json!({"url": "page.html"}), folder.path()).await
}
