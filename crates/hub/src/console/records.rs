//! The records: a list to look through, and one record with its place in the chain.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use wire::body::{Body as _, Install};

use crate::api::records::{RecordItem, RecordProof, RecordRef, RecordsAsked, page, prove};
use crate::api::refusal::{Asked, Refusal};
use crate::console::json_text::{Piece, set_out};
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::time::{When, when};
use crate::state::HubState;

/// How much of a body the list shows.
const GLIMPSE_CHARS: usize = 160;

/// The kinds to choose from.
const KINDS: [&str; 8] =
    ["decision", "inference", "summary", "source", "start", "readings", "install", "disagreement"];

#[derive(Template)]
#[template(path = "records.html")]
struct RecordsPage {
    frame: Frame,
    node: String,
    stream: String,
    kind: String,
    kinds: [&'static str; 8],
    records: Vec<RecordView>,
    next: Option<String>,
    first: bool,
    filtered: bool,
}

struct RecordView {
    item: RecordItem,
    written: When,
    /// The body in words, if its kind reads better so.
    words: Option<String>,
    glimpse: String,
    href: String,
}

#[derive(Template)]
#[template(path = "record.html")]
struct RecordPage {
    frame: Frame,
    proof: RecordProof,
    written: When,
    body: Vec<Piece>,
    before: Option<String>,
    after: Option<String>,
    api: String,
}

/// The list.
pub async fn list(
    State(state): State<Arc<HubState>>,
    asked: Result<Asked<RecordsAsked>, Refusal>,
) -> Result<Response, PageRefusal> {
    let Asked(asked) = asked?;
    let now_ms = state.now_ms();
    let word = |word: &Option<String>| word.clone().unwrap_or_default();
    let (node, stream, kind) = (word(&asked.node), word(&asked.stream), word(&asked.kind));
    let first = asked.before.is_none();
    let list = page(&state, asked).await?;
    let next = list.next_before.map(|before| {
        format!(
            "/records?node={}&stream={}&kind={}&before={before}",
            escaped(&node),
            escaped(&stream),
            escaped(&kind)
        )
    });
    Ok(render(&RecordsPage {
        frame: Frame::of(&state, "Records", "records").await?,
        filtered: !(node.is_empty() && stream.is_empty() && kind.is_empty()),
        node,
        stream,
        kind,
        kinds: KINDS,
        records: list.records.into_iter().map(|item| view(item, now_ms)).collect(),
        next,
        first,
    }))
}

/// One record.
pub async fn one(
    State(state): State<Arc<HubState>>,
    Path((node, journal, stream, seq)): Path<(String, String, String, String)>,
) -> Result<Response, PageRefusal> {
    let now_ms = state.now_ms();
    let seq: i64 = seq.parse().unwrap_or(0);
    let proof = prove(&state, &RecordRef { node, journal, stream, seq }).await?;
    let place = &proof.record.place;
    let at = |seq: i64| format!("/records/{}/{}/{}/{seq}", place.node, place.journal, place.stream);
    let is_record = |what: &str| what == "record";
    Ok(render(&RecordPage {
        frame: Frame::of(&state, &format!("{} {}", proof.record.kind, place.seq), "records").await?,
        written: when(proof.record.wall_ms, now_ms),
        body: set_out(proof.record.body.get()),
        before: proof.before.as_ref().filter(|it| is_record(&it.what)).map(|it| at(it.last)),
        after: proof.after.as_ref().filter(|it| is_record(&it.what)).map(|it| at(it.first)),
        api: format!("/api/v1{}", at(place.seq)),
        proof,
    }))
}

fn view(item: RecordItem, now_ms: i64) -> RecordView {
    let RecordRef { node, journal, stream, seq } = &item.place;
    let body = item.body.get();
    RecordView {
        written: when(item.wall_ms, now_ms),
        href: format!("/records/{node}/{journal}/{stream}/{seq}"),
        words: in_words(&item.kind, body),
        glimpse: shortened(body),
        item,
    }
}

/// The beginning of a long text.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(GLIMPSE_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// What became of a release, in a line: `smollm2 7 q4_k_m refused (proving): golden case 0: …`.
fn in_words(kind: &str, body: &str) -> Option<String> {
    if kind != Install::KIND {
        return None;
    }
    let Install { model, release, variant, outcome, phase, why, .. } = serde_json::from_str(body).ok()?;
    let mut line = format!("{model} {release}");
    if let Some(variant) = variant {
        line = format!("{line} {variant}");
    }
    line = format!("{line} {}", outcome.replace('_', " "));
    if let Some(phase) = phase.filter(|_| outcome != "committed") {
        line = format!("{line} ({phase})");
    }
    if !why.is_empty() {
        line = format!("{line}: {why}");
    }
    Some(shortened(&line))
}

/// For a query string: what is not a plain character becomes `%XX`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_release_reads_as_a_line() {
        fn check(fields: &str, expected: &str) {
            let index = "0".repeat(64);
            let body = format!(r#"{{"id":"1","model":"smollm2","release":7,"index":"{index}",{fields}}}"#);
            assert_eq!(in_words("install", &body).as_deref(), Some(expected));
        }
        check(r#""variant":"q4_k_m","outcome":"committed","phase":"trial""#, "smollm2 7 q4_k_m committed");
        check(
            r#""variant":"q8_0","outcome":"refused","phase":"proving","why":"case 0: it parts at token 2""#,
            "smollm2 7 q8_0 refused (proving): case 0: it parts at token 2",
        );
        check(r#""outcome":"unfit","why":"needs 1 GiB""#, "smollm2 7 unfit: needs 1 GiB");
        check(r#""outcome":"rolled_back""#, "smollm2 7 rolled back");
        assert_eq!(in_words("install", "{}"), None);
        assert_eq!(in_words("decision", "{}"), None);
    }

    #[test]
    fn query_strings() {
        assert_eq!(escaped("pump-1"), "pump-1");
        assert_eq!(escaped("a&b=\"é"), "a%26b%3D%22%C3%A9");
    }
}
