//! Who waits to come in by a token, and the person who admits or refuses them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use package::trust::canonical::Value;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::access::who::Who;
use crate::api::intake::Told;
use crate::api::refusal::{Asked, ErrorBody, Refusal};
use crate::identity::enrol::{Refused, Standing, may_use};
use crate::state::HubState;
use crate::store::audit::{self, Entry};
use crate::store::tickets::TicketRow;
use crate::store::{identity, nodes, tickets};

/// The most tickets of one answer.
const TICKETS_MAX: i64 = 1000;

/// Which tickets.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TicketsAsked {
    /// Also those that somebody has said something about.
    #[serde(default)]
    pub all: bool,
}

/// Somebody who asked to come in by a token.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ticket {
    /// By which it is admitted or refused.
    pub id: String,
    /// What it will be called.
    pub node: String,
    /// SHA-256 of its public key, 64 hex digits: the device shows the same when it waits.
    pub key: String,
    /// By which token, as its maker got it.
    pub enrolment: String,
    /// What it says of itself. Nothing of it is proven.
    pub facts: serde_json::Value,
    /// Labels that it gets with the token.
    pub labels: BTreeMap<String, String>,
    /// `waiting`, `admitted` or `refused`.
    pub state: &'static str,
    /// When it asked first.
    pub made_ms: i64,
}

impl From<TicketRow> for Ticket {
    fn from(row: TicketRow) -> Ticket {
        Ticket {
            id: row.id,
            node: row.name.to_string(),
            key: row.key.to_string(),
            enrolment: row.enrolment,
            facts: serde_json::from_str(&row.facts).unwrap_or_default(),
            labels: row.labels,
            state: row.standing.as_str(),
            made_ms: row.made_ms,
        }
    }
}

/// Who waits, the newest first.
#[utoipa::path(
    get, path = "/api/v1/tickets", tag = "identity", params(TicketsAsked),
    responses((status = 200, body = Vec<Ticket>), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(state): State<Arc<HubState>>,
    Asked(asked): Asked<TicketsAsked>,
) -> Result<Json<Vec<Ticket>>, Refusal> {
    tickets(&state, asked.all).await.map(Json)
}

/// Who waits, or everybody who did, for the API and the page.
pub async fn tickets(state: &HubState, all: bool) -> Result<Vec<Ticket>, Refusal> {
    let standing = (!all).then_some(Standing::Waiting);
    let rows = tickets::list(&state.readers, standing, TICKETS_MAX).await?;
    Ok(rows.into_iter().map(Ticket::from).collect())
}

/// Why somebody is admitted or refused.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketOrder {
    /// For those who read the log.
    #[serde(default)]
    pub why: String,
}

/// Lets a node in that waits. It has its certificate when it asks next.
#[utoipa::path(
    post, path = "/api/v1/tickets/{id}/admit", tag = "identity", request_body = TicketOrder,
    params(("id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, body = Ticket),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, description = "It was refused, its name is taken, or its token is used up", body = ErrorBody),
    )
)]
pub async fn admit(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
    Told(order): Told<TicketOrder>,
) -> Result<Json<Ticket>, Refusal> {
    settle(&state, &who, id, Standing::Admitted, order.why).await.map(Json)
}

/// Does not let a node in. It hears so when it asks next, and does not ask again with this key.
#[utoipa::path(
    post, path = "/api/v1/tickets/{id}/refuse", tag = "identity", request_body = TicketOrder,
    params(("id" = String, Path, description = "The ticket")),
    responses(
        (status = 200, body = Ticket),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, description = "It was admitted: deny its key", body = ErrorBody),
    )
)]
pub async fn refuse(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
    Told(order): Told<TicketOrder>,
) -> Result<Json<Ticket>, Refusal> {
    settle(&state, &who, id, Standing::Refused, order.why).await.map(Json)
}

/// Admits or refuses, for the API and the page. Told twice it is done once.
pub async fn settle(
    state: &HubState,
    who: &Who,
    id: String,
    standing: Standing,
    why: String,
) -> Result<Ticket, Refusal> {
    let (who, now_ms) = (who.name(), state.now_ms());
    let done = state.writer.within(move |writer| {
        Box::pin(async move {
            let Some(row) = tickets::find(writer, &id).await? else { return Ok(Err(No::Unknown)) };
            match row.standing {
                before if before == standing => return Ok(Ok(row)),
                Standing::Waiting => {}
                Standing::Admitted | Standing::Refused => return Ok(Err(No::Settled(row.standing))),
            }
            if standing == Standing::Admitted {
                let Some(offer) = identity::enrolment_by_id(writer, &row.enrolment).await? else {
                    return Ok(Err(No::Unknown));
                };
                // It asked in time; that nobody looked before is not its fault.
                match may_use(&offer.offer, now_ms) {
                    Err(refused) if refused != Refused::Expired => return Ok(Err(No::Refused(refused))),
                    _ => {}
                }
                if let Some(node) = nodes::find(writer, &row.name).await?
                    && identity::is_living(writer, node, now_ms).await?
                {
                    return Ok(Err(No::Refused(Refused::Living)));
                }
                identity::use_enrolment(writer, &row.enrolment).await?;
            }
            tickets::settle(writer, &id, standing).await?;
            let act = if standing == Standing::Admitted { "ticket.admit" } else { "ticket.refuse" };
            let after = Value::object([
                ("ticket", id.as_str().into()),
                ("key", row.key.to_string().into()),
                ("enrolment", row.enrolment.as_str().into()),
            ]);
            let entry = Entry::new(now_ms, who, act, row.name.to_string());
            audit::append(writer, &Entry { why, after: Some(after), ..entry }).await?;
            Ok(Ok(TicketRow { standing, ..row }))
        })
    });
    done.await?.map(Ticket::from).map_err(No::refusal)
}

/// Why somebody who waits is not admitted or refused.
enum No {
    Unknown,
    Settled(Standing),
    Refused(Refused),
}

impl No {
    fn refusal(self) -> Refusal {
        let conflict = |code, message, mend| Refusal::new(StatusCode::CONFLICT, code, message, mend);
        match self {
            No::Unknown => Refusal::not_found(
                "there is no such ticket, or its token was taken back".to_owned(),
                "GET /api/v1/tickets lists those who wait",
            ),
            No::Settled(standing) => conflict(
                "settled",
                format!("this ticket was {} before", standing.as_str()),
                "who was admitted is kept out by POST /api/v1/denied; who was refused comes in by a new code",
            ),
            No::Refused(refused) => conflict(refused.code(), refused.to_string(), refused.mend()),
        }
    }
}
