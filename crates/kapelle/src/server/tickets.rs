//! `/stream-tickets`: opening a stream from a browser.

use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use kapelle_api as api;

use super::App;
use super::body::Body;
use super::door::tickets::{LIFE, Ticket};
use super::problem::Problem;

/// Makes a ticket with which the events of a run can be opened once, in the name of who asks.
///
/// `POST /stream-tickets`
pub(super) async fn issue(
    app: App,
    headers: HeaderMap,
    Body(new): Body<api::NewStreamTicket>,
) -> Result<(StatusCode, Json<api::StreamTicket>), Problem> {
    let id = app.find(&new.run).await?;
    // An unknown run is told now, and not to a browser that cannot show it.
    app.engine().run(app.tenant(), id).await?;
    let path = format!("/runs/{id}/events");
    let shown = headers.get(header::AUTHORIZATION).cloned();
    let ticket = Ticket { caller: app.caller.clone(), shown, path: path.as_str().into() };
    let ticket = app.tickets().issue(ticket).ok_or_else(Problem::too_many_tickets)?;
    let now = crate::now();
    let expires_at = now.after(LIFE).to_string();
    Ok((StatusCode::CREATED, Json(api::StreamTicket { ticket, path, expires_at })))
}
