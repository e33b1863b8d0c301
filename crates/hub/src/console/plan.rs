//! A new rollout: what, to whom, how carefully; what that would do today; and the draft of it.
//!
//! The form asks with GET, so that nothing is kept and an address can be passed on. What is created is byte for byte the
//! plan that was shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;
use wire::select::Selector;

use crate::access::who::Who;
use crate::api::drafts::{BudgetAsked, DraftAsked, plan};
use crate::api::nodes::search;
use crate::api::refusal::{Asked, Refusal};
use crate::api::releases;
use crate::api::rollouts::{foresee, take_in};
use crate::console::link::{both, fleet};
use crate::console::nodes::Wrong;
use crate::console::number::{grouped, probability};
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::rollouts::{gate_words, is_under_way, read, what};
use crate::console::time::exact_length;
use crate::fleet::view::{Known, Search};
use crate::rollout::coverage::{Preview, Share};
use crate::rollout::documents;
use crate::rollout::plan::{Plan, Target, Then};
use crate::rollout::policy::{FIRST_WAVE, power};
use crate::rollout::text;
use crate::state::HubState;
use crate::store::{groups, rollouts};

/// How many other rollouts are looked at for conflicts.
const OTHERS: i64 = 200;

/// How many lacks and conflicts are told.
const TOLD: usize = 8;

/// Shares of nodes on which a release may fail, in parts of 1000.
const FAILURES: [u32; 4] = [200, 50, 10, 5];

/// What the form says; an empty field is one that nobody filled.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanAsked {
    what: String,
    group: String,
    policy: String,
    canary: String,
    revert: String,
    when: String,
    hold_out: String,
    soak_min: String,
    nodes_per_min: String,
    label: String,
    away: String,
    approvals: String,
    note: String,
}

/// The plan that was shown.
#[derive(Debug, Deserialize)]
pub struct Sent {
    plan: String,
}

#[derive(Template)]
#[template(path = "plan.html")]
struct PlanPage {
    frame: Frame,
    asked: PlanAsked,
    releases: Vec<Choice>,
    reverts: Vec<Choice>,
    policies: Vec<Policy>,
    words: BTreeSet<String>,
    groups: Vec<String>,
    labels: BTreeSet<String>,
    /// Whether something is asked that most rollouts do not ask.
    more: bool,
    matched: Option<u64>,
    wrong: Option<Wrong>,
    mend: String,
    foreseen: Option<Foreseen>,
}

struct Choice {
    value: String,
    words: String,
    chosen: bool,
}

struct Policy {
    value: &'static str,
    words: &'static str,
    told: &'static str,
    chosen: bool,
}

/// What a plan would do.
struct Foreseen {
    members: String,
    fleet: String,
    href: String,
    runs: Vec<String>,
    canaries: usize,
    waves: Vec<WaveView>,
    finds: Vec<Find>,
    /// What a first wave that is too small to tell much leads to.
    few: Option<String>,
    variants: Vec<Bar>,
    lacks: Vec<(String, usize)>,
    conflicts: Vec<Conflict>,
    notes: Vec<String>,
    problems: Vec<String>,
    documents: usize,
    plan: String,
    text: String,
}

struct WaveView {
    name: String,
    adds: String,
    reaches: String,
    /// Of 1000: where its part of the members begins, and how wide it is.
    from: u64,
    width: u64,
    gate: Vec<String>,
    opens: String,
}

/// How surely the first gate sees a failure.
struct Find {
    share: String,
    seen: String,
    /// Of 1000.
    width: u64,
}

struct Bar {
    words: String,
    nodes: usize,
    width: u64,
    class: &'static str,
}

/// A rollout under way that shares nodes with the plan.
struct Conflict {
    href: String,
    what: String,
    phase: &'static str,
    nodes: usize,
    shared: String,
}

/// The form, and what it would do.
pub async fn show(
    State(state): State<Arc<HubState>>,
    who: Who,
    asked: Result<Asked<PlanAsked>, Refusal>,
) -> Result<Response, PageRefusal> {
    let Asked(mut asked) = asked?;
    asked.group = asked.group.trim().to_owned();
    if asked.policy.is_empty() {
        asked.policy = "usual".to_owned();
    }
    let nodes = state.fleet.look(&state.readers).await.map_err(Refusal::from)?;
    let (mut foreseen, mut wrong, mut mend) = (None, None, String::new());
    if !asked.what.is_empty() && !asked.group.is_empty() {
        match draft(&state, &asked, &who, &nodes).await {
            Ok(found) => foreseen = Some(found),
            Err(refusal) if refusal.status().is_client_error() => {
                mend = refusal.mend().to_owned();
                wrong = Some(Wrong::of(&asked.group, &refusal));
            }
            Err(refusal) => return Err(refusal.into()),
        }
    }
    let matched = match asked.group.as_str() {
        "" => None,
        group => search(&state, Some(group)).await.ok().map(|found| found.len() as u64),
    };
    let approved = releases::read(&state).await?.releases;
    let choice = |item: &releases::ReleaseItem, chosen: &str| {
        let value = format!("{}:{}", item.model, item.release);
        let nodes = if item.nodes == 1 {
            "1 node runs it".to_owned()
        } else {
            format!("{} nodes run it", item.nodes)
        };
        let words = format!(
            "{} {}, {nodes}{}",
            item.model,
            item.release,
            if item.here { "" } else { ", not pushed" }
        );
        Choice { chosen: value == chosen, value, words }
    };
    let names = || nodes.iter().flat_map(|node| node.facts.iter()).map(|(name, _)| name);
    let words = names().map(|name| name.label().unwrap_or(name.as_str()).to_owned()).collect();
    let labels = names().filter_map(|name| Some(name.label()?.to_owned())).collect();
    let groups = groups::list(&state.readers).await.map_err(Refusal::from)?;
    let more =
        [&asked.canary, &asked.revert, &asked.soak_min, &asked.nodes_per_min, &asked.label, &asked.approvals];
    let more = more.into_iter().any(|field| !field.is_empty());
    Ok(render(&PlanPage {
        frame: Frame::of(&state, "New rollout", "rollouts").await?,
        releases: approved.iter().map(|item| choice(item, &asked.what)).collect(),
        reverts: approved.iter().map(|item| choice(item, &asked.revert)).collect(),
        policies: policies(&asked.policy),
        words,
        groups: groups.into_iter().map(|group| group.name).collect(),
        labels,
        more,
        matched,
        wrong,
        mend,
        foreseen,
        asked,
    }))
}

/// Makes a draft of the plan that was shown.
pub async fn create(
    State(state): State<Arc<HubState>>,
    who: Who,
    sent: Result<Form<Sent>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let mend = "go back, look at the plan again, and create it then";
    let Form(sent) = sent.map_err(|error| Refusal::bad_request("bad-form", error.body_text(), mend))?;
    let plan = text::read(sent.plan.as_bytes())
        .map_err(|error| Refusal::bad_request("bad-plan", error.to_string(), mend))?;
    let rollout = take_in(&state, &who, &plan).await?;
    Ok(Redirect::to(&format!("/rollouts/{}", rollout.id)).into_response())
}

fn policies(chosen: &str) -> Vec<Policy> {
    let policy = |value, words, told| Policy { chosen: value == chosen, value, words, told };
    vec![
        policy(
            "careful",
            "Careful",
            "As usual, but every gate waits for a person and watches twice as long.",
        ),
        policy(
            "usual",
            "Usual",
            "1 %, 10 %, half, all but the hold-out, all; each wave is watched for hours.",
        ),
        policy(
            "emergency",
            "Emergency",
            "One small wave, then all; a quarter of an hour each. Goes before others.",
        ),
    ]
}

/// What the form asks for, as the API has it.
fn draft_asked(asked: &PlanAsked) -> Result<DraftAsked, Refusal> {
    let words = |text: &str| -> Vec<String> {
        text.split([',', ' ', '\n'])
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let away = number("how many may be away", &asked.away)?.unwrap_or(1);
    let budget = some(&asked.label).map(|by| BudgetAsked { by, max_unavailable: away });
    let small = |what, text| -> Result<Option<u8>, Refusal> {
        Ok(number(what, text)?.map(|number| u8::try_from(number).unwrap_or(u8::MAX)))
    };
    Ok(DraftAsked {
        what: words(&asked.what),
        group: asked.group.clone(),
        policy: some(&asked.policy),
        canary: words(&asked.canary),
        revert: match asked.revert.as_str() {
            "" => None,
            "none" => Some(Vec::new()),
            release => Some(words(release)),
        },
        when: some(&asked.when),
        hold_out_percent: small("the hold-out", &asked.hold_out)?,
        budget: budget.into_iter().collect(),
        nodes_per_min: number("nodes a minute", &asked.nodes_per_min)?.unwrap_or(0),
        bytes_per_s: 0,
        soak_s: number("how long gates watch", &asked.soak_min)?.map(|minutes| minutes.saturating_mul(60)),
        approvals: small("how many approve", &asked.approvals)?.unwrap_or(0),
        allow_rollback: false,
        valid_s: None,
        note: asked.note.trim().to_owned(),
    })
}

fn number(what: &str, text: &str) -> Result<Option<u32>, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |_| {
        Refusal::bad_request(
            "bad-number",
            format!("{what}: {text:?} is no number"),
            "write digits, or nothing",
        )
    };
    text.parse().map(Some).map_err(bad)
}

async fn draft(state: &HubState, asked: &PlanAsked, who: &Who, nodes: &[Known]) -> Result<Foreseen, Refusal> {
    let plan = plan(state, draft_asked(asked)?, &who.name()).await?;
    let (preview, problems) = foresee(state, &plan).await?;
    let mut conflicts = Vec::new();
    for row in rollouts::list(&state.readers, None, None, OTHERS).await? {
        if is_under_way(&row)
            && let Ok((other, rollout)) = read(&row)
            && let Some(conflict) = conflict(&plan, &other, nodes)
        {
            conflicts.push(Conflict {
                href: format!("/rollouts/{}", row.id),
                phase: rollout.phase.as_str(),
                ..conflict
            });
        }
    }
    conflicts.truncate(TOLD);
    Ok(view(&plan, preview, problems, conflicts))
}

/// What another rollout shares with a plan: a model, and nodes.
fn conflict(plan: &Plan, other: &Plan, nodes: &[Known]) -> Option<Conflict> {
    let same_model = |target: &&Target| plan.what.iter().any(|own| own.model == target.model);
    other.what.iter().find(same_model)?;
    let ready = |group: &str| Search::new(&Selector::parse(group).ok()?, &BTreeMap::new()).ok();
    let (own, its) = (ready(&plan.group)?, ready(&other.group)?);
    let shared = nodes.iter().filter(|node| own.has(node, 0) && its.has(node, 0)).count();
    (shared > 0).then(|| Conflict {
        href: String::new(),
        what: what(other),
        phase: "",
        nodes: shared,
        shared: fleet(&both(&plan.group, &grouped_terms(&other.group))),
    })
}

/// An expression that stays one when it stands beside another.
fn grouped_terms(expression: &str) -> String {
    if expression.contains("||") { format!("({expression})") } else { expression.to_owned() }
}

fn view(plan: &Plan, preview: Preview, problems: Vec<String>, conflicts: Vec<Conflict>) -> Foreseen {
    let first = preview.waves.first().map_or(0, |wave| wave.members);
    let finds = FAILURES.map(|share| {
        let seen = power(first, f64::from(share) / 1000.0);
        Find {
            share: format!("{} %", f64::from(share) / 10.0),
            seen: probability(seen),
            width: (seen * 1000.0) as u64,
        }
    });
    let most = preview.members.max(1) as u64;
    let bar = |words: String, nodes: usize, class| Bar {
        words,
        nodes,
        width: (nodes as u64 * 1000).div_ceil(most),
        class,
    };
    let none: usize = preview.lacks.iter().map(|(_, nodes)| nodes).sum();
    let variants = preview.variants.iter().map(|(variant, nodes)| bar(variant.clone(), *nodes, "fits"));
    let unfit = (none > 0).then(|| bar("none fits".to_owned(), none, "none"));
    let runs = preview.runs.iter().map(|(release, nodes)| match release {
        Some(release) => format!("{nodes} on release {release}"),
        None => format!("{nodes} with none"),
    });
    let nodes = |count: usize| if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
    let mut notes = Vec::new();
    if preview.pinned > 0 {
        notes
            .push(format!("{} stay as they are: assignments of their own go before.", nodes(preview.pinned)));
    }
    if preview.boxed > 0 {
        notes.push(format!("{} failed lately and wait in the penalty box.", nodes(preview.boxed)));
    }
    if !preview.labels.is_empty() {
        let labels = preview.labels.join(", ");
        notes.push(format!(
            "It asks for labels ({labels}): where the hub sets them, it decides who is meant."
        ));
    }
    if plan.revert.is_empty() {
        notes.push("There is no way back: what stops stays where it is.".to_owned());
    }
    Foreseen {
        members: grouped(preview.members as u64),
        fleet: grouped(preview.fleet as u64),
        href: fleet(&plan.group),
        runs: runs.collect(),
        canaries: preview.canaries,
        waves: waves(&preview),
        finds: finds.into(),
        few: (first < FIRST_WAVE).then(|| few(first, plan.gate(1).then)),
        variants: variants.chain(unfit).collect(),
        lacks: preview.lacks.iter().take(TOLD).cloned().collect(),
        conflicts,
        notes,
        problems,
        documents: documents::of(plan).len(),
        plan: String::from_utf8_lossy(&text::write(plan)).into_owned(),
        text: plan.to_string(),
    }
}

fn few(nodes: usize, then: Then) -> String {
    let prove =
        if nodes == 1 { "1 node proves little".to_owned() } else { format!("{nodes} nodes prove little") };
    let person = match then {
        Then::Wait => ": a person looks before the others change",
        Then::Continue => "",
    };
    format!("{prove}{person}. {FIRST_WAVE} find a failure on 5 % of nodes in 99.5 of 100 cases.")
}

fn waves(preview: &Preview) -> Vec<WaveView> {
    let most = preview.members.max(1) as u64;
    let (mut before, mut waited_ms) = (0, 0);
    let wave = |(at, share): (usize, &Share)| {
        let from = before * 1000 / most;
        before += share.members as u64;
        let opens = match waited_ms {
            0 if at == 0 => "at the start".to_owned(),
            0 => "when the gate before has passed".to_owned(),
            ms => format!("after {} at least", exact_length(ms)),
        };
        waited_ms += i64::from(share.gate.soak_s) * 1000;
        WaveView {
            name: format!("Wave {}", at + 1),
            adds: grouped(share.members as u64),
            reaches: format!("{} %", before * 100 / most),
            from,
            width: (before * 1000 / most).saturating_sub(from).max(4),
            gate: gate_words(&share.gate),
            opens,
        }
    };
    preview.waves.iter().enumerate().map(wave).collect()
}
