//! `serve`: a node that works on all runs of its store, and answers in the network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Exit, Stop};
use super::out;
use super::session::Settings;
use crate::server::door::guard::Guard;
use crate::server::door::jwt::Tokens;
use crate::server::door::limits::Limits;
use crate::server::tcp::Port;

/// How long answers that are under way have once all work has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen, instead of what the configuration says [default: 127.0.0.1:4700]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Let everybody in who can reach it, without a key
    #[arg(long)]
    without_keys: bool,
}

pub(crate) async fn serve(args: &Args, settings: &Settings) -> Result<Exit, Stop> {
    let config = &settings.config.server;
    let at = args.listen.unwrap_or(config.listen);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let tokens = settings.config.jwt.settings().map(Tokens::open).transpose();
    let tokens = tokens.map_err(|error| Stop::new(Exit::Config, error))?;
    // Before the store is touched: the port may be taken.
    let port = Port::bind(at).map_err(|error| {
        let message = format!("cannot listen at {at}: {error}; `--listen` names another address");
        Stop::new(Exit::Unreachable, message)
    })?;
    let node = settings.open_to_serve().await?;
    let keys = node.app.keys().clone();
    let needs_key = !at.ip().is_loopback() && !args.without_keys && tokens.is_none();
    if needs_key && !keys.are_there().await.map_err(stopped)? {
        node.close(Duration::ZERO).await?;
        let create = settings.command("keys create --name NAME --role admin");
        return Err(Stop::usage(format!(
            "others can reach {at}, and there is no key: make one with `{create}`, or let everybody in with \
             `--without-keys`"
        )));
    }
    let guard = Guard {
        keys,
        tokens,
        audit: node.app.audit().clone(),
        tickets: node.app.tickets().clone(),
        at: port.at(),
        hosts: config.hosts.clone(),
        origins: config.allow_origins.clone(),
        limits: Arc::new(Limits::new(config.rates())),
        open: args.without_keys,
    };
    let router = crate::server::guarded(node.app.clone(), Arc::new(guard));
    out::line(&format!("listening on http://{}", port.at()))?;
    let serving = port.serve(router, node.app.rooms().clone(), config.body_patience);
    let done = tokio::select! {
        _ = terminate.recv() => Ok(Exit::Done),
        _ = interrupt.recv() => Ok(Exit::Done),
        error = node.engine().fatal() => Err(Stop::from(error)),
    };
    let grace = settings.config.node.drain_grace;
    out::say(&format!("leaving: waiting at most {} s for running attempts", grace.as_secs()));
    // Who asks meanwhile is told that nothing new is taken; streams go on to the last event.
    let (engine, app) = (node.engine().clone(), node.app.clone());
    let close = async {
        app.leave_workers();
        engine.drain(grace).await?;
        app.leave();
        serving.close(LAST_ANSWERS).await;
        node.close(Duration::ZERO).await
    };
    tokio::select! {
        closed = close => closed?,
        // What was committed is; whoever comes next goes on.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    done
}

fn stopped(error: kapelle_core::port::journal::Error) -> Stop {
    Stop::new(Exit::Store, error)
}
