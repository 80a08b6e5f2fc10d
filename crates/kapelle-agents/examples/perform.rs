//! Performs one call with one of the agents that ship, and prints the answer:
//!
//! `cargo run -p kapelle-agents --example perform -- process '{"shell": "echo hi >&2; date"}'`
//!
//! It also shows what a binary must do so that its process agent works: the first lines of `main`.

use std::process::ExitCode;
use std::sync::Arc;

use kapelle_agents::egress::Policy;
use kapelle_agents::web::Settings;
use kapelle_agents::{Memory, Options, built_in, child, contract, desk, memory};
use kapelle_core::port::Agent;
use serde_json::json;

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    if std::env::args_os().nth(1).is_some_and(|first| first == child::ARG) {
        return Ok(child::main());
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(perform())
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
async fn perform() -> Outcome {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(input)) = (args.next(), args.next()) else {
        return Err("give an agent's name and its input as JSON".into());
    };
    let kids = std::env::var_os("KIDS").map(Into::into);
    let options = Options {
        launcher: std::env::current_exe()?,
        kids,
        egress: Policy::Operator,
        web: Settings::default(),
        memory: Memory::new(memory::Settings::default()).into(),
        models: Arc::default(),
        tools: Arc::default(),
    };
    let agents = built_in(options);
    let agent: &Arc<dyn Agent> =
        agents.iter().find(|agent| *agent.card().name == *name).ok_or("there is no such agent")?;
    let root = std::env::current_dir()?;
    let action = &agent.card().actions[0].name;
    let call = contract::call(action, serde_json::from_str(&input)?, &root.to_string_lossy());
    let desk = desk::ScratchDesk::new()?;
    let (line, code) = match agent.perform(call, &desk).await {
        Ok(answer) => {
            let line = json!({"value": answer.value, "artifacts": answer.artifacts});
            (line, ExitCode::SUCCESS)
        }
        Err(failure) => (json!({"failure": failure}), ExitCode::FAILURE),
    };
    println!("{line}");
    Ok(code)
}
