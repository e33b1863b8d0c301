//! Experiments: which there are, and where one stands: arms, or the release beside what runs, and the figure that decides, with its
//! interval over time.

use std::fmt::Write as _;
use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};

use crate::access::who::Who;
use crate::api::experiments::{ArmItem, ComparedItem, ComparedNode, ask, find, item, not_done, read_row};
use crate::api::refusal::{Asked, Refusal};
use crate::console::audit::EntryView;
use crate::console::link::fleet;
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::rollouts::{MemberView, Ordered, Piece, RolloutsAsked, bar, counts, member_view};
use crate::console::time::{When, when};
use crate::experiment::execute::Wish;
use crate::experiment::plan::{Plan, What};
use crate::experiment::step::{Experiment, Need, Order, Phase, Point, Verdict, told};
use crate::rollout::plan::PlanId;
use crate::state::HubState;
use crate::store::audit::{self, AuditFilter};
use crate::store::rollouts::{self, Of, RolloutRow};

/// How many experiments, members and entries stand on a page.
const PAGE: i64 = 50;

#[derive(Template)]
#[template(path = "experiments.html")]
struct ExperimentsPage {
    frame: Frame,
    experiments: Vec<InShort>,
    next: Option<String>,
    first: bool,
}

/// An experiment in short.
struct InShort {
    href: String,
    what: String,
    group: String,
    phase: &'static str,
    pill: &'static str,
    told: String,
    changed: When,
}

/// The list.
pub async fn list(
    State(state): State<Arc<HubState>>,
    asked: Result<Asked<RolloutsAsked>, Refusal>,
) -> Result<Response, PageRefusal> {
    let Asked(asked) = asked?;
    let now_ms = state.now_ms();
    let rows = rollouts::list_of(&state.readers, Of::Experiment, None, asked.after.as_deref(), PAGE).await;
    let rows = rows.map_err(Refusal::from)?;
    let next = (rows.len() as i64 == PAGE).then(|| rows.last()).flatten();
    let short = |row: &RolloutRow| {
        let (plan, it) = read_row(row).ok()?;
        let told = match &it.outcome {
            Some(outcome) => outcome.verdict.to_string(),
            None => it.needs.first().map(|need| format!("waits for {need}")).unwrap_or_default(),
        };
        Some(InShort {
            href: format!("/experiments/{}", row.id),
            what: what(&plan),
            group: plan.group.clone(),
            phase: it.phase.as_str(),
            pill: pill(&it),
            told,
            changed: when(row.changed_ms, now_ms),
        })
    };
    Ok(render(&ExperimentsPage {
        frame: Frame::of(&state, "Experiments", "experiments").await?,
        next: next.map(|last| format!("/experiments?after={}", last.id)),
        first: asked.after.is_none(),
        experiments: rows.iter().filter_map(short).collect(),
    }))
}

#[derive(Template)]
#[template(path = "experiment.html")]
struct ExperimentPage {
    frame: Frame,
    id: String,
    what: String,
    group: String,
    group_href: String,
    phase: &'static str,
    pill: &'static str,
    why: String,
    verdict: Option<String>,
    warnings: Vec<String>,
    needs: Vec<(String, bool)>,
    sign: Option<String>,
    next: Option<String>,
    revision: u64,
    order: Option<(&'static str, &'static str, Option<&'static str>)>,
    arms: Vec<ArmView>,
    shadow: Option<ShadowView>,
    chart: Option<Chart>,
    interval: Option<String>,
    members: Vec<MemberView>,
    timeline: Vec<EntryView>,
    made: When,
    by: String,
    note: String,
    plan: String,
}

struct ArmView {
    name: String,
    release: String,
    share: String,
    bar: Vec<Piece>,
    counts: String,
    figures: String,
}

/// What was compared of a release that answers beside what runs.
struct ShadowView {
    lines: Vec<String>,
    /// Node, answers that were compared, that part, and that were passed over.
    worst: Vec<(String, [String; 3])>,
    /// Where each disagreement is to be found.
    records: String,
}

/// The means of both arms over time, and where arm b may lie; or the share that parts, and where it may lie.
struct Chart {
    label: &'static str,
    heads: [&'static str; 4],
    a: String,
    b: String,
    band: String,
    low: String,
    high: String,
    from: When,
    to: When,
    rows: Vec<[String; 4]>,
}

/// One experiment.
pub async fn one(
    State(state): State<Arc<HubState>>,
    Path(id): Path<String>,
) -> Result<Response, PageRefusal> {
    let now_ms = state.now_ms();
    let (row, plan, it) = find(&state, &id).await?;
    let shown = item(&plan, &it, row.changed_ms);
    let members = rollouts::list_members(&state.readers, &row.id, None, "", PAGE).await;
    let members = members.map_err(Refusal::from)?.into_iter().map(|member| {
        let arm = usize::try_from(member.member.wave).unwrap_or(0);
        MemberView { wave: plan.arm_name(arm).to_owned(), ..member_view(member, now_ms) }
    });
    let about = AuditFilter { about: Some(row.id.clone()), ..AuditFilter::default() };
    let timeline = audit::list(&state.readers, &about, PAGE).await.map_err(Refusal::from)?;
    let needs_signature = it.needs.iter().any(|need| matches!(need, Need::Signature { .. }));
    let need = |need: &Need| (need.to_string(), matches!(need, Need::Signature { .. } | Need::Start));
    let order = match it.phase {
        Phase::Ready => Some((Order::Start.as_str(), "Start", None)),
        Phase::Ended => None,
        _ => Some((Order::Stop.as_str(), "Stop", Some("Really end it?"))),
    };
    Ok(render(&ExperimentPage {
        frame: Frame::of(&state, &what(&plan), "experiments").await?,
        what: what(&plan),
        group_href: fleet(&plan.group),
        phase: it.phase.as_str(),
        pill: pill(&it),
        why: it.why.clone(),
        verdict: shown.verdict,
        warnings: shown.warnings,
        needs: it.needs.iter().map(need).collect(),
        sign: needs_signature.then(|| format!("selvedge experiment sign {} --key assigner.age", row.id)),
        next: winner(&plan, &it),
        revision: it.revision,
        order,
        arms: shown.arms.into_iter().enumerate().map(|(at, arm)| arm_view(&plan, at, arm, &it)).collect(),
        shadow: shown.compared.as_ref().map(shadow_view),
        chart: chart(&plan, &it.curve, now_ms),
        interval: shown.interval.map(|interval| interval.text),
        members: members.collect(),
        timeline: timeline.into_iter().map(|row| EntryView::new(row, now_ms)).collect(),
        made: when(plan.created_ms, now_ms),
        by: plan.created_by.clone(),
        note: plan.note.clone(),
        plan: plan.to_string(),
        group: plan.group,
        id: row.id,
    }))
}

/// Does as a button says, and goes back to the page.
pub async fn order(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path((id, order)): Path<(String, String)>,
    sent: Result<Form<Ordered>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let mend = "go back to the experiment, and use its buttons";
    let Form(sent) = sent.map_err(|error| Refusal::bad_request("bad-form", error.body_text(), mend))?;
    let Some((order, id)) = Order::parse(&order).zip(PlanId::parse(&id)) else {
        return Err(Refusal::not_found("there is no such button".to_owned(), mend).into());
    };
    let why: String = sent.why.chars().filter(|c| !c.is_control()).take(1000).collect();
    let wish = Wish::Order { id, order, who: who.name(), why, revision: sent.revision };
    match ask(&state, wish).await? {
        Ok(_) => Ok(Redirect::to(&format!("/experiments/{id}")).into_response()),
        Err(error) => Err(not_done(&error).into()),
    }
}

fn what(plan: &Plan) -> String {
    let model = plan.model();
    match &plan.what {
        What::Arms(arms) => format!("{model} {} or {}", arms.a.release, arms.b.release),
        What::Shadow(shadow) => format!("{model} {} beside what runs", shadow.release.release),
    }
}

fn pill(it: &Experiment) -> &'static str {
    match (it.phase, &it.outcome) {
        (Phase::Ended | Phase::Returning, Some(outcome)) => match outcome.verdict {
            Verdict::A | Verdict::B | Verdict::NoDifference | Verdict::Agrees => "good",
            Verdict::Harm { .. } | Verdict::Harmful => "critical",
            Verdict::Parts => "warning",
            Verdict::Undecided | Verdict::Stopped => "",
        },
        (Phase::Running, _) => "info",
        _ => "",
    }
}

/// The command that makes a rollout of what won.
fn winner(plan: &Plan, it: &Experiment) -> Option<String> {
    let target = match (&plan.what, it.outcome.as_ref()?.verdict) {
        (What::Arms(arms), Verdict::A) => &arms.a,
        (What::Arms(arms), Verdict::B) => &arms.b,
        (What::Shadow(shadow), Verdict::Agrees) => &shadow.release,
        _ => return None,
    };
    // What goes into single quotes must end and begin them again around one of its own.
    let group = plan.group.replace('\'', r"'\''");
    Some(format!("selvedge rollout new {}:{} --where '{group}'", target.model, target.release))
}

fn shadow_view(compared: &ComparedItem) -> ShadowView {
    let ComparedItem { compared: count, agreed, skipped, busy_ms, joules, bearable, .. } = compared;
    let ComparedItem { enough, nodes, rests_on, worst, .. } = compared;
    let mut lines = vec![
        format!(
            "{count} of {enough} answers were compared, {} part; {:.2} % may",
            count - agreed,
            bearable * 100.0
        ),
        format!(
            "{nodes} {} told of them; a verdict rests on {rests_on}",
            if *nodes == 1 { "node" } else { "nodes" }
        ),
        format!("{skipped} were passed over: the budget was spent, or the one before was not answered yet"),
        format!("it took {:.1} s of a core", *busy_ms as f64 / 1e3),
    ];
    lines.extend(joules.map(|joules| format!("machines that measure it used {joules} J meanwhile")));
    let node = |of: &ComparedNode| {
        let counts = [of.compared, of.compared - of.agreed, of.skipped].map(|count| count.to_string());
        (of.node.clone(), counts)
    };
    let worst = worst.iter().map(node).collect();
    ShadowView { lines, worst, records: "/records?kind=disagreement".to_owned() }
}

fn arm_view(plan: &Plan, at: usize, arm: ArmItem, it: &Experiment) -> ArmView {
    let tally = it.tally.get(at).copied().unwrap_or_default();
    ArmView {
        name: if plan.two().is_some() { format!("Arm {}", arm.name) } else { "Beside what runs".to_owned() },
        release: arm.release,
        share: format!("{:.1} % of nodes", arm.share * 100.0),
        bar: bar(&tally),
        counts: counts(&tally),
        figures: match (plan.two(), arm.figures) {
            (Some(_), 1) => "1 figure".to_owned(),
            (Some(_), count) => format!("{count} figures"),
            (None, 1) => "1 node told".to_owned(),
            (None, count) => format!("{count} nodes told"),
        },
    }
}

/// How wide and how high the chart is.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;

fn chart(plan: &Plan, curve: &[Point], now_ms: i64) -> Option<Chart> {
    let [first, .., last] = curve else { return None };
    // Of two arms the interval is that of their difference; the share of a release alone lies in it.
    let drawn: &[usize] = if plan.two().is_some() { &[0, 1] } else { &[0] };
    let from = |point: &Point| if plan.two().is_some() { point.means[0] } else { 0.0 };
    let reach = |point: &Point| point.interval.map(|it| (from(point) + it.low, from(point) + it.high));
    // The first intervals are as wide as nothing is known: the second half says how high the box is.
    let settled = curve.get(curve.len() / 2..).unwrap_or_default();
    let bounds = settled.iter().filter_map(reach).flat_map(|(low, high)| [low, high]);
    let is_known = |point: &&Point| drawn.iter().all(|arm| point.nodes[*arm] > 0);
    let means = curve.iter().filter(is_known).flat_map(|it| drawn.iter().map(|arm| it.means[*arm]));
    let all: Vec<f64> = bounds.chain(means).filter(|value| value.is_finite()).collect();
    let low = all.iter().copied().fold(f64::INFINITY, f64::min);
    let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !(low.is_finite() && high.is_finite()) {
        return None;
    }
    let span = (high - low).max(1e-9);
    let time = (last.at_ms - first.at_ms).max(1) as f64;
    let x = |point: &Point| (point.at_ms - first.at_ms) as f64 / time * WIDTH;
    let y = |value: f64| (HEIGHT - (value - low) / span * HEIGHT).clamp(-HEIGHT, 2.0 * HEIGHT);
    let line = |arm: usize| {
        let mut path = String::new();
        let points = curve.iter().filter(|point| drawn.contains(&arm) && point.nodes[arm] > 0);
        for point in points {
            let letter = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", x(point), y(point.means[arm]));
        }
        path
    };
    let mut band = String::new();
    let known: Vec<(f64, f64, f64)> = curve
        .iter()
        .filter_map(|point| reach(point).map(|(low, high)| (x(point), y(high), y(low))))
        .collect();
    let upper = known.iter().map(|(x, high, _)| (x, high));
    let lower = known.iter().rev().map(|(x, _, low)| (x, low));
    for (x, y) in upper.chain(lower) {
        let letter = if band.is_empty() { 'M' } else { 'L' };
        let _ = write!(band, "{letter}{x:.1} {y:.1}");
    }
    let scale = |value: f64| match plan.two().map(|arms| arms.measure.is_ratio()) {
        Some(true) => format!("{:+.1} %", value.exp_m1() * 100.0),
        Some(false) => format!("{value:.4}"),
        None => format!("{:.2} %", value * 100.0),
    };
    let row = |point: &Point| {
        let [a, b] = point.nodes;
        let interval = point.interval.map(|it| told(plan, &it));
        [
            when(point.at_ms, now_ms).text.clone(),
            a.to_string(),
            b.to_string(),
            interval.unwrap_or_else(|| "too few to say".to_owned()),
        ]
    };
    let every = curve.len().div_ceil(20);
    let (label, heads) = match plan.two() {
        Some(_) => (
            "means of both arms over time, and where arm b may lie",
            ["When", "Nodes of a", "Nodes of b", "Difference"],
        ),
        None => (
            "share of answers that part over time, and where it may lie",
            ["When", "Compared", "Part", "Share"],
        ),
    };
    Some(Chart {
        label,
        heads,
        a: if plan.two().is_some() { line(0) } else { String::new() },
        b: line(if plan.two().is_some() { 1 } else { 0 }),
        band,
        low: scale(low),
        high: scale(high),
        from: when(first.at_ms, now_ms),
        to: when(last.at_ms, now_ms),
        rows: curve.iter().rev().step_by(every).map(row).collect(),
    })
}
