//! One node: how it is, what it measures, what fires on it, how far its streams are.

use std::sync::Arc;

use askama::Template;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;

use crate::access::who::{Role, Who};
use crate::api::alerts::{AlertsAsked, page as alert_page};
use crate::api::enrolments::{self, Key, KeysAsked};
use crate::api::figures::{self, FiguresOf, ModelFigures};
use crate::api::nodes::{NodeDetail, SourceNow, StreamNow, TrustNow, detail, row};
use crate::api::records::{GapItem, GapsAsked, gap_page};
use crate::api::refusal::{Asked, Refusal};
use crate::api::rollouts::why;
use crate::api::series::{Series, SeriesAsked, read};
use crate::console::alerts::AlertView;
use crate::console::json_text::{Piece, set_out};
use crate::console::nodes::clock_words;
use crate::console::number::{bytes, grouped, short};
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::rollouts;
use crate::console::sparkline::Sparkline;
use crate::console::time::{When, exact_length, length, when};
use crate::state::HubState;
use crate::store::rollouts as store;

/// The stretches one may choose: words, and milliseconds.
const STRETCHES: [(&str, i64); 4] =
    [("5 min", 300_000), ("30 min", 1_800_000), ("6 h", 21_600_000), ("24 h", 86_400_000)];

/// How many rollouts tell what they have for a node, and among how many they are looked for.
const OFFERS: usize = 8;
const OFFERS_AMONG: i64 = 200;

#[derive(Template)]
#[template(path = "node.html")]
struct NodePage {
    frame: Frame,
    node: NodeDetail,
    seen: When,
    first_seen: When,
    clock: String,
    uptime: Option<String>,
    memory: Option<String>,
    journal_size: Option<String>,
    sources: Vec<SourceView>,
    source: Option<String>,
    stretches: Vec<Stretch>,
    span_ms: i64,
    fixed: Option<(i64, i64)>,
    stale: Option<When>,
    cut: bool,
    lines: Vec<LineView>,
    alerts: Vec<AlertView>,
    gaps: Vec<GapView>,
    streams: Vec<StreamView>,
    trust: Option<String>,
    figures: Vec<FiguresView>,
    checkin: Vec<Piece>,
    offers: Vec<OfferView>,
    /// By which it comes; an admin sees them.
    keys: Vec<KeyView>,
    is_admin: bool,
}

/// What a rollout under way has for the node.
struct OfferView {
    href: String,
    what: String,
    phase: &'static str,
    why: String,
}

/// What one model told before its last change, and since.
struct FiguresView {
    model: String,
    turned: Option<When>,
    before: String,
    since: String,
    rows: Vec<FigureView>,
}

/// One figure of both sides.
struct FigureView {
    name: &'static str,
    before: String,
    since: String,
    change: String,
}

/// A key of the node.
struct KeyView {
    item: Key,
    brief: String,
    until: When,
}

struct SourceView {
    source: SourceNow,
    chosen: bool,
    dot: &'static str,
    readings: Option<String>,
    refused: Option<String>,
}

struct Stretch {
    words: &'static str,
    span_ms: i64,
    chosen: bool,
}

/// A channel as it is drawn without a script.
struct LineView {
    channel: String,
    last: String,
    low: String,
    high: String,
    line: Sparkline,
}

struct GapView {
    gap: GapItem,
    noted: When,
    count: String,
}

struct StreamView {
    stream: StreamNow,
    settled: String,
    written: String,
    behind: Option<String>,
}

/// The page of a node.
pub async fn show(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(name): Path<String>,
    asked: Result<Asked<SeriesAsked>, Refusal>,
) -> Result<Response, PageRefusal> {
    let Asked(asked) = asked?;
    let now_ms = state.now_ms();
    let node = detail(&state, &name).await?;
    let row = row(&state, &name).await?;
    let few = SeriesAsked { points: Some(120), ..asked.clone() };
    let series = match read(&state, &row, &few).await {
        // The first visit of a node that has not sent the source yet.
        Err(refusal) if refusal.status() == axum::http::StatusCode::NOT_FOUND => {
            read(&state, &row, &SeriesAsked { source: None, ..few }).await?
        }
        other => other?,
    };
    let of_node =
        AlertsAsked { node: Some(node.item.node.clone()), limit: Some(20), ..AlertsAsked::default() };
    let mut alerts = alert_page(&state, &of_node).await?.alerts;
    alerts.sort_by_key(|alert| (alert.cleared_ms.is_some(), -alert.id));
    let gaps =
        gap_page(&state, &GapsAsked { node: Some(node.item.node.clone()), limit: Some(10), before: None })
            .await?
            .gaps;
    let span_ms = asked.span_ms.unwrap_or(1_800_000);
    let fixed = asked.from_ms.zip(asked.to_ms);
    let chosen = series.source.clone();
    let stretch = |(words, ms): (&'static str, i64)| Stretch {
        words,
        span_ms: ms,
        chosen: fixed.is_none() && ms == span_ms,
    };
    let node_now_ms = series.now_ms;
    let is_stale = fixed.is_none() && series.latest_ms.is_some() && series.to_ms < node_now_ms - 1000;
    let is_admin = who.has(Role::Admin);
    let keys = match is_admin && state.ca.is_some() {
        true => {
            enrolments::keys(State(state.clone()), Asked(KeysAsked { node: Some(name.clone()) })).await?.0
        }
        false => Vec::new(),
    };
    let key = |item: Key| KeyView {
        brief: item.id.chars().take(16).collect(),
        until: when(item.denied_ms.unwrap_or(item.not_after_ms), now_ms),
        item,
    };
    Ok(render(&NodePage {
        offers: offers(&state, &name).await?,
        keys: keys.into_iter().map(key).collect(),
        is_admin,
        frame: Frame::of(&state, &node.item.node, "nodes").await?,
        seen: when(node.item.last_seen_ms, now_ms),
        first_seen: when(node.item.first_seen_ms, now_ms),
        clock: clock_words(node.item.clock.as_deref(), node.item.clock_offset_ms),
        uptime: node.uptime_ms.map(|ms| exact_length(ms as i64)),
        memory: node.rss_bytes.map(bytes),
        journal_size: node.journal_bytes.map(bytes),
        sources: node.sources_now.iter().map(|source| source_view(source, chosen.as_deref())).collect(),
        stretches: STRETCHES.into_iter().map(stretch).collect(),
        span_ms,
        fixed,
        stale: series.latest_ms.filter(|_| is_stale).map(|latest_ms| when(latest_ms, node_now_ms)),
        cut: series.cut,
        lines: lines(&series),
        source: chosen,
        alerts: alerts.into_iter().map(|alert| AlertView::new(alert, now_ms)).collect(),
        gaps: gaps.into_iter().map(|gap| gap_view(gap, now_ms)).collect(),
        streams: node.streams.iter().map(stream_view).collect(),
        trust: node.trust.as_ref().and_then(trust_words),
        figures: figures::read(&state, &row).await?.iter().map(|it| figures_view(it, now_ms)).collect(),
        checkin: node.checkin.as_ref().map(|text| set_out(text.get())).unwrap_or_default(),
        node,
    }))
}

/// What each rollout under way has for a node, or the first reason why it has nothing.
async fn offers(state: &Arc<HubState>, node: &str) -> Result<Vec<OfferView>, Refusal> {
    let mut offers = Vec::new();
    for row in store::list(&state.readers, None, None, OFFERS_AMONG).await? {
        if !row.active || offers.len() == OFFERS {
            continue;
        }
        let (plan, rollout) = rollouts::read(&row)?;
        let path = Path((row.id.clone(), node.to_owned()));
        // One that has ended in the meantime has nothing more to say.
        let Ok(Json(told)) = why(State(state.clone()), path).await else { continue };
        offers.push(OfferView {
            href: format!("/rollouts/{}", row.id),
            what: rollouts::what(&plan),
            phase: rollout.phase.as_str(),
            why: told.why,
        });
    }
    Ok(offers)
}

fn source_view(source: &SourceNow, chosen: Option<&str>) -> SourceView {
    SourceView {
        chosen: chosen == Some(source.source.as_str()),
        dot: match source.state.as_deref() {
            Some("running") => "good",
            Some("failed") => "bad",
            Some("waiting") => "warn",
            _ => "quiet",
        },
        readings: source.readings.map(grouped),
        refused: source.refused.filter(|refused| *refused > 0).map(grouped),
        source: source.clone(),
    }
}

fn lines(series: &Series) -> Vec<LineView> {
    let points = &series.points;
    let marks: Vec<(i64, i64)> = series
        .episodes
        .iter()
        .map(|episode| (episode.since_ms, episode.ended_ms.unwrap_or(series.to_ms)))
        .collect();
    let gap_ms = points.typical_ms.map_or(i64::MAX, |typical_ms| typical_ms.saturating_mul(3));
    let view = |channel: &crate::downsample::ChannelPoints| {
        let line = Sparkline::draw(channel, &points.t_ms, (series.from_ms, series.to_ms), gap_ms, &marks);
        LineView {
            channel: channel.channel.clone(),
            last: channel
                .mean
                .iter()
                .rev()
                .find(|value| value.is_finite())
                .map_or("–".to_owned(), |last| short(*last)),
            low: line.range.map_or("–".to_owned(), |(low, _)| short(low)),
            high: line.range.map_or("–".to_owned(), |(_, high)| short(high)),
            line,
        }
    };
    points.channels.iter().map(view).collect()
}

/// A figure: its name, what it is called, how it is written.
type Figure = (&'static str, &'static str, fn(f64) -> String);

/// The figures that people compare, by name: what they are called, and how they are written.
const FIGURES: [Figure; 4] = [
    ("p95_ms", "p95 of a token", |ms| format!("{} ms", short(ms))),
    ("failed_share", "Failed", |share| format!("{} %", short(share * 100.0))),
    ("rss_bytes", "Memory", |size| bytes(size as u64)),
    ("joules", "Energy of an answer", |joules| format!("{} J", short(joules))),
];

fn figures_view(told: &ModelFigures, now_ms: i64) -> FiguresView {
    let value = |side: &Option<FiguresOf>, metric: &str| side.as_ref()?.figures.get(metric).copied();
    let row = |(metric, name, show): Figure| {
        let (before, since) = (value(&told.before, metric), value(&told.since, metric));
        if before.is_none() && since.is_none() {
            return None;
        }
        let shown = |value: Option<f64>| value.map_or("–".to_owned(), show);
        let change = match before.zip(since) {
            Some((before, since)) if metric.ends_with("_share") => {
                format!("{:+.1} points", (since - before) * 100.0)
            }
            Some((before, since)) if before > 0.0 => format!("{:+.0} %", (since / before - 1.0) * 100.0),
            _ => String::new(),
        };
        Some(FigureView { name, before: shown(before), since: shown(since), change })
    };
    let release = |side: &Option<FiguresOf>| match side {
        Some(FiguresOf { release: Some(release), .. }) => format!("release {release}"),
        Some(side) => side.manifest.chars().take(8).collect(),
        None => "nothing told".to_owned(),
    };
    FiguresView {
        model: told.model.clone(),
        turned: told.turned_ms.map(|turned_ms| when(turned_ms, now_ms)),
        before: release(&told.before),
        since: release(&told.since),
        rows: FIGURES.into_iter().filter_map(row).collect(),
    }
}

fn gap_view(gap: GapItem, now_ms: i64) -> GapView {
    let count = gap.last.saturating_sub(gap.first).saturating_add(1).max(0);
    GapView { noted: when(gap.noted_ms, now_ms), count: grouped(count as u64), gap }
}

fn stream_view(stream: &StreamNow) -> StreamView {
    let behind =
        stream.written.map(|written| written.saturating_sub(stream.settled)).filter(|behind| *behind > 0);
    StreamView {
        settled: grouped(stream.settled),
        written: stream.written.map_or("–".to_owned(), grouped),
        behind: behind.map(grouped),
        stream: stream.clone(),
    }
}

/// What a person should know of a node's trust; nothing if all is well.
fn trust_words(trust: &TrustNow) -> Option<String> {
    match (&trust.lost, trust.stale_ms) {
        (Some(why), _) => Some(format!("No new release is accepted: {why}")),
        (None, 1..) => {
            let past = length(trust.stale_ms);
            Some(format!(
                "What it trusts is out of date by {past}: it takes no new release unless its policy allows that."
            ))
        }
        (None, _) => None,
    }
}
