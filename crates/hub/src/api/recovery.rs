//! After a backup was restored: what nodes know that this hub does not, and what a person does about it.
//!
//! Nothing is taken back by itself, and nothing is believed by itself either: the nodes' state is adopted by an act of an admin,
//! after a look at both sides. What is shown before is reckoned by the same code that does it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::access::who::Who;
use crate::api::behind::{RecoverAsk, Recovered, RecoveryView};
use crate::api::intake::Told;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::recovery;
use crate::state::HubState;

/// What nodes know that this hub does not, and what adoption would do. All of it empty on a hub that was never restored.
#[utoipa::path(
    get, path = "/api/v1/recovery", tag = "hub",
    responses((status = 200, body = RecoveryView), (status = 503, body = ErrorBody))
)]
pub async fn look(State(state): State<Arc<HubState>>) -> Result<Json<RecoveryView>, Refusal> {
    recovery::look(&state).await.map(Json)
}

/// Adopts what nodes report, and lets keys in that the restored database does not know.
///
/// Told twice it does nothing twice. Nodes that come later with more are shown anew.
#[utoipa::path(
    post, path = "/api/v1/recovery", tag = "hub",
    request_body = RecoverAsk,
    responses((status = 200, body = Recovered), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody))
)]
pub async fn recover(
    State(state): State<Arc<HubState>>,
    who: Who,
    Told(ask): Told<RecoverAsk>,
) -> Result<Json<Recovered>, Refusal> {
    if !ask.adopt && !ask.all_keys && ask.keys.is_empty() {
        let mend = "say `adopt`, or which `keys`, and `why`";
        return Err(Refusal::bad_request("nothing-asked", "this asks for nothing".to_owned(), mend));
    }
    recovery::recover(&state, &who, ask).await.map(Json)
}
