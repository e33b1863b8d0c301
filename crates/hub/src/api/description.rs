//! What the API says about itself and the hub: OpenAPI, health, metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::api::described::Rules;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::api::{
    alerts, assignments, audit, drafts, enrolments, experiments, figures, fleet, grants, groups, identity,
    intake, live, nodes, operators, overview, records, recovery, releases, replicas, retention, rollouts,
    series, tickets,
};
use crate::state::HubState;
use crate::store::{alerts as alert_store, nodes as node_store, recovery as recovery_store};
use crate::tuf;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Selvedge hub",
        description = "What nodes call and what the console shows. Times are milliseconds since 1970 UTC. \
            Where the hub has a token, send it as `Authorization: Bearer …`. `x-role` says who may: an admin may all that \
            people may. Every refusal has the body `ErrorBody`; a method that an endpoint does not take is answered with 405 \
            and `Allow`. A write that names itself with `Idempotency-Key` is done once, however often it is asked for in a day.",
        license(name = "Apache-2.0 OR MIT"),
    ),
    tags(
        (name = "fleet", description = "Nodes, what they measure, what fires"),
        (name = "records", description = "What nodes wrote, as they wrote it"),
        (name = "live", description = "What happens now"),
        (name = "nodes", description = "What nodes call"),
        (name = "packages", description = "Who shall run what, and who says that it is genuine; packages themselves are at \
            `/v2/`, as OCI distribution 1.1 has it, and TUF's files at `/tuf/`"),
        (name = "rollouts", description = "How releases go through the fleet, in waves, and who did what"),
        (name = "experiments", description = "Two releases beside each other, or one beside what runs, until the figures decide"),
        (name = "identity", description = "Codes by which nodes come in, their keys, and who is out"),
        (name = "operators", description = "Who may do what: operators and their tokens"),
        (name = "hub", description = "The hub itself"),
    ),
    paths(
        overview::overview,
        nodes::list,
        nodes::one,
        fleet::facts,
        fleet::label,
        fleet::why,
        figures::of_node,
        fleet::map,
        groups::list,
        groups::one,
        groups::put,
        groups::delete,
        releases::list,
        releases::one,
        releases::coverage,
        series::series,
        alerts::list,
        alerts::ack,
        records::list,
        records::one,
        records::gaps,
        live::of_all,
        live::of_node,
        intake::records,
        intake::checkin,
        intake::wait,
        assignments::list,
        assignments::one,
        assignments::put,
        grants::one,
        grants::put,
        tuf::put,
        drafts::make,
        rollouts::preview,
        rollouts::list,
        rollouts::create,
        rollouts::one,
        rollouts::members,
        rollouts::list_documents,
        rollouts::put_documents,
        rollouts::evidence,
        rollouts::why,
        rollouts::order,
        experiments::list,
        experiments::create,
        experiments::draft::make,
        experiments::shadow::make,
        experiments::one,
        experiments::members,
        experiments::list_documents,
        experiments::put_documents,
        experiments::why,
        experiments::order,
        audit::list,
        identity::enrol,
        identity::ticket,
        identity::renew,
        identity::now,
        enrolments::list,
        enrolments::make,
        enrolments::remove,
        tickets::list,
        tickets::admit,
        tickets::refuse,
        enrolments::keys,
        enrolments::deny,
        enrolments::pardon,
        operators::me,
        operators::list,
        operators::put,
        operators::tokens,
        operators::make_token,
        operators::revoke,
        recovery::look,
        recovery::recover,
        replicas::list,
        retention::one,
        retention::confirm,
        openapi,
        health,
        metrics,
    ),
    components(schemas(ErrorBody, nodes::NodeOrder)),
    modifiers(&Rules)
)]
struct Description;

/// The description of the API, as OpenAPI.
pub fn description() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "hub", responses((status = 200, body = Object)))]
pub async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(description())
}

/// How the hub is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`: the store can be read.
    status: &'static str,
    /// The program's version.
    version: &'static str,
    /// The hub's wall clock.
    hub_ms: i64,
}

/// Whether the hub works; needs no token.
#[utoipa::path(
    get, path = "/health", tag = "hub",
    responses((status = 200, body = Health), (status = 503, body = ErrorBody))
)]
pub async fn health(State(state): State<Arc<HubState>>) -> Result<Json<Health>, Refusal> {
    node_store::tally(&state.readers).await?;
    Ok(Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION"), hub_ms: state.now_ms() }))
}

/// The hub's own numbers, as Prometheus text.
#[utoipa::path(
    get, path = "/metrics", tag = "hub",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
pub async fn metrics(State(state): State<Arc<HubState>>) -> Result<impl IntoResponse, Refusal> {
    let (nodes, silent) = node_store::tally(&state.readers).await?;
    let firing = alert_store::firing(&state.readers).await?;
    let ahead = recovery_store::count_ahead(&state.readers).await?;
    let strange = recovery_store::count_strange(&state.readers).await?;
    let replicas = replicas::read(&state).await?.iter().filter(|replica| replica.alive).count() as i64;
    let gauges = [
        ("hub_nodes", "Nodes the hub knows.", nodes),
        ("hub_nodes_silent", "Nodes not heard of for too long.", silent),
        ("hub_nodes_conflict", "Nodes that know more than the hub, and get no documents.", ahead),
        ("hub_nodes_strange", "Nodes that follow a rollout that the hub does not know.", strange),
        ("hub_replicas", "Hubs on this database that are there.", replicas),
        ("hub_alerts_firing", "Alerts that fire.", firing.iter().map(|(_, count)| count).sum()),
        ("hub_waits_held", "Calls of nodes that are held until there is news.", state.metrics.held()),
        ("hub_live_followers", "Pages and programs that follow live.", state.live.followers() as i64),
    ];
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], state.metrics.text(&gauges)))
}
