//! `artifacts`: what runs made.

use std::io::Write as _;
use std::path::PathBuf;

use futures_util::TryStreamExt as _;

use super::exit::{Exit, Stop};
use super::out;
use super::session::{Settings, with_reader};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List what a run made
    List {
        /// The run: its id, a unique end of it (4 or more characters), or its task id
        run: String,
        /// Print one JSON object: `{"items": [{"name", "digest", "type", …}], "next_cursor"}`
        #[arg(long)]
        json: bool,
    },
    /// Write the content of an artifact to stdout, or to a file
    Get {
        /// The digest, as `artifacts list` shows it
        digest: String,
        /// Write it there instead
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

pub(crate) async fn perform(command: Command, settings: &Settings) -> Result<Exit, Stop> {
    with_reader(settings, async |client, _| {
        match &command {
            Command::List { run, json } => {
                let page = client.artifacts(run).await?;
                if *json {
                    out::json(&page)?;
                } else {
                    let mut rows = vec![
                        ["NAME", "STEP", "TYPE", "BYTES", "DIGEST"].map(str::to_owned).to_vec(),
                    ];
                    rows.extend(page.items.into_iter().map(|artifact| {
                        let step = artifact.step.unwrap_or_default();
                        let bytes = artifact.len.to_string();
                        vec![artifact.name, step, artifact.media_type, bytes, artifact.digest]
                    }));
                    out::text(&out::table(&rows))?;
                }
            }
            Command::Get { digest, output } => {
                let mut body = client.artifact(digest).await?;
                let mut to: Box<dyn std::io::Write> = match output {
                    Some(path) => Box::new(std::fs::File::create(path)?),
                    None => Box::new(std::io::stdout()),
                };
                let broken = |error| Stop::new(Exit::Store, format!("`{digest}`: {error}"));
                while let Some(piece) = body.try_next().await.map_err(broken)? {
                    to.write_all(&piece)?;
                }
                to.flush()?;
            }
        }
        Ok(Exit::Done)
    })
    .await
}
