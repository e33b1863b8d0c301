//! Rollouts: which there are, where one stands, what it waits for, and the buttons that tell it what to do.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use crate::access::who::Who;
use crate::api::refusal::{Asked, Refusal};
use crate::api::rollouts::may;
use crate::console::audit::EntryView;
use crate::console::link::fleet;
use crate::console::page::{Frame, PageRefusal, render};
use crate::console::time::{When, exact_length, when};
use crate::rollout::execute::{NotDone, Wish};
use crate::rollout::gate::{Ask, Asked as Condition, Evidence, Need, Tally};
use crate::rollout::member::{STANDINGS, Standing};
use crate::rollout::plan::{Gate, Plan, PlanId, RING, Then};
use crate::rollout::step::{Order, Phase, Rollout};
use crate::rollout::text;
use crate::state::HubState;
use crate::store::audit::{self, AuditFilter};
use crate::store::rollouts::{self, MemberRow, RolloutRow};

/// How many rollouts, members and entries stand on a page.
const PAGE: i64 = 50;

#[derive(Template)]
#[template(path = "rollouts.html")]
struct RolloutsPage {
    frame: Frame,
    rollouts: Vec<RolloutView>,
    next: Option<String>,
    first: bool,
}

/// A rollout in short.
pub(crate) struct RolloutView {
    pub(crate) href: String,
    pub(crate) what: String,
    pub(crate) group: String,
    pub(crate) phase: &'static str,
    pub(crate) pill: &'static str,
    pub(crate) wave: String,
    pub(crate) bar: Vec<Piece>,
    pub(crate) counts: String,
    pub(crate) need: Option<String>,
    pub(crate) changed: When,
}

/// A part of a bar of 1000.
pub(crate) struct Piece {
    pub(crate) class: &'static str,
    pub(crate) from: u32,
    pub(crate) width: u32,
}

/// Which rollouts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutsAsked {
    pub(super) after: Option<String>,
}

/// The list.
pub async fn list(
    State(state): State<Arc<HubState>>,
    asked: Result<Asked<RolloutsAsked>, Refusal>,
) -> Result<Response, PageRefusal> {
    let Asked(asked) = asked?;
    let now_ms = state.now_ms();
    let rows = rollouts::list(&state.readers, None, asked.after.as_deref(), PAGE).await;
    let rows = rows.map_err(Refusal::from)?;
    let next = (rows.len() as i64 == PAGE).then(|| rows.last()).flatten();
    Ok(render(&RolloutsPage {
        frame: Frame::of(&state, "Rollouts", "rollouts").await?,
        next: next.map(|last| format!("/rollouts?after={}", last.id)),
        first: asked.after.is_none(),
        rollouts: rows.iter().filter_map(|row| in_short(row, now_ms)).collect(),
    }))
}

/// Whether a rollout is on its way: one that is done keeps its documents, and asks nobody anything.
pub(crate) fn is_under_way(row: &RolloutRow) -> bool {
    row.active && read(row).is_ok_and(|(_, rollout)| !rollout.phase.is_end())
}

/// A rollout in short, if it can be read.
pub(crate) fn in_short(row: &RolloutRow, now_ms: i64) -> Option<RolloutView> {
    let (plan, rollout) = read(row).ok()?;
    let tally = rollout.members();
    Some(RolloutView {
        href: format!("/rollouts/{}", row.id),
        what: what(&plan),
        group: plan.group.clone(),
        phase: rollout.phase.as_str(),
        pill: pill(&rollout.phase),
        wave: wave_words(&plan, &rollout),
        bar: bar(&tally),
        counts: counts(&tally),
        need: rollout.needs.first().filter(|_| !rollout.phase.is_end()).map(|need| need_words(need, now_ms)),
        changed: when(row.changed_ms, now_ms),
    })
}

#[derive(Template)]
#[template(path = "rollout.html")]
struct RolloutPage {
    frame: Frame,
    id: String,
    what: String,
    revert: Option<String>,
    group: String,
    group_href: String,
    phase: &'static str,
    pill: &'static str,
    why: String,
    revision: u64,
    needs: Vec<NeedView>,
    /// Commands to type on somebody's own machine, and what each does.
    commands: Vec<(&'static str, String)>,
    orders: Vec<OrderView>,
    lanes: Vec<Lane>,
    counts: Vec<Count>,
    members: Vec<MemberView>,
    members_next: Option<String>,
    standing: Option<&'static str>,
    timeline: Vec<EntryView>,
    made: When,
    by: String,
    note: String,
    plan: String,
    than: String,
    diff: Option<String>,
}

struct NeedView {
    words: String,
    until: Option<When>,
    /// Whether a person can do something about it.
    asks: bool,
}

/// A button.
struct OrderView {
    order: &'static str,
    words: &'static str,
    class: &'static str,
    /// What it does, in a sentence.
    told: &'static str,
    sure: Option<&'static str>,
}

/// A wave.
struct Lane {
    name: String,
    share: String,
    state: &'static str,
    bar: Vec<Piece>,
    counts: String,
    gate: Vec<String>,
    evidence: Option<EvidenceView>,
}

struct EvidenceView {
    at: When,
    passed: bool,
    asked: Vec<Condition>,
}

struct Count {
    standing: &'static str,
    count: u32,
    href: String,
    chosen: bool,
}

/// A member.
pub(super) struct MemberView {
    pub(super) node: String,
    pub(super) standing: &'static str,
    pub(super) wave: String,
    pub(super) why: String,
    pub(super) rebooted: bool,
    pub(super) changed: When,
    pub(super) record: Option<String>,
}

/// What the page of a rollout is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutAsked {
    /// Members that stand here.
    standing: Option<String>,
    /// Members behind this one.
    after: Option<String>,
    /// The other rollout whose plan is compared.
    than: Option<String>,
}

/// One rollout.
pub async fn one(
    State(state): State<Arc<HubState>>,
    Path(id): Path<String>,
    asked: Result<Asked<RolloutAsked>, Refusal>,
) -> Result<Response, PageRefusal> {
    let Asked(asked) = asked?;
    let now_ms = state.now_ms();
    let row = row(&state, &id).await?;
    let (plan, rollout) = read(&row)?;
    let standing = asked.standing.as_deref().and_then(Standing::parse);
    let after = asked.after.as_deref().unwrap_or_default();
    let members = rollouts::list_members(&state.readers, &row.id, standing, after, PAGE).await;
    let members = members.map_err(Refusal::from)?;
    let about = AuditFilter { about: Some(row.id.clone()), ..AuditFilter::default() };
    let timeline = audit::list(&state.readers, &about, PAGE).await.map_err(Refusal::from)?;
    let than = asked.than.unwrap_or_default().trim().to_owned();
    let diff = match than.is_empty() {
        true => None,
        false => Some(text::diff(&read(&self::row(&state, &than).await?)?.0, &plan)),
    };
    let tally = rollout.members();
    let here = |standing: Option<Standing>| match standing {
        Some(standing) => format!("/rollouts/{}?standing={standing}#members", row.id),
        None => format!("/rollouts/{}#members", row.id),
    };
    let count = |one: &Standing| Count {
        standing: one.as_str(),
        count: tally.of(*one),
        href: here(Some(*one)),
        chosen: standing == Some(*one),
    };
    let next = (members.len() as i64 == PAGE).then(|| members.last()).flatten();
    let needs_signature = rollout.needs.iter().any(|need| matches!(need, Need::Signature { .. }));
    let frame = Frame::of(&state, &format!("{} to {}", what(&plan), plan.group), "rollouts").await?;
    Ok(render(&RolloutPage {
        frame,
        what: what(&plan),
        revert: (!plan.revert.is_empty()).then(|| names(&plan.revert)),
        group_href: fleet(&plan.group),
        phase: rollout.phase.as_str(),
        pill: pill(&rollout.phase),
        why: rollout.why.clone(),
        revision: rollout.revision,
        needs: rollout.needs.iter().map(|need| need_view(need, now_ms)).collect(),
        commands: commands(&row.id, &rollout.phase, needs_signature),
        orders: orders(&plan, &rollout),
        lanes: lanes(&plan, &rollout, now_ms),
        counts: STANDINGS.iter().map(count).filter(|count| count.count > 0 || count.chosen).collect(),
        members_next: next.map(|last| {
            let standing = standing.map_or("", Standing::as_str);
            format!("/rollouts/{}?standing={standing}&after={}#members", row.id, last.node)
        }),
        members: members.into_iter().map(|member| member_view(member, now_ms)).collect(),
        standing: standing.map(Standing::as_str),
        timeline: timeline.into_iter().map(|row| EntryView::new(row, now_ms)).collect(),
        made: when(plan.created_ms, now_ms),
        by: plan.created_by.clone(),
        note: plan.note.clone(),
        plan: plan.to_string(),
        than,
        diff,
        group: plan.group,
        id: row.id,
    }))
}

/// What is typed elsewhere: signing takes a key that the hub has not.
fn commands(id: &str, phase: &Phase, needs_signature: bool) -> Vec<(&'static str, String)> {
    let sign = ("Sign it, where the key is", format!("selvedge rollout sign {id} --key assigner.age"));
    let start = ("Then start it, or press Start here", format!("selvedge rollout start {id}"));
    match phase {
        Phase::Draft => vec![sign, start],
        _ if needs_signature => vec![sign],
        _ => Vec::new(),
    }
}

/// What a button sends.
#[derive(Debug, Deserialize)]
pub struct Ordered {
    #[serde(default)]
    pub(super) why: String,
    /// What the person saw.
    pub(super) revision: Option<u64>,
}

/// Does as a button says, and goes back to the page.
pub async fn order(
    State(state): State<Arc<HubState>>,
    who: Who,
    Path((id, order)): Path<(String, String)>,
    sent: Result<Form<Ordered>, FormRejection>,
) -> Result<Response, PageRefusal> {
    let mend = "go back to the rollout, and use its buttons";
    let Form(sent) = sent.map_err(|error| Refusal::bad_request("bad-form", error.body_text(), mend))?;
    let known = serde_json::from_value::<Order>(order.into()).ok().zip(PlanId::parse(&id));
    let Some((order, id)) = known else {
        return Err(Refusal::not_found("there is no such button".to_owned(), mend).into());
    };
    may(&who, order)?;
    let why: String = sent.why.chars().filter(|c| !c.is_control()).take(1000).collect();
    let wish = Wish::Order { id, order, who: who.name(), why, revision: sent.revision };
    match state.writer.wish(wish).await.map_err(Refusal::from)? {
        Ok(_) => Ok(Redirect::to(&format!("/rollouts/{id}")).into_response()),
        Err(error @ NotDone::Unknown(_)) => Err(Refusal::not_found(error.to_string(), mend).into()),
        Err(error) => {
            let mend = "look at the rollout as it is now, and decide again";
            Err(Refusal::new(StatusCode::CONFLICT, "not-now", error.to_string(), mend).into())
        }
    }
}

async fn row(state: &HubState, id: &str) -> Result<RolloutRow, Refusal> {
    let nothing = || Refusal::not_found("there is no such rollout".to_owned(), "all are listed at /rollouts");
    rollouts::get(&state.readers, id).await?.ok_or_else(nothing)
}

/// A rollout's plan and where it stands.
pub(crate) fn read(row: &RolloutRow) -> Result<(Plan, Rollout), Refusal> {
    let unreadable = |what: &str, error: String| {
        tracing::error!(rollout = row.id, error, "a rollout's {what} cannot be read");
        Refusal::later("store", format!("the rollout's {what} cannot be read; the hub's log says why"), 60)
    };
    let plan = text::read(row.plan.as_bytes()).map_err(|error| unreadable("plan", error.to_string()))?;
    let rollout = serde_json::from_str(&row.state).map_err(|error| unreadable("state", error.to_string()))?;
    Ok((plan, rollout))
}

/// The releases that go about, in words.
pub(crate) fn what(plan: &Plan) -> String {
    names(&plan.what)
}

fn names(targets: &[crate::rollout::plan::Target]) -> String {
    let names: Vec<String> =
        targets.iter().map(|target| format!("{} {}", target.model, target.release)).collect();
    names.join(", ")
}

fn pill(phase: &Phase) -> &'static str {
    match phase {
        Phase::Done => "good",
        Phase::Running | Phase::Soaking => "info",
        Phase::Held | Phase::Paused { .. } | Phase::Reverting => "warning",
        Phase::Draft | Phase::Ready | Phase::Aborted | Phase::Reverted => "",
    }
}

fn wave_words(plan: &Plan, rollout: &Rollout) -> String {
    match (&rollout.phase, rollout.wave) {
        (Phase::Draft | Phase::Ready, _) => "not begun".to_owned(),
        (_, 0) => "canaries".to_owned(),
        (_, wave) => format!("wave {wave} of {}", plan.last_wave()),
    }
}

/// The class of a standing in bars and dots.
fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Succeeded => "succeeded",
        Standing::Failed => "failed",
        Standing::Unknown => "unknown",
        Standing::Unable => "unable",
        Standing::Back | Standing::Superseded => "gone",
        Standing::Trying => "trying",
        Standing::Waiting | Standing::Offered | Standing::Taken => "pending",
    }
}

/// Members as parts of 1000, in the order of what they proved.
pub(super) fn bar(tally: &Tally) -> Vec<Piece> {
    let all = tally.members().max(1);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut before = 0;
    for standing in [
        Standing::Succeeded,
        Standing::Trying,
        Standing::Taken,
        Standing::Offered,
        Standing::Unknown,
        Standing::Unable,
        Standing::Back,
        Standing::Superseded,
        Standing::Failed,
    ] {
        let count = tally.of(standing);
        if count == 0 {
            continue;
        }
        let at = |members: u32| (u64::from(members) * 1000 / u64::from(all)) as u32;
        let (from, to) = (at(before), at(before + count));
        before += count;
        // One node of ten thousand is still to be seen.
        let width = (to - from).max(4);
        pieces.push(Piece { class: class(standing), from: from.min(1000 - width), width });
    }
    pieces
}

/// Members by where they stand, in words.
pub(super) fn counts(tally: &Tally) -> String {
    let told: Vec<String> = STANDINGS
        .into_iter()
        .filter(|standing| tally.of(*standing) > 0)
        .map(|standing| format!("{} {standing}", tally.of(standing)))
        .collect();
    if told.is_empty() { "nobody yet".to_owned() } else { told.join(", ") }
}

fn lanes(plan: &Plan, rollout: &Rollout, now_ms: i64) -> Vec<Lane> {
    let begun = !matches!(rollout.phase, Phase::Draft | Phase::Ready);
    let lane = |wave: u32| {
        let none = Tally::default();
        let tally = rollout.tally.get(wave as usize).unwrap_or(&none);
        let share = f64::from(plan.ring_to(wave)) * 100.0 / f64::from(RING);
        let evidence = rollout.stopped.iter().chain(rollout.evidence.iter().rev()).find(|it| it.wave == wave);
        Lane {
            name: if wave == 0 { "Canaries".to_owned() } else { format!("Wave {wave}") },
            share: match wave {
                0 => format!("{} named", plan.canary.len()),
                _ if share < 1.0 => format!("to {share:.1} %"),
                _ => format!("to {share:.0} %"),
            },
            state: match wave.cmp(&rollout.wave) {
                _ if !begun => "waiting",
                std::cmp::Ordering::Less => "passed",
                std::cmp::Ordering::Equal if rollout.phase == Phase::Done => "passed",
                std::cmp::Ordering::Equal if rollout.stopped.is_some() => "stopped",
                std::cmp::Ordering::Equal => open_words(&rollout.phase),
                std::cmp::Ordering::Greater => "waiting",
            },
            bar: bar(tally),
            counts: counts(tally),
            gate: gate_words(&plan.gate(wave)),
            evidence: evidence.map(|it| evidence_view(it, now_ms)),
        }
    };
    (plan.first_wave()..=plan.last_wave()).map(lane).collect()
}

fn open_words(phase: &Phase) -> &'static str {
    match phase {
        Phase::Held => "held",
        Phase::Paused { .. } => "paused",
        Phase::Reverting | Phase::Reverted => "going back",
        Phase::Aborted => "ended",
        _ => "open",
    }
}

fn evidence_view(evidence: &Evidence, now_ms: i64) -> EvidenceView {
    EvidenceView {
        at: when(evidence.at_ms, now_ms),
        passed: evidence.asked.iter().all(|one| one.holds),
        asked: evidence.asked.clone(),
    }
}

/// What a gate asks, in words.
pub(crate) fn gate_words(gate: &Gate) -> Vec<String> {
    let percent = |ppm: u32| format!("{} %", f64::from(ppm) / 10_000.0);
    let answers = if gate.min_reports == 1 { "answer" } else { "answers" };
    let mut words = vec![format!("{} {answers}", gate.min_reports)];
    if gate.max_failed < u32::MAX {
        words.push(match gate.max_failed {
            0 => "no failure".to_owned(),
            most => format!("at most {most} failures"),
        });
    }
    if gate.success_ppm < 1_000_000 {
        words.push(format!("{} succeed", percent(gate.success_ppm)));
    }
    words.push(match gate.max_unknown {
        0 => "nobody silent".to_owned(),
        most => format!("at most {most} silent"),
    });
    for one in &gate.compare {
        words.push(format!("{} not {} worse", one.metric, percent(one.min_effect_ppm)));
    }
    if gate.soak_s > 0 {
        words.push(format!("{} of watching", exact_length(i64::from(gate.soak_s) * 1000)));
    }
    if gate.then == Then::Wait {
        words.push("a person's word".to_owned());
    }
    words
}

fn need_words(need: &Need, now_ms: i64) -> String {
    match need {
        Need::Time { until_ms } => format!("time, {}", when(*until_ms, now_ms).ago),
        other => plain(other),
    }
}

/// A rollout that waits for a person.
pub(crate) struct Wait {
    /// Its page.
    pub(crate) href: String,
    /// What goes about, and to whom.
    pub(crate) what: String,
    /// What it waits for.
    pub(crate) words: String,
    /// The likeliest button: order and words; `None`: there is none for it here.
    pub(crate) button: Option<(&'static str, &'static str)>,
    /// What the person sees.
    pub(crate) revision: u64,
}

/// What a rollout waits for, if it waits for a person.
pub(crate) fn wait(row: &RolloutRow) -> Option<Wait> {
    let (plan, rollout) = read(row).ok()?;
    let need = rollout.needs.iter().find(|need| asks(need)).filter(|_| !rollout.phase.is_end())?;
    let button = orders(&plan, &rollout).into_iter().find(|order| order.class == "main");
    Some(Wait {
        href: format!("/rollouts/{}", row.id),
        what: format!("{} to {}", what(&plan), plan.group),
        words: plain(need),
        button: button.filter(|_| !matches!(need, Need::Signature { .. })).map(|it| (it.order, it.words)),
        revision: rollout.revision,
    })
}

/// Whether a person can do something about it.
fn asks(need: &Need) -> bool {
    matches!(
        need,
        Need::Person { .. } | Need::Signature { .. } | Need::Approval { .. } | Need::Conflict { .. }
    )
}

/// What a need means for whoever reads it.
fn plain(need: &Need) -> String {
    let nodes = |count: u32| if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
    match need {
        Need::Person { ask, why } => match ask {
            Ask::Start => "a person who starts it".to_owned(),
            Ask::Next => "a person who opens the next wave: resume".to_owned(),
            Ask::Paused => format!("a person: it was paused. {why}"),
            Ask::Stopped => {
                format!("a person: a gate stopped it, {why}. Revert, abort, or resume in spite of it")
            }
            Ask::KeptBack => format!("a person: nodes are kept back, {why}. Go on without them, or wait"),
            Ask::Unknown => format!("a person: nodes stay silent, {why}. Go on without them, or wait"),
            Ask::FewReports => format!("a person: too few answered, {why}. Go on without them, or wait"),
            Ask::FewFigures => format!("a person: figures are missing, {why}. Go on without them, or wait"),
            Ask::Stuck => format!("a person: nodes do not go back, {why}"),
            Ask::Expired => "a new rollout: what was signed for this one has expired".to_owned(),
        },
        Need::Room { nodes: count } => format!("{} to come for the document", nodes(*count)),
        Need::Answers { pending, unknown: 0 } => format!("the answers of {}", nodes(*pending)),
        Need::Answers { pending, unknown } => {
            format!("the answers of {}, and {} to be heard again", nodes(*pending), nodes(*unknown))
        }
        Need::Reports { missing } => format!("{} more to answer", nodes(*missing)),
        Need::Returning { nodes: count } => format!("{} on the way back", nodes(*count)),
        other => other.to_string(),
    }
}

fn need_view(need: &Need, now_ms: i64) -> NeedView {
    let (words, until) = match need {
        Need::Time { until_ms } => ("time, until".to_owned(), Some(when(*until_ms, now_ms))),
        other => (plain(other), None),
    };
    NeedView { words, until, asks: asks(need) }
}

/// The buttons that make sense now, the likeliest first.
fn orders(plan: &Plan, rollout: &Rollout) -> Vec<OrderView> {
    let phase = &rollout.phase;
    let asks = |wanted: &[Ask]| {
        rollout.needs.iter().any(|need| matches!(need, Need::Person { ask, .. } if wanted.contains(ask)))
    };
    let approvals = rollout.needs.iter().any(|need| matches!(need, Need::Approval { .. }));
    let begun = !matches!(phase, Phase::Draft | Phase::Ready);
    let can_go_back =
        begun && !plan.revert.is_empty() && !matches!(phase, Phase::Reverting | Phase::Reverted);
    let button = |order: Order, words, class, told, sure| OrderView {
        order: order.as_str(),
        words,
        class,
        told,
        sure,
    };
    let all = [
        (*phase == Phase::Ready, Order::Start, "Start", "main", "Opens the first wave.", None),
        (approvals, Order::Approve, "Approve", "main", "Says that you agree with the plan.", None),
        (
            matches!(phase, Phase::Paused { .. } | Phase::Held),
            Order::Resume,
            "Resume",
            "main",
            "Goes on where it stands, in spite of what stopped it.",
            None,
        ),
        (
            asks(&[Ask::Unknown, Ask::FewReports, Ask::FewFigures]),
            Order::SkipUnknown,
            "Go on without them",
            "main",
            "Goes on without the nodes that do not answer.",
            None,
        ),
        (phase.is_open(), Order::Pause, "Pause", "", "Hands out nothing more; who has it keeps it.", None),
        (
            can_go_back && *phase != Phase::Aborted,
            Order::Revert,
            "Revert",
            "danger",
            "Every node that got it goes back.",
            Some("Really send all back?"),
        ),
        (
            !phase.is_end(),
            Order::Abort,
            "Abort",
            "danger",
            "Ends it where it stands; who has it keeps it.",
            Some("Really end it?"),
        ),
    ];
    let shown = all.into_iter().filter(|(is_shown, ..)| *is_shown);
    shown.map(|(_, order, words, class, told, sure)| button(order, words, class, told, sure)).collect()
}

/// A member of a row.
pub(super) fn member_view(row: MemberRow, now_ms: i64) -> MemberView {
    let member = row.member;
    MemberView {
        standing: member.standing.as_str(),
        wave: if member.wave == 0 { "canary".to_owned() } else { member.wave.to_string() },
        why: member.why,
        rebooted: member.kernel_same == Some(false),
        changed: when(member.changed_ms, now_ms),
        record: row
            .record
            .map(|(journal, stream, seq)| format!("/records/{}/{journal}/{stream}/{seq}", row.node)),
        node: row.node,
    }
}
