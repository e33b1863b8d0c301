//! What happens now, as server-sent events: a page or a program follows, and is told when it was too slow.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;

use crate::api::nodes::row;
use crate::api::refusal::{ErrorBody, Refusal};
use crate::live::{Follower, Heard};
use crate::state::{HubState, stopped};

/// Follows the fleet.
///
/// Events are `summary`, `inference`, `decision`, `source` and `node`, each with one line of JSON, and `lagged` with
/// how many were `missed` by a reader that was too slow.
#[utoipa::path(
    get, path = "/api/v1/live", tag = "live",
    responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many follow already", body = ErrorBody),
    )
)]
pub async fn of_all(
    State(state): State<Arc<HubState>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    follow(&state, None)
}

/// Follows one node.
#[utoipa::path(
    get, path = "/api/v1/nodes/{node}/live", tag = "live",
    params(("node" = String, Path, description = "The node's name")),
    responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        (status = 404, body = ErrorBody),
        (status = 503, description = "Too many follow already", body = ErrorBody),
    )
)]
pub async fn of_node(
    State(state): State<Arc<HubState>>,
    Path(node): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let node = row(&state, &node).await?;
    follow(&state, Some(&node.name))
}

fn follow(
    state: &HubState,
    node: Option<&str>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, Refusal> {
    let follower = state.live.follow(node).ok_or_else(|| {
        state.metrics.busy();
        Refusal::later("too-many-followers", "too many pages and programs follow live already".to_owned(), 30)
    })?;
    let hello = format!(r#"{{"hub_ms":{},"version":"{}"}}"#, state.now_ms(), env!("CARGO_PKG_VERSION"));
    let first = Some(Event::default().event("hello").data(hello).retry(Duration::from_secs(3)));
    let events = unfold((first, follower, state.stopping.clone()), next);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

type Following = (Option<Event>, Follower, watch::Receiver<bool>);

async fn next(
    (first, mut follower, mut stopping): Following,
) -> Option<(Result<Event, Infallible>, Following)> {
    if let Some(hello) = first {
        return Some((Ok(hello), (None, follower, stopping)));
    }
    let heard = tokio::select! {
        heard = follower.next() => heard?,
        _ = stopped(&mut stopping) => return None,
    };
    let event = match heard {
        Heard::Event(event) => Event::default().event(event.name).data(&*event.data),
        Heard::Lagged(missed) => Event::default().event("lagged").data(format!(r#"{{"missed":{missed}}}"#)),
    };
    Some((Ok(event), (None, follower, stopping)))
}
