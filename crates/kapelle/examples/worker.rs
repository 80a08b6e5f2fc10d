//! A worker in Rust: it does the work of the agent `shout`, over HTTP alone.
//!
//! `worker [URL]`; `KAPELLE_KEY` is its key, where the server asks for one; `LEASE` says how long it may be silent.

use std::time::Duration;

use kapelle_api::client::Error;
use kapelle_api::{Assignment, Beat, Client, Completion, NewAgent, NewFailure, WorkQuery};

/// How long a server that is away is left alone.
const PAUSE: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:4700".to_owned());
    let client = Client::url(&url, std::env::var("KAPELLE_KEY").ok().as_deref());
    let (name, lease) = ("shout".to_owned(), std::env::var("LEASE").ok());
    let description = "says it loudly".to_owned();
    let agent = NewAgent { name, description, lease, ..NewAgent::default() };
    let wait = WorkQuery::default();
    again(|| client.register_agent(&agent)).await?;
    loop {
        let Some(work) = again(|| client.work("shout", &wait)).await? else {
            continue;
        };
        say(&format!("working on {}", work.attempt));
        match end(&client, &work).await {
            Ok(()) => say(&format!("complete {}", work.attempt)),
            Err(error) if error.code() == Some("stale_attempt") => {
                say(&format!("dropped {}", work.attempt));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Does the work, and says what came of it.
async fn end(client: &Client, work: &Assignment) -> Result<(), Error> {
    tokio::select! {
        output = perform(work) => {
            let done = Completion { output, ..Completion::default() };
            again(|| client.complete(&work.attempt, &done)).await?;
        }
        unwanted = beat(client, work) => {
            unwanted?;
            let (kind, message) = (Some("cancelled".to_owned()), "it is not wanted".to_owned());
            let failure = NewFailure { kind, message, ..NewFailure::default() };
            again(|| client.fail(&work.attempt, &failure)).await?;
        }
    }
    Ok(())
}

/// The work itself; `work.key` is for whoever takes one outside.
async fn perform(work: &Assignment) -> serde_json::Value {
    let seconds = work.input["seconds"].as_f64().unwrap_or_default();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    work.input["text"].as_str().unwrap_or_default().to_uppercase().into()
}

/// Says that the worker lives, until the attempt is not wanted any more.
async fn beat(client: &Client, work: &Assignment) -> Result<(), Error> {
    let alive = Beat::default();
    loop {
        tokio::time::sleep(Duration::from_millis(work.lease_ms / 3)).await;
        if again(|| client.heartbeat(&work.attempt, &alive)).await?.cancel {
            return Ok(());
        }
    }
}

/// Asks again while the server is away or asks for a moment: all that a worker says may be repeated.
async fn again<T, Fut: Future<Output = Result<T, Error>>>(
    ask: impl Fn() -> Fut,
) -> Result<T, Error> {
    loop {
        match ask().await {
            Err(Error::Unreachable(_)) => {}
            Err(Error::Problem(problem)) if [429, 503].contains(&problem.status) => {}
            answer => return answer,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[expect(clippy::print_stdout, reason = "that is what whoever started it reads")]
fn say(line: &str) {
    println!("{line}");
}
