//! Who did what, when, and why: the audit log, the newest first.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use crate::api::refusal::{Asked, Refusal};
use crate::audit::key;
use crate::audit::verify::{Verified, verify};
use crate::console::json_text::{Piece, set_out};
use crate::console::link::quoted;
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::time::{When, when};
use crate::state::HubState;
use crate::store::audit::{self, AuditFilter, AuditRow};

/// How many entries stand on a page.
const PAGE: i64 = 100;

/// Which entries.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditAsked {
    #[serde(default)]
    who: String,
    #[serde(default)]
    act: String,
    #[serde(default)]
    on: String,
    before: Option<i64>,
    /// Whether the published log shall be looked at.
    #[serde(default)]
    verify: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    who: String,
    act: String,
    on: String,
    filtered: bool,
    first: bool,
    entries: Vec<EntryView>,
    next: Option<String>,
    verified: Option<Verdict>,
}

/// What came of looking at the published log.
struct Verdict {
    good: bool,
    words: String,
    told: String,
}

/// An entry on a page.
pub(crate) struct EntryView {
    /// The entry.
    pub(crate) row: AuditRow,
    /// When it was.
    pub(crate) at: When,
    /// What it is about, in short.
    pub(crate) about: String,
    /// Why, if somebody said.
    pub(crate) why: String,
    /// The page of what it is about.
    pub(crate) href: Option<String>,
    /// Its text, set out.
    pub(crate) text: Vec<Piece>,
}

impl EntryView {
    /// An entry seen from now.
    pub(crate) fn new(row: AuditRow, now_ms: i64) -> EntryView {
        let body: serde_json::Value = serde_json::from_str(&row.body).unwrap_or_default();
        let href = match row.act.split('.').next() {
            Some("rollout" | "wave") => Some(format!("/rollouts/{}", quoted(&row.about))),
            Some("node") => Some(format!("/nodes/{}", quoted(&row.about))),
            Some("group") => Some("/groups".to_owned()),
            _ => None,
        };
        EntryView {
            at: when(row.at_ms, now_ms),
            why: body["why"].as_str().unwrap_or_default().to_owned(),
            about: brief(&row.about),
            text: set_out(&row.body),
            href,
            row,
        }
    }
}

/// The beginning of a long id.
pub(crate) fn brief(text: &str) -> String {
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { format!("{}…", &text[..8]) } else { text.to_owned() }
}

/// The page.
pub async fn show(
    State(state): State<Arc<HubState>>,
    asked: Result<Asked<AuditAsked>, Refusal>,
) -> Result<Response, PageRefusal> {
    let Asked(asked) = asked?;
    let now_ms = state.now_ms();
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let filter = AuditFilter {
        who: some(&asked.who),
        act: some(&asked.act),
        about: some(&asked.on),
        before: asked.before,
    };
    let rows = audit::list(&state.readers, &filter, PAGE).await.map_err(Refusal::from)?;
    let next = (rows.len() as i64 == PAGE).then(|| rows.last()).flatten().map(|last| {
        let (who, act, on) = (quoted(&asked.who), quoted(&asked.act), quoted(&asked.on));
        format!("/audit?who={who}&act={act}&on={on}&before={}", last.id)
    });
    let verified = if asked.verify.is_empty() { None } else { Some(look(&state).await) };
    Ok(render(&AuditPage {
        verified,
        frame: Frame::of(&state, "Audit", "audit").await?,
        filtered: filter.who.is_some() || filter.act.is_some() || filter.about.is_some(),
        first: asked.before.is_none(),
        entries: rows.into_iter().map(|row| EntryView::new(row, now_ms)).collect(),
        next,
        who: asked.who,
        act: asked.act,
        on: asked.on,
    }))
}

/// Looks at the published log: its signature, its tree, and the last entries on both sides.
async fn look(state: &HubState) -> Verdict {
    let bad = |error: &dyn std::error::Error| {
        let mut words = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            words = format!("{words}: {cause}");
            source = cause.source();
        }
        Verdict {
            good: false,
            words,
            told: "Keep the newest checkpoint that you have, and look at the hub's log.".to_owned(),
        }
    };
    let key = match key::public(&state.config) {
        Ok(key) => key,
        Err(error) => return bad(&error),
    };
    match verify(&state.readers, &state.depot, &key).await {
        Err(error) => bad(&error),
        Ok(None) => Verdict {
            good: true,
            words: "No entry is published yet.".to_owned(),
            told: "The first are within a minute.".to_owned(),
        },
        Ok(Some(Verified { checkpoint, from, to_come })) => {
            let to_come = match to_come {
                0 => "nothing is to come".to_owned(),
                1 => "1 more is published within a minute".to_owned(),
                more => format!("{more} more are published within a minute"),
            };
            Verdict {
                good: true,
                words: format!(
                    "The log stands: {}, signed as {}.",
                    entries(checkpoint.size),
                    checkpoint.origin
                ),
                told: format!(
                    "The tree leads to the signed root, and entries {from} to {} are the same here and there, byte for byte; {to_come}.",
                    checkpoint.size
                ),
            }
        }
    }
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}
