//! Stream tickets: what a browser, which can set no header, shows to open one stream.
//!
//! **Invariants:** a ticket stands for the credential that it was asked for with, which is looked at anew
//! when it is used. Showing it uses it up, also where it opens nothing. It is known to the node that made it
//! alone, and only as its digest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderValue;
use kapelle_core::Digest;
use tokio::time::Instant;

use super::Caller;
use super::keys::random;

/// How long a ticket can be used.
pub(crate) const LIFE: Duration = Duration::from_secs(30);
/// How many wait to be used at most.
const TICKETS_MAX: usize = 10_000;

/// What a ticket stands for.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    /// Who asked for it.
    pub(crate) caller: Arc<Caller>,
    /// With which `Authorization`, if with any.
    pub(crate) shown: Option<HeaderValue>,
    /// What it opens.
    pub(crate) path: Box<str>,
}

/// Those that wait to be used.
#[derive(Default)]
pub(crate) struct Tickets {
    waiting: Mutex<HashMap<Digest, (Instant, Ticket)>>,
}

impl Tickets {
    /// Makes a ticket; `None`: there are too many.
    pub(crate) fn issue(&self, ticket: Ticket) -> Option<String> {
        let text = random::<32>();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= TICKETS_MAX {
            waiting.retain(|_, (made, _)| made.elapsed() < LIFE);
        }
        if waiting.len() >= TICKETS_MAX {
            return None;
        }
        waiting.insert(Digest::of(text.as_bytes()), (Instant::now(), ticket));
        Some(text)
    }

    /// What a ticket that is shown at `path` stands for; it is used up.
    pub(crate) fn redeem(&self, text: &str, path: &str) -> Option<Ticket> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (made, ticket) = waiting.remove(&Digest::of(text.as_bytes()))?;
        (made.elapsed() < LIFE && *ticket.path == *path).then_some(ticket)
    }
}

/// The ticket that a query shows.
pub(crate) fn shown_in(query: &str) -> Option<&str> {
    query.split('&').find_map(|field| field.strip_prefix("ticket="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn for_path(path: &str) -> Ticket {
        Ticket { caller: Arc::new(Caller::owner()), shown: None, path: path.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_opens_one_path_once_and_not_late() {
        let tickets = Tickets::default();
        let text = tickets.issue(for_path("/runs/a/events")).unwrap();
        assert!(tickets.redeem(&text[1..], "/runs/a/events").is_none());
        assert!(tickets.redeem(&text, "/runs/a/events").is_some());
        assert!(tickets.redeem(&text, "/runs/a/events").is_none());
        let other = tickets.issue(for_path("/runs/a/events")).unwrap();
        assert!(tickets.redeem(&other, "/runs/b/events").is_none());
        assert!(tickets.redeem(&other, "/runs/a/events").is_none());
        let late = tickets.issue(for_path("/runs/a/events")).unwrap();
        tokio::time::advance(LIFE).await;
        assert!(tickets.redeem(&late, "/runs/a/events").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn tickets_that_nobody_uses_make_room_when_they_are_too_old() {
        let tickets = Tickets::default();
        for _ in 0..TICKETS_MAX {
            tickets.issue(for_path("/runs/a/events")).unwrap();
        }
        assert!(tickets.issue(for_path("/runs/a/events")).is_none());
        tokio::time::advance(LIFE).await;
        assert!(tickets.issue(for_path("/runs/a/events")).is_some());
    }

    #[test]
    fn a_ticket_is_found_among_other_fields() {
        assert_eq!(shown_in("after=3&ticket=abc&limit=1"), Some("abc"));
        assert_eq!(shown_in("after=3&my_ticket=abc"), None);
        assert_eq!(shown_in("ticket="), Some(""));
    }
}
