//! What a model says to others and hears of them, and what it asks of people.
//!
//! **Invariants:** each is an effect of its own, so that it happens once and its end is the same in
//! every attempt. What came in is no effect: the record of the call that was made with it holds it.
//! Words of others are data, and say whose they are.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use kapelle_core::Json;
use kapelle_core::port::agent::{
    BoxFuture, Desk, Effect, Failure, FailureKind, Heard, Question, Safety,
};
use serde_json::json;

use super::brief;
use super::letters::Letter;
use super::tool::{Errand, Told};

/// So many messages are heard in one turn, and so many bytes of them; the next ones in the next.
const HEARD_MAX: usize = 20;
const HEARD_BYTES_MAX: usize = 32 << 10;

/// What came of a call, and what it is called in the conversation.
pub(super) struct Came {
    pub(super) of: Box<str>,
    pub(super) told: Told,
}

/// As much of what has come in as goes into a turn.
pub(super) async fn hear(desk: &dyn Desk, after: u32) -> Result<Vec<Heard>, Failure> {
    let mut bytes = 0;
    let mut mail = desk.mail(after).await?;
    let fits = mail.iter().take(HEARD_MAX).take_while(|heard| {
        bytes += heard.text.len();
        bytes <= HEARD_BYTES_MAX
    });
    let count = fits.count();
    mail.truncate(count);
    Ok(mail)
}

/// Does what a tool has the desk do.
pub(super) fn errand<'a>(
    desk: &'a dyn Desk,
    name: &str,
    input: Json,
    errand: Errand,
) -> BoxFuture<'a, Result<Came, Failure>> {
    let effect = Effect { name: format!("tool:{name}").into(), safety: Safety::Repeatable, input };
    match errand {
        Errand::Send { to, text } => send(desk, name.into(), effect, to, text),
        Errand::Ask(question) => ask(desk, effect, question),
    }
}

fn send(
    desk: &dyn Desk,
    of: Box<str>,
    effect: Effect,
    to: Box<str>,
    text: Arc<str>,
) -> BoxFuture<'_, Result<Came, Failure>> {
    let sent = desk.send(effect, to.clone(), text);
    Box::pin(async move {
        let told = match sent.await {
            Ok(()) => Told::well(format!("your message to `{to}` is on its way")),
            Err(failure) if failure.kind == FailureKind::Refused && failure.certain => {
                Told::badly(format!("your message to `{to}` was not sent: {failure}"))
            }
            Err(failure) => return Err(failure),
        };
        Ok(Came { of, told })
    })
}

fn ask(
    desk: &dyn Desk,
    effect: Effect,
    question: Question,
) -> BoxFuture<'_, Result<Came, Failure>> {
    let answered = desk.ask(effect, question);
    Box::pin(async move {
        let answer = answered.await?;
        let by = brief::quiet(answer["by"].as_str().unwrap_or("somebody"));
        let told = Told::well(answer["answer"].as_str().unwrap_or_default());
        Ok(Came { of: format!("answer of a person, {by}").into(), told })
    })
}

/// Sends the messages that stood in a text, in their order.
pub(super) fn post<'a>(
    desk: &'a dyn Desk,
    name: &str,
    letters: Vec<Letter>,
) -> BoxFuture<'a, Result<Vec<Told>, Failure>> {
    let sent: Vec<_> = letters
        .into_iter()
        .map(|Letter { to, text }| {
            let input = json!({"to": to, "text": text});
            let it = Errand::Send { to: to.into(), text: text.into() };
            errand(desk, name, input, it)
        })
        .collect();
    Box::pin(async move {
        let sent: Result<Vec<Came>, Failure> = join_all(sent).await.into_iter().collect();
        Ok(sent?.into_iter().map(|came| came.told).collect())
    })
}

/// What became of messages, for the one who sent them.
pub(super) fn receipt(told: &[Told]) -> Option<Box<str>> {
    let lines: BTreeSet<&str> = told.iter().map(|told| &*told.text).collect();
    let lines: Vec<&str> = lines.into_iter().collect();
    (!lines.is_empty()).then(|| brief::fenced("messages", &lines.join("\n")).into())
}
