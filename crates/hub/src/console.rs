//! The pages. They are rendered here, from the same answers that the API gives, and work without a script; with one
//! they follow what happens.

pub mod alerts;
pub mod assets;
pub mod docs;
pub mod json_text;
pub mod login;
pub mod node;
pub mod nodes;
pub mod number;
pub mod overview;
pub mod page;
pub mod records;
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
    Router::new()
        .route("/", get(overview::show))
        .route("/nodes", get(nodes::show))
        .route("/nodes/{node}", get(node::show))
        .route("/alerts", get(alerts::show))
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
