//! The pages. They are rendered here, from the same answers that the API gives, and work without a script; with one
//! they follow what happens.

pub mod alerts;
pub mod assets;
pub mod audit;
pub mod docs;
pub mod enrol;
pub mod experiments;
pub mod facts;
pub mod groups;
pub mod json_text;
pub mod link;
pub mod login;
pub mod node;
pub mod nodes;
pub mod number;
pub mod overview;
pub mod packages;
pub mod page;
pub mod plan;
pub mod records;
pub mod rollouts;
pub mod settings;
#[cfg(feature = "oidc")]
pub mod sign_in;
pub mod sparkline;
pub mod time;

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::routing::{get, post};

use crate::access::Access;
use crate::api::refusal::Refusal;
use crate::console::page::PageRefusal;
use crate::state::HubState;

/// All routes of the console.
pub fn router(state: Arc<HubState>, access: Arc<Access>) -> Router {
    let door = Router::new()
        .route("/login", get(login::form).post(login::enter))
        .route("/logout", post(login::leave))
        .with_state(access);
    let pages = Router::new();
    #[cfg(feature = "oidc")]
    let pages = pages
        .route("/login/oidc", get(sign_in::begin))
        .route(crate::config::people::BACK_PATH, get(sign_in::back));
    pages
        .route("/", get(overview::show))
        .route("/nodes", get(nodes::show))
        .route("/nodes/{node}", get(node::show))
        .route("/nodes/{node}/facts", get(facts::show))
        .route("/nodes/{node}/labels", post(facts::label))
        .route("/nodes/{node}/deny", post(settings::deny))
        .route("/enrol", get(enrol::show).post(enrol::make))
        .route("/enrol/{id}/withdraw", post(enrol::withdraw))
        .route("/enrol/tickets/{id}/admit", post(enrol::admit))
        .route("/enrol/tickets/{id}/refuse", post(enrol::refuse))
        .route("/groups", get(groups::show).post(groups::change))
        .route("/groups/matched", get(groups::matched))
        .route("/rollouts", get(rollouts::list))
        .route("/rollouts/new", get(plan::show).post(plan::create))
        .route("/rollouts/{id}", get(rollouts::one))
        .route("/rollouts/{id}/{order}", post(rollouts::order))
        .route("/experiments", get(experiments::list))
        .route("/experiments/{id}", get(experiments::one))
        .route("/experiments/{id}/{order}", post(experiments::order))
        .route("/packages", get(packages::list))
        .route("/packages/{model}/{release}", get(packages::one))
        .route("/audit", get(audit::show))
        .route("/settings", get(settings::show))
        .route("/settings/recovery", post(settings::recover))
        .route("/settings/operators", post(settings::put_operator))
        .route("/settings/tokens", post(settings::make_token))
        .route("/settings/tokens/{id}/revoke", post(settings::revoke))
        .route("/settings/keys/{key}/pardon", post(settings::pardon))
        .route("/alerts", get(alerts::show))
        .route("/alerts/{id}/ack", post(alerts::ack))
        .route("/records", get(records::list))
        .route("/records/{node}/{journal}/{stream}/{seq}", get(records::one))
        .route("/api", get(docs::show))
        .with_state(state)
        .route("/assets/{name}", get(assets::file))
        .merge(door)
        .fallback(nothing_here)
}

async fn nothing_here(uri: Uri) -> PageRefusal {
    let path: String = uri.path().chars().take(200).collect();
    Refusal::not_found(
        format!("There is no page {path}"),
        "Everything there is can be reached from the overview.",
    )
    .into()
}
