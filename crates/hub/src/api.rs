//! The JSON API: what nodes call, what the pages use, and what anybody else may build on.

pub mod alerts;
pub mod answers;
pub mod approved;
pub mod assignments;
pub mod audit;
pub mod behind;
pub mod card;
pub mod described;
pub mod description;
pub mod drafts;
pub mod enrolments;
pub mod experiments;
pub mod figures;
pub mod fleet;
pub mod grants;
pub mod groups;
pub mod identity;
pub mod intake;
pub mod live;
pub mod log;
pub mod nodes;
pub mod operators;
pub mod overview;
pub mod plans;
pub mod records;
pub mod recovery;
pub mod refusal;
pub mod releases;
pub mod replicas;
pub mod retention;
pub mod rollouts;
pub mod series;
pub mod tickets;
pub mod wellformed;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post, put};

use crate::api::refusal::Refusal;
use crate::checkin::CHECKIN_MAX_BYTES;
use crate::ingest::COMPRESSED_MAX_BYTES;
use crate::state::HubState;
use crate::tuf;

/// All routes of the API.
pub fn router(state: Arc<HubState>) -> Router {
    let v1 = Router::new()
        .route("/records", post(intake::records).layer(DefaultBodyLimit::max(COMPRESSED_MAX_BYTES)))
        .route("/records", get(records::list))
        .route("/records/{node}/{journal}/{stream}/{seq}", get(records::one))
        .route("/checkin", post(intake::checkin).layer(DefaultBodyLimit::max(CHECKIN_MAX_BYTES)))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{node}", get(nodes::one))
        .route("/nodes/{node}/series", get(series::series))
        .route("/nodes/{node}/facts", get(fleet::facts))
        .route("/nodes/{node}/labels", put(fleet::label))
        .route("/nodes/{node}/why", get(fleet::why))
        .route("/nodes/{node}/figures", get(figures::of_node))
        .route("/labels", get(fleet::map))
        .route("/groups", get(groups::list))
        .route("/groups/{group}", get(groups::one).put(groups::put).delete(groups::delete))
        .route("/releases", get(releases::list))
        .route("/releases/{model}/{release}", get(releases::one))
        .route("/releases/{model}/{release}/coverage", get(releases::coverage))
        .route("/nodes/{node}/live", get(live::of_node))
        .route("/live", get(live::of_all))
        .route("/alerts", get(alerts::list))
        .route("/alerts/{id}/ack", post(alerts::ack))
        .route("/gaps", get(records::gaps))
        .route("/assignments", get(assignments::list).put(assignments::put))
        .route("/assignments/{id}", get(assignments::one))
        .route("/grants/{sealed}/{to}", get(grants::one).put(grants::put))
        .route("/tuf/metadata/{file}", put(tuf::put))
        .route("/plans", post(rollouts::preview))
        .route("/plans/draft", post(drafts::make))
        .route("/rollouts", get(rollouts::list).post(rollouts::create))
        .route("/rollouts/{id}", get(rollouts::one))
        .route("/rollouts/{id}/members", get(rollouts::members))
        .route("/rollouts/{id}/documents", get(rollouts::list_documents).put(rollouts::put_documents))
        .route("/rollouts/{id}/evidence", get(rollouts::evidence))
        .route("/rollouts/{id}/why/{node}", get(rollouts::why))
        .route("/rollouts/{id}/order", post(rollouts::order))
        .route("/experiments", get(experiments::list).post(experiments::create))
        .route("/experiments/draft", post(experiments::draft::make))
        .route("/experiments/draft/shadow", post(experiments::shadow::make))
        .route("/experiments/{id}", get(experiments::one))
        .route("/experiments/{id}/members", get(experiments::members))
        .route(
            "/experiments/{id}/documents",
            get(experiments::list_documents).put(experiments::put_documents),
        )
        .route("/experiments/{id}/why/{node}", get(experiments::why))
        .route("/experiments/{id}/order", post(experiments::order))
        .route("/audit", get(audit::list))
        .route("/enrol", post(identity::enrol))
        .route("/identity/renew", post(identity::renew))
        .route("/time", post(identity::now))
        .route("/enrol/{ticket}", get(identity::ticket))
        .route("/enrolments", get(enrolments::list).post(enrolments::make))
        .route("/enrolments/{id}", delete(enrolments::remove))
        .route("/tickets", get(tickets::list))
        .route("/tickets/{id}/admit", post(tickets::admit))
        .route("/tickets/{id}/refuse", post(tickets::refuse))
        .route("/keys", get(enrolments::keys))
        .route("/denied", post(enrolments::deny))
        .route("/denied/{key}", delete(enrolments::pardon))
        .route("/me", get(operators::me))
        .route("/operators", get(operators::list))
        .route("/operators/{name}", put(operators::put))
        .route("/tokens", get(operators::tokens).post(operators::make_token))
        .route("/tokens/{id}", delete(operators::revoke))
        .route("/replicas", get(replicas::list))
        .route("/retention", get(retention::one))
        .route("/retention/confirm", post(retention::confirm))
        .route("/overview", get(overview::overview))
        .route("/recovery", get(recovery::look).post(recovery::recover))
        .route("/openapi.json", get(description::openapi))
        .fallback(nothing_here)
        .layer(from_fn_with_state(state.clone(), answers::once));
    Router::new()
        .nest("/api/v1", v1)
        .route("/health", get(description::health))
        .route("/log/checkpoint", get(log::checkpoint))
        .route("/log/tile/{*path}", get(log::tile))
        .route("/log/heads/{name}", get(log::heads))
        .route("/metrics", get(description::metrics))
        .with_state(state)
}

/// Routes whose answers are held back for as long as it takes.
pub fn held(state: Arc<HubState>) -> Router {
    Router::new().route("/api/v1/wait", get(intake::wait)).with_state(state)
}

async fn nothing_here(uri: Uri) -> Refusal {
    let message = format!("there is nothing at {:?}", uri.path().chars().take(200).collect::<String>());
    Refusal::new(StatusCode::NOT_FOUND, "not-found", message, "the endpoints are listed at /api")
}
