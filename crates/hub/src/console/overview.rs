//! The first page: is everything well, and if not, where to look.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use crate::api::alerts::{AlertState, AlertsAsked, page as alert_page};
use crate::api::nodes::{NodeItem, NodesAsked, page as node_page};
use crate::api::overview::{Anomaly, Overview, read};
use crate::api::refusal::Refusal;
use crate::console::alerts::{AlertView, rank};
use crate::console::number::{grouped, probability, short};
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::rollouts::{RolloutView, Wait, in_short, is_under_way, wait};
use crate::console::sparkline::Sparkline;
use crate::console::time::{When, exact_length, when};
use crate::state::HubState;
use crate::store::rollouts;

/// How many nodes and alerts the page shows before it refers to their own pages.
const NODES: u32 = 48;
const ALERTS: usize = 6;

/// How many rollouts it shows, and among how many it looks for those under way.
const ROLLOUTS: usize = 4;
const LOOKED: i64 = 200;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    up: String,
    overview: Overview,
    per_minute: String,
    records: String,
    firing: Vec<AlertView>,
    anomalies: Vec<AnomalyView>,
    nodes: Vec<NodeItem>,
    more_nodes: i64,
    waits: Vec<Wait>,
    rollouts: Vec<RolloutView>,
    active: usize,
    address: String,
}

struct AnomalyView {
    node: String,
    source: String,
    model: String,
    since: When,
    lasted: Option<String>,
    score: String,
    probability: Option<String>,
    channel: Option<String>,
    share: Option<String>,
    line: Option<Sparkline>,
    href: String,
}

/// The overview.
pub async fn show(State(state): State<Arc<HubState>>) -> Result<Response, PageRefusal> {
    let now_ms = state.now_ms();
    let overview = read(&state).await?;
    let asked = AlertsAsked { state: Some(AlertState::Firing), limit: Some(200), ..AlertsAsked::default() };
    let mut firing = alert_page(&state, &asked).await?.alerts;
    firing.sort_by_key(|alert| (rank(&alert.severity), -alert.id));
    firing.truncate(ALERTS);
    let nodes = node_page(&state, &NodesAsked { limit: Some(NODES), ..NodesAsked::default() }).await?.nodes;
    let mut under_way = rollouts::list(&state.readers, None, None, LOOKED).await.map_err(Refusal::from)?;
    under_way.retain(is_under_way);
    Ok(render(&OverviewPage {
        waits: under_way.iter().filter_map(wait).collect(),
        active: under_way.len(),
        rollouts: under_way.iter().take(ROLLOUTS).filter_map(|row| in_short(row, now_ms)).collect(),
        frame: Frame::of(&state, "Overview", "overview").await?,
        up: grouped((overview.nodes - overview.nodes_silent).max(0) as u64),
        per_minute: grouped(overview.records_last_minute),
        records: grouped(overview.records.max(0) as u64),
        firing: firing.into_iter().map(|alert| AlertView::new(alert, now_ms)).collect(),
        anomalies: overview.anomalies.iter().map(|anomaly| view(anomaly, now_ms)).collect(),
        more_nodes: overview.nodes - nodes.len() as i64,
        nodes,
        address: format!("http://{}", state.config.listen),
        overview,
    }))
}

fn view(anomaly: &Anomaly, now_ms: i64) -> AnomalyView {
    let episode = &anomaly.episode;
    let end_ms = episode.ended_ms.unwrap_or(anomaly.to_ms);
    let gap_ms = typical_gap_ms(&anomaly.t_ms);
    let stretch = (anomaly.from_ms, anomaly.to_ms);
    let marks = [(episode.since_ms, end_ms)];
    let lead = episode.channels.first();
    AnomalyView {
        node: episode.node.clone(),
        source: episode.source.clone(),
        model: episode.model.clone(),
        since: when(episode.since_ms, now_ms),
        lasted: episode.ended_ms.map(|ended_ms| exact_length(ended_ms.saturating_sub(episode.since_ms))),
        score: short(episode.score),
        probability: episode.probability.map(probability),
        channel: lead
            .map(|share| share.channel.clone())
            .or_else(|| Some(anomaly.line.as_ref()?.channel.clone())),
        share: lead.map(|share| format!("{:.0} %", share.share * 100.0)),
        line: anomaly.line.as_ref().map(|line| Sparkline::draw(line, &anomaly.t_ms, stretch, gap_ms, &marks)),
        href: format!(
            "/nodes/{}?source={}&from_ms={}&to_ms={}",
            episode.node, episode.source, anomaly.from_ms, anomaly.to_ms
        ),
    }
}

/// Three times the usual distance of points.
pub fn typical_gap_ms(t_ms: &[i64]) -> i64 {
    let mut steps: Vec<i64> = t_ms.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    steps.sort_unstable();
    steps.get(steps.len() / 2).map_or(i64::MAX, |step| step.saturating_mul(3))
}
