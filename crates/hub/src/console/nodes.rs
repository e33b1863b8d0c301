//! The list of nodes.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use crate::api::nodes::{NodeItem, NodesAsked, page};
use crate::api::refusal::Asked;
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::time::{When, length, when};
use crate::state::HubState;

#[derive(Template)]
#[template(path = "nodes.html")]
struct NodesPage {
    frame: Frame,
    nodes: Vec<NodeView>,
    next_after: Option<String>,
    first: bool,
    address: String,
}

struct NodeView {
    item: NodeItem,
    seen: When,
    clock: String,
}

/// The list.
pub async fn show(
    State(state): State<Arc<HubState>>,
    asked: Result<Asked<NodesAsked>, crate::api::refusal::Refusal>,
) -> Result<Response, PageRefusal> {
    let Asked(asked) = asked?;
    let now_ms = state.now_ms();
    let first = asked.after.is_none();
    let list = page(&state, &asked).await?;
    let view = |item: NodeItem| NodeView {
        seen: when(item.last_seen_ms, now_ms),
        clock: clock_words(item.clock.as_deref(), item.clock_offset_ms),
        item,
    };
    Ok(render(&NodesPage {
        frame: Frame::of(&state, "Nodes", "nodes").await?,
        nodes: list.nodes.into_iter().map(view).collect(),
        next_after: list.next_after,
        first,
        address: format!("http://{}", state.config.listen),
    }))
}

/// How a node's clock is, in a few words.
pub fn clock_words(clock: Option<&str>, offset_ms: Option<i64>) -> String {
    let offset_ms = offset_ms.unwrap_or(0);
    match clock {
        None => "–".to_owned(),
        Some("off") if offset_ms > 0 => format!("{} ahead", length(offset_ms)),
        Some("off") => format!("{} behind", length(offset_ms.saturating_neg())),
        Some("checked") => "agrees".to_owned(),
        Some(_) => "unchecked".to_owned(),
    }
}
