//! A program with agents of its own: `cargo run -p kapelle --example library [STORE]`.

#![expect(clippy::print_stdout, reason = "showing what happens is what it is for")]

use kapelle::{Failure, FailureKind};
use serde_json::json;

const WORKFLOW: &str = r#"
id: greetings
inputs: { name: { type: string } }
tasks:
  - { id: greet, agentName: greet, input: { name: "{{ inputs.name }}" } }
  - { id: shout, agentName: shout, input: { text: "{{ steps.greet.output }}" } }
"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let store = std::env::args().nth(1).unwrap_or_else(|| "memory".to_owned());
    let kapelle = kapelle::open(store)
        .agent("greet", |call| async move { Ok(json!(format!("hello {}", call.input["name"]))) })
        .agent("shout", |call| async move {
            let no_text = || Failure::new(FailureKind::Invalid, "no_text", "there is no text");
            Ok(json!(call.input["text"].as_str().ok_or_else(no_text)?.to_uppercase()))
        })
        .start()
        .await?;
    let mut run = kapelle.run(WORKFLOW, json!({ "name": "ada" })).await?;
    while let Some(event) = run.next().await {
        println!("{}", serde_json::to_string(&event?)?);
    }
    Ok(kapelle.close().await?)
}
