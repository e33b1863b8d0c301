//! What fires, then what has fired, and why, in words.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use crate::access::who::Who;
use crate::api::alerts::{AlertItem, AlertState, AlertsAsked, acked, page};
use crate::api::refusal::{Asked, Refusal};
use crate::console::number::{grouped, probability, short};
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::time::{When, exact_length, when};
use crate::state::HubState;
use crate::watch::{JOURNAL_FORKED, NODE_SILENT, RECORDS_LOST};

/// An alert on a page.
#[derive(Debug, Clone)]
pub struct AlertView {
    /// The alert.
    pub alert: AlertItem,
    /// What it says, as a title.
    pub title: String,
    /// When it fired.
    pub fired: When,
    /// How long it lasted, if it is over.
    pub lasted: Option<String>,
    /// The value it was judged on.
    pub value: Option<String>,
    /// The calibrated probability that it is right.
    pub confidence: Option<String>,
    /// How often, when more than once.
    pub count: Option<String>,
    /// The page of the record that explains it.
    pub record: Option<String>,
    /// Whether it fires.
    pub firing: bool,
    /// When somebody said that they have seen it.
    pub acked: Option<When>,
}

impl AlertView {
    /// An alert seen from now.
    pub fn new(alert: AlertItem, now_ms: i64) -> AlertView {
        let title = match (alert.origin.as_str(), alert.rule.as_str()) {
            ("hub", NODE_SILENT) => "Node is silent".to_owned(),
            ("hub", JOURNAL_FORKED) => "Journal forked".to_owned(),
            ("hub", RECORDS_LOST) => "Records lost".to_owned(),
            (_, rule) => rule.to_owned(),
        };
        AlertView {
            title,
            fired: when(alert.fired_ms, now_ms),
            lasted: alert
                .cleared_ms
                .map(|cleared_ms| exact_length(cleared_ms.saturating_sub(alert.fired_ms).max(0))),
            value: alert.value.map(short),
            confidence: alert.confidence.map(probability),
            count: (alert.count > 1).then(|| grouped(alert.count as u64)),
            record: alert.record.as_ref().map(|place| {
                format!("/records/{}/{}/{}/{}", place.node, place.journal, place.stream, place.seq)
            }),
            firing: alert.cleared_ms.is_none(),
            acked: alert.acked.as_ref().map(|acked| when(acked.at_ms, now_ms)),
            alert,
        }
    }
}

/// The worst first.
pub fn rank(severity: &str) -> u8 {
    match severity {
        "critical" => 0,
        "warning" => 1,
        _ => 2,
    }
}

#[derive(Template)]
#[template(path = "alerts.html")]
struct AlertsPage {
    frame: Frame,
    node: Option<String>,
    firing: Vec<AlertView>,
    cleared: Vec<AlertView>,
    next_before: Option<i64>,
    first: bool,
}

/// The page of alerts.
pub async fn show(
    State(state): State<Arc<HubState>>,
    asked: Result<Asked<AlertsAsked>, Refusal>,
) -> Result<Response, PageRefusal> {
    let Asked(asked) = asked?;
    let now_ms = state.now_ms();
    let views =
        |alerts: Vec<AlertItem>| alerts.into_iter().map(|alert| AlertView::new(alert, now_ms)).collect();
    let first = asked.before.is_none();
    let node = asked.node.filter(|node| !node.is_empty());
    let part = |which| AlertsAsked { state: Some(which), node: node.clone(), before: None, limit: Some(200) };
    let mut firing = if first { page(&state, &part(AlertState::Firing)).await?.alerts } else { Vec::new() };
    firing.sort_by_key(|alert| (rank(&alert.severity), -alert.id));
    let history = AlertsAsked { before: asked.before, limit: Some(50), ..part(AlertState::Cleared) };
    let cleared = page(&state, &history).await?;
    Ok(render(&AlertsPage {
        frame: Frame::of(&state, "Alerts", "alerts").await?,
        firing: views(firing),
        cleared: views(cleared.alerts),
        next_before: cleared.next_before,
        first,
        node,
    }))
}

/// What whoever has seen an alert says.
#[derive(Debug, Deserialize)]
pub struct Seen {
    #[serde(default)]
    note: String,
}

/// Says that somebody has seen an alert, and goes back to the page.
pub async fn ack(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(id): Path<String>,
    sent: Result<Form<Seen>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let mend = "go back to the alert, and write a note";
    let Form(Seen { note }) =
        sent.map_err(|error| Refusal::bad_request("bad-form", error.body_text(), mend))?;
    acked(&state, &who, &id, note).await?;
    Ok(Redirect::to("/alerts").into_response())
}
