//! The published audit log, for anybody who may look: plain files that any cache may keep, as <https://c2sp.org/tlog-tiles> names them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use package::tlog::TILE_WIDTH;
use package::tlog::note::NOTE_MAX_BYTES;
use package::tlog::tile::{Content, Tile};

use crate::api::refusal::Refusal;
use crate::audit::heads;
use crate::audit::publish::BUNDLE_MAX_BYTES;
use crate::audit::witness::CHECKPOINT;
use crate::cache;
use crate::depot::Key;
use crate::state::HubState;

const MEND: &str = "the log begins with `checkpoint`; https://c2sp.org/tlog-tiles names the rest";

/// How far the log has come, signed.
pub async fn checkpoint(State(state): State<Arc<HubState>>) -> Result<Response, Refusal> {
    let note = state.depot.read(&Key::log(CHECKPOINT), NOTE_MAX_BYTES as u64).await?;
    let missing = || Refusal::not_found("no entry of the audit log was published yet".to_owned(), MEND);
    let facts = [(header::CACHE_CONTROL, cache::ASK), (header::CONTENT_TYPE, text())];
    Ok((facts, note.ok_or_else(missing)?).into_response())
}

fn text() -> HeaderValue {
    HeaderValue::from_static("text/plain; charset=utf-8")
}

/// A file of the log: `0/x001/234`, `1/000.p/17` with hashes, `entries/000.p/17` with entries.
pub async fn tile(State(state): State<Arc<HubState>>, Path(path): Path<String>) -> Result<Response, Refusal> {
    let missing = || Refusal::not_found("the audit log has no such tile".to_owned(), MEND);
    let tile = Tile::parse(&format!("tile/{path}")).ok_or_else(missing)?;
    let most = match tile.content {
        Content::Hashes(_) => TILE_WIDTH * 32,
        Content::Entries => BUNDLE_MAX_BYTES,
    };
    let bytes = state.depot.read(&Key::log(&tile.to_string()), most).await?.ok_or_else(missing)?;
    let facts = [
        (header::CACHE_CONTROL, cache::for_ever(&state.config)),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
    ];
    Ok((facts, bytes).into_response())
}

/// A list of the heads of nodes' chains, as lines; an entry `heads` of the log has their SHA-256.
pub async fn heads(
    State(state): State<Arc<HubState>>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let missing = || {
        let mend = "entries `heads` of the log name them";
        Refusal::not_found("there is no such list of heads".to_owned(), mend)
    };
    if !heads::is_name(&name) {
        return Err(missing());
    }
    let blob = state.depot.read(&Key::heads(&name), heads::LINES_MAX_BYTES).await?.ok_or_else(missing)?;
    let lines = tokio::task::spawn_blocking(move || heads::lines(&blob)).await.ok().flatten();
    let facts = [(header::CACHE_CONTROL, cache::for_ever(&state.config)), (header::CONTENT_TYPE, text())];
    Ok((facts, lines.ok_or_else(missing)?).into_response())
}
