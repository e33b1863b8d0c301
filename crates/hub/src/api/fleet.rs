//! What nodes say they are, the labels they are given here, and why an expression means a node or not.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::facts::Facts;

use crate::access::who::Who;
use crate::api::refusal::{Asked, ErrorBody, Refusal};
use crate::api::{intake, nodes};
use crate::fleet::labels;
use crate::fleet::view::Known;
use crate::rollout::offer::place;
use crate::rollout::step::Rollout;
use crate::rollout::text;
use crate::state::HubState;
use crate::store::{alerts, nodes as node_store, rollouts};
use crate::write::act::{Act, Deed, Done};

/// The most bytes of a set of labels on its way in.
const LABELS_MAX_BYTES: usize = 64 << 10;

/// What a node is.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeFacts {
    /// Its name.
    pub node: String,
    /// What it says, and what the hub knows of it: texts, numbers, lists of texts, true and false.
    #[schema(value_type = Object)]
    pub facts: Facts,
    /// The labels that were set here; absent if none ever were.
    pub set_here: Option<LabelsNow>,
}

/// Labels that were set here.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LabelsNow {
    /// Grows with every change.
    pub rev: u64,
    /// All of them.
    pub set: BTreeMap<String, String>,
}

/// Labels to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsPut {
    /// All that shall be set here; those that are left out go.
    pub set: BTreeMap<String, String>,
}

/// What a node says it is.
#[utoipa::path(
    get, path = "/api/v1/nodes/{node}/facts", tag = "fleet",
    params(("node" = String, Path, description = "The node's name")),
    responses((status = 200, body = NodeFacts), (status = 404, body = ErrorBody))
)]
pub async fn facts(
    State(state): State<Arc<HubState>>,
    Path(node): Path<String>,
) -> Result<Json<NodeFacts>, Refusal> {
    let known = known(&state, &node).await?;
    let set_here = known.set_here.as_deref().map(|here| LabelsNow { rev: here.rev, set: here.set.clone() });
    Ok(Json(NodeFacts { node: known.row.name.clone(), facts: known.with_hubs(state.now_ms()), set_here }))
}

/// A node with its facts, or a refusal that says it is not there.
pub async fn known(state: &HubState, node: &str) -> Result<Known, Refusal> {
    let row = nodes::row(state, node).await?;
    Ok(state.fleet.one(&state.readers, row).await?)
}

/// Sets the labels of a node that are set here, all of them. Those of its own settings win.
#[utoipa::path(
    put, path = "/api/v1/nodes/{node}/labels", tag = "fleet", request_body = LabelsPut,
    params(("node" = String, Path, description = "The node's name")),
    responses(
        (status = 200, description = "The node gets them with its next check-in", body = LabelsNow),
        (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody),
    )
)]
pub async fn label(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path(node): Path<String>,
    request: Request<Body>,
) -> Result<Json<LabelsNow>, Refusal> {
    let bytes = intake::read(&state, request, LABELS_MAX_BYTES).await?;
    let LabelsPut { set } = intake::json(&bytes)?;
    set_labels(&state, &who, &node, set).await.map(Json)
}

/// Sets labels, for the API and the page.
pub async fn set_labels(
    state: &HubState,
    who: &Who,
    node: &str,
    set: BTreeMap<String, String>,
) -> Result<LabelsNow, Refusal> {
    let row = nodes::row(state, node).await?;
    let what = Deed::Label { node: row.id, name: row.name, set };
    match state.writer.act(Act { who: who.name(), what }).await? {
        Done::Labelled(now) => Ok(LabelsNow { rev: now.rev, set: now.set }),
        Done::BadLabels(bad) => {
            Err(Refusal::bad_request("bad-labels", bad.to_string(), "labels are names and short texts"))
        }
        _ => Err(Refusal::later("store", "the labels were not set".to_owned(), 2)),
    }
}

/// Which labels are counted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LabelsAsked {
    /// Counts nodes by the value of this label.
    pub one: Option<String>,
    /// And by that of this one.
    pub two: Option<String>,
    /// Only nodes that this expression means.
    #[serde(rename = "where")]
    pub selector: Option<String>,
}

/// Labels of the fleet, and a map of it by one or two of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct LabelMap {
    /// Every label, by name.
    pub labels: Vec<LabelCount>,
    /// Nodes by the values of the labels that were asked for; empty if none was.
    pub cells: Vec<LabelCell>,
}

/// A label.
#[derive(Debug, Serialize, ToSchema)]
pub struct LabelCount {
    /// Its name.
    pub label: String,
    /// How many nodes have it.
    pub nodes: u64,
}

/// The nodes that have one value of a label, or one each of two.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LabelCell {
    /// The value of the first label; absent: the nodes do not have it.
    pub one: Option<String>,
    /// The value of the second label.
    pub two: Option<String>,
    /// How many nodes.
    pub nodes: u64,
    /// How many of them are silent.
    pub silent: u64,
    /// On how many of them an alert fires.
    pub firing: u64,
    /// How many of them know more than this hub, so that they get no documents until somebody has looked.
    pub conflict: u64,
    /// On how many of them a release is on trial.
    pub trial: u64,
}

/// Labels, and how many nodes have which.
#[utoipa::path(
    get, path = "/api/v1/labels", tag = "fleet", params(LabelsAsked),
    responses((status = 200, body = LabelMap), (status = 400, body = ErrorBody))
)]
pub async fn map(
    State(state): State<Arc<HubState>>,
    Asked(asked): Asked<LabelsAsked>,
) -> Result<Json<LabelMap>, Refusal> {
    let nodes = nodes::search(&state, asked.selector.as_deref()).await?;
    label_map(&state, &nodes, &asked).await.map(Json)
}

/// What [`map`] answers, of nodes that were found.
pub async fn label_map(state: &HubState, nodes: &[Known], asked: &LabelsAsked) -> Result<LabelMap, Refusal> {
    let firing = alerts::firing_by_node(&state.readers).await?;
    let firing: HashSet<&str> = firing.iter().map(|(node, _)| node.as_str()).collect();
    let names = labels::names(nodes).into_iter();
    let cells = asked
        .one
        .as_deref()
        .map(|one| labels::map(nodes, one, asked.two.as_deref(), |node| firing.contains(node)).into_iter());
    let cell = |cell: labels::Cell| LabelCell {
        one: cell.one,
        two: cell.two,
        nodes: cell.nodes,
        silent: cell.silent,
        firing: cell.firing,
        conflict: cell.conflict,
        trial: cell.trial,
    };
    Ok(LabelMap {
        labels: names.map(|(label, nodes)| LabelCount { label, nodes }).collect(),
        cells: cells.into_iter().flatten().map(cell).collect(),
    })
}

/// Why what.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhyAsked {
    /// Whether and why this expression means the node.
    #[serde(rename = "where")]
    pub selector: Option<String>,
    /// Why the node is, or is not, offered what this rollout brings; in place of an expression.
    pub rollout: Option<String>,
}

/// An expression and a node.
#[derive(Debug, Serialize, ToSchema)]
pub struct Why {
    /// The node.
    pub node: String,
    /// The expression, its groups written out.
    pub expression: String,
    /// Whether it means the node.
    pub holds: bool,
    /// Each of its terms.
    pub terms: Vec<WhyTerm>,
    /// Where the node stands in the rollout that was asked for.
    pub rollout: Option<WhyRollout>,
}

/// A node in a rollout. Budgets, rates and the penalty box are judged when the node checks in.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhyRollout {
    /// The rollout.
    pub rollout: String,
    /// Its phase.
    pub phase: &'static str,
    /// Whether a wave is open, so that nodes are offered it.
    pub open: bool,
    /// Whether the plan names the node as a canary.
    pub canary: bool,
    /// The node's place on the ring, 0 to 2047.
    pub place: u16,
    /// The first place behind the open ring.
    pub ring_to: u16,
    /// Where the node stands, if it was offered.
    pub standing: Option<String>,
    /// What is to be said of that.
    pub told: Option<String>,
}

/// A term and a node.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhyTerm {
    /// The term, `ram >= 2GiB`.
    pub term: String,
    /// Whether it is true of the node, whatever stands around it.
    pub holds: bool,
    /// What the node says; absent if it says nothing.
    pub found: Option<String>,
}

/// Why an expression means a node, or does not.
#[utoipa::path(
    get, path = "/api/v1/nodes/{node}/why", tag = "fleet",
    params(("node" = String, Path, description = "The node's name"), WhyAsked),
    responses((status = 200, body = Why), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub async fn why(
    State(state): State<Arc<HubState>>,
    Path(node): Path<String>,
    Asked(asked): Asked<WhyAsked>,
) -> Result<Json<Why>, Refusal> {
    let Some(id) = asked.rollout else {
        return judge(&state, &node, asked.selector.as_deref().unwrap_or("all")).await.map(Json);
    };
    let nothing = || Refusal::not_found("there is no such rollout".to_owned(), "all are listed at /rollouts");
    let row = rollouts::get(&state.readers, &id).await?.ok_or_else(nothing)?;
    let plan = text::read(row.plan.as_bytes()).map_err(|_| nothing())?;
    let rollout: Rollout = serde_json::from_str(&row.state).map_err(|_| nothing())?;
    let why = judge(&state, &node, &plan.group).await?;
    let standing = node_store::standing(&state.readers, &why.node, &id).await?;
    let (standing, told) = standing.unzip();
    let stands = WhyRollout {
        phase: rollout.phase.as_str(),
        open: rollout.phase.is_open(),
        canary: plan.canary.iter().any(|canary| canary.as_str() == why.node),
        place: place(&plan, &why.node),
        ring_to: plan.ring_to(rollout.wave),
        standing,
        told: told.filter(|told| !told.is_empty()),
        rollout: id,
    };
    Ok(Json(Why { rollout: Some(stands), ..why }))
}

/// What [`why`] answers.
pub async fn judge(state: &HubState, node: &str, expression: &str) -> Result<Why, Refusal> {
    let known = known(state, node).await?;
    let search = nodes::ready(state, expression).await?;
    let facts = search.facts(&known, state.now_ms());
    let term = |judged: wire::select::Judged| WhyTerm {
        term: judged.term,
        holds: judged.holds,
        found: judged.found.map(|found| found.to_string()),
    };
    Ok(Why {
        node: known.row.name.clone(),
        expression: search.selector().text().to_owned(),
        holds: search.selector().has(&facts),
        terms: search.selector().why(&facts).into_iter().map(term).collect(),
        rollout: None,
    })
}
