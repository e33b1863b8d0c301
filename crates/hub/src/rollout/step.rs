//! Where a rollout stands, and what an event does to it. Pure: the same events give the same rollout.
//!
//! ```text
//! draft ── signed, approved ─▶ ready ── start ─▶ running ─▶ soaking ─▶ gate ─▶ next wave … ─▶ done
//!                                                   │           │        └ waits for a word or a signature: held
//!                                                   └───────────┴── a gate stops ─▶ reverting ─▶ reverted, or paused
//! ```
//!
//! Whoever carries it out stores the rollout and everything that comes back in one transaction, and only then lets a
//! document leave. No effect may be lost, and none is done twice: the rollout's revision says which step was taken.

mod adopted;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wire::world::WallMs;

use crate::rollout::gate::{Ask, Case, Evidence, Need, Tally, Tests, Verdict, View, judge};
use crate::rollout::member::{Happened, Standing};
use crate::rollout::plan::{Kind, Plan, PlanId, Then};
use crate::rollout::rate::Recent;
use crate::rollout::sequential::Figures;

/// A node's number in the store.
pub type NodeNo = i64;

/// How long before signed documents end it is said.
const EXPIRES_SOON_MS: i64 = 7 * 24 * 3_600_000;
/// How long nodes may take to go back before a person is asked.
const RETURN_MS: i64 = 24 * 3_600_000;
/// The most evidence that is kept; the audit log has all.
const EVIDENCE_MAX: usize = 32;

/// Where a rollout stands. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The plan's.
    pub id: PlanId,
    /// Grows with every step that changes something.
    pub revision: u64,
    /// What goes on.
    pub phase: Phase,
    /// The wave that is, or was last, open; 0: the canaries.
    pub wave: u32,
    /// When it opened, or going back began.
    pub since_ms: WallMs,
    /// When the open wave was full for the first time.
    pub full_ms: Option<WallMs>,
    /// Which documents are signed.
    pub signed: BTreeSet<Kind>,
    /// Which documents the hub may hand out, or could.
    pub released: BTreeSet<Kind>,
    /// Who approved it.
    pub approved: BTreeSet<String>,
    /// Members by wave. Shape: `[waves + 1]`, the canaries first.
    pub tally: Vec<Tally>,
    /// Members of earlier waves that failed since the open wave opened.
    pub late: u32,
    /// Failures that a person knew of when it went on.
    pub pardoned: u32,
    /// A person said to go on without those who do not answer.
    pub skip_unknown: bool,
    /// A person said that the next wave may open.
    pub go: bool,
    /// What the open wave's tests remember.
    pub tests: Tests,
    /// The fleet at the last tick of the open wave.
    pub seen: Option<View>,
    /// What went out in the last minute.
    pub recent: Recent,
    /// Nodes that know more than this hub.
    pub conflict: u32,
    /// Why a gate stopped it, if one did and nobody went on.
    pub stopped: Option<Evidence>,
    /// Why gates passed or stopped, oldest first.
    pub evidence: Vec<Evidence>,
    /// Whether it was said that the documents end soon.
    pub warned: bool,
    /// What it waits for. Empty only at an end.
    pub needs: Vec<Need>,
    /// Why it stands where it stands, in words.
    pub why: String,
}

/// What goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Phase {
    /// Not signed, or not approved.
    Draft,
    /// Signed and approved: it may begin.
    Ready,
    /// A wave is open, and not full yet.
    Running,
    /// A wave is open, full, and looked at.
    Soaking,
    /// The gate passed; the next wave waits for a person's word or for signatures. The wave stays open.
    Held,
    /// Nothing is handed out.
    Paused {
        /// Where it goes on.
        back: Box<Phase>,
    },
    /// Members go back.
    Reverting,
    /// All have it, and latecomers get it.
    Done,
    /// Given up, where it stood.
    Aborted,
    /// Every member that can be reached is back; the others go back when they come.
    Reverted,
}

impl Phase {
    /// The word in tables and on screens.
    pub fn as_str(&self) -> &'static str {
        match self {
            Phase::Draft => "draft",
            Phase::Ready => "ready",
            Phase::Running => "running",
            Phase::Soaking => "soaking",
            Phase::Held => "held",
            Phase::Paused { .. } => "paused",
            Phase::Reverting => "reverting",
            Phase::Done => "done",
            Phase::Aborted => "aborted",
            Phase::Reverted => "reverted",
        }
    }

    /// Whether a wave is open: nodes may be offered it.
    pub fn is_open(&self) -> bool {
        matches!(self, Phase::Running | Phase::Soaking | Phase::Held)
    }

    /// Whether nothing will happen any more by itself.
    pub fn is_end(&self) -> bool {
        matches!(self, Phase::Done | Phase::Aborted | Phase::Reverted)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// These documents are signed, all of them that are.
    Signed(BTreeSet<Kind>),
    /// A person wants something, and says why.
    Ordered {
        /// What.
        order: Order,
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
    /// A member stands elsewhere: [`crate::rollout::member::hear`].
    Happened(NodeNo, Happened),
    /// How models behave.
    Behaved(Sample),
    /// So many nodes know more than this hub; 0: no more.
    Conflict(u32),
    /// A person believes the nodes, which name these documents.
    Adopted {
        /// Which.
        named: BTreeSet<Kind>,
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
    /// Some time passed, and the fleet looks like this.
    Tick(View),
}

/// What a person can want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Open the first wave.
    Start,
    /// Hand out nothing more.
    Pause,
    /// Go on: after a pause, in spite of a stop, through a gate that waits.
    Resume,
    /// Agree with the plan.
    Approve,
    /// Give up, where it stands; while going back: do not wait for the rest.
    Abort,
    /// Go back.
    Revert,
    /// Go on without those who do not answer.
    SkipUnknown,
}

/// How models behave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// A node of the group restarted unasked, fell silent, went into safe mode, or raised an alert.
    Trouble {
        /// Whether it had been offered the release.
        treated: bool,
        /// How many nodes of the group had been.
        of_treated: u32,
        /// How many had not.
        of_held_out: u32,
    },
    /// All figures there are, anew.
    Figures(Figures),
}

/// What is to be done, in the transaction that stores the rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// From now on this document may be handed out.
    Release(Kind),
    /// A person is to look.
    Alert(Alarm, String),
    /// Nothing more to look at.
    Calm,
    /// For the audit log.
    Audit(Act),
}

impl Effect {
    /// What it says to the audit log.
    pub fn act(&self) -> Option<&Act> {
        match self {
            Effect::Audit(act) => Some(act),
            _ => None,
        }
    }
}

/// Why a person is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alarm {
    /// A gate stopped a rollout.
    RolloutStopped,
    /// A rollout waits for a person.
    RolloutWaits,
    /// Its signed documents end soon.
    SignaturesExpire,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// `rollout.start`, `rollout.wave`, `rollout.stop`, …
    pub act: String,
    /// Who; empty: the hub, by the plan.
    pub who: String,
    /// The phase before.
    pub before: String,
    /// The phase after.
    pub after: String,
    /// The wave.
    pub wave: u32,
    /// Why.
    pub why: String,
    /// What a gate saw.
    pub evidence: Option<Evidence>,
}

/// An order that cannot be followed now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// It does not fit the phase.
    #[error("a rollout that is {phase} cannot be told to {order}")]
    Phase {
        /// The order.
        order: &'static str,
        /// The phase.
        phase: &'static str,
    },
    /// One's own plan, or twice.
    #[error("{who} has made this plan, or has approved it already: somebody else must")]
    OwnPlan {
        /// Who.
        who: String,
    },
    /// The plan has no way back, or it is not signed.
    #[error(
        "the plan has no way back, or nobody signed it: abort it, and make a new rollout of the older release"
    )]
    NoWayBack,
    /// Nodes know more than the hub.
    #[error(
        "nodes know more than this hub, whose database is a backup's: look with `selvedge hub adopt --plan`"
    )]
    Behind,
    /// Too late.
    #[error("the signed documents have expired: make a new rollout")]
    Expired,
}

impl Order {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Order::Start => "start",
            Order::Pause => "pause",
            Order::Resume => "resume",
            Order::Approve => "approve",
            Order::Abort => "abort",
            Order::Revert => "revert",
            Order::SkipUnknown => "skip-unknown",
        }
    }
}

impl Rollout {
    /// A rollout of a plan that nobody has signed yet.
    pub fn new(plan: &Plan, id: PlanId, now_ms: WallMs) -> Rollout {
        let rollout = Rollout {
            id,
            revision: 0,
            phase: Phase::Draft,
            wave: plan.first_wave(),
            since_ms: now_ms,
            full_ms: None,
            signed: BTreeSet::new(),
            released: BTreeSet::new(),
            approved: BTreeSet::new(),
            tally: vec![Tally::default(); plan.waves.len() + 1],
            late: 0,
            pardoned: 0,
            skip_unknown: false,
            go: false,
            tests: Tests::default(),
            seen: None,
            recent: Recent::default(),
            conflict: 0,
            stopped: None,
            evidence: Vec::new(),
            warned: false,
            needs: Vec::new(),
            why: String::new(),
        };
        let needs = needs(plan, &rollout, now_ms);
        Rollout { needs, ..rollout }
    }

    /// Members of all waves.
    pub fn members(&self) -> Tally {
        let mut all = Tally::default();
        for tally in &self.tally {
            all.add(tally);
        }
        all
    }

    fn open_tally(&self) -> Tally {
        self.tally.get(usize::try_from(self.wave).unwrap_or(usize::MAX)).copied().unwrap_or_default()
    }
}

/// Whether an order can be followed now. Asked before the order is taken, so that a person hears why not.
pub fn allows(plan: &Plan, rollout: &Rollout, order: Order, who: &str, now_ms: WallMs) -> Result<(), NotNow> {
    let phase = &rollout.phase;
    let fits = match order {
        Order::Start => *phase == Phase::Ready,
        Order::Pause | Order::SkipUnknown => phase.is_open(),
        Order::Resume => matches!(phase, Phase::Held | Phase::Paused { .. }),
        Order::Approve => matches!(phase, Phase::Draft | Phase::Ready),
        Order::Abort => !phase.is_end(),
        Order::Revert => {
            matches!(phase, Phase::Paused { .. } | Phase::Aborted) && !rollout.released.is_empty()
                || phase.is_open()
        }
    };
    if !fits {
        return Err(NotNow::Phase { order: order.as_str(), phase: phase.as_str() });
    }
    if rollout.conflict > 0 && matches!(order, Order::Resume | Order::Revert) {
        return Err(NotNow::Behind);
    }
    let expires = matches!(order, Order::Start | Order::Resume);
    if expires && now_ms >= plan.expires_ms() {
        return Err(NotNow::Expired);
    }
    if order == Order::Approve && (who == plan.created_by || rollout.approved.contains(who)) {
        return Err(NotNow::OwnPlan { who: who.to_owned() });
    }
    if order == Order::Revert && ways_back(plan, rollout).is_none() {
        return Err(NotNow::NoWayBack);
    }
    Ok(())
}

/// What an event does to a rollout.
pub fn step(plan: &Plan, rollout: Rollout, event: Event, now_ms: WallMs) -> (Rollout, Vec<Effect>) {
    let (needs_before, seen_before) = (rollout.needs.clone(), rollout.seen);
    let mut step = Step { plan, it: rollout, effects: Vec::new(), now_ms };
    let is_tick = matches!(event, Event::Tick(_));
    step.take(event);
    while step.settle(is_tick) {}
    let Step { mut it, mut effects, .. } = step;
    it.needs = needs(plan, &it, now_ms);
    // Who started or paused it knows; a stop has an alarm of its own.
    let is_known = |ask| matches!(ask, Ask::Start | Ask::Paused | Ask::Stopped);
    let (before, now) = (asked(&needs_before), asked(&it.needs));
    match now {
        Some((ask, why)) if !is_known(ask) && before.map(|(ask, _)| ask) != Some(ask) => {
            effects.push(Effect::Alert(Alarm::RolloutWaits, why.to_owned()));
        }
        None if before.is_some() => effects.push(Effect::Calm),
        _ => {}
    }
    if !is_tick || !effects.is_empty() || it.needs != needs_before || it.seen != seen_before {
        it.revision += 1;
    }
    (it, effects)
}

/// What a person is asked first.
fn asked(needs: &[Need]) -> Option<(Ask, &str)> {
    needs.iter().find_map(|need| match need {
        Need::Person { ask, why } => Some((*ask, why.as_str())),
        _ => None,
    })
}

/// One step, while it is taken.
struct Step<'a> {
    plan: &'a Plan,
    it: Rollout,
    effects: Vec<Effect>,
    now_ms: WallMs,
}

impl Step<'_> {
    /// Takes what happened into the rollout.
    fn take(&mut self, event: Event) {
        match event {
            Event::Signed(kinds) => self.it.signed = kinds,
            Event::Ordered { order, who, why } => {
                if allows(self.plan, &self.it, order, &who, self.now_ms).is_ok() {
                    self.follow(order, &who, &why);
                }
            }
            Event::Happened(_, happened) => self.count(happened),
            Event::Behaved(Sample::Trouble { treated, of_treated, of_held_out }) => {
                self.it.tests.trouble.observe(treated, of_treated, of_held_out);
            }
            Event::Behaved(Sample::Figures(figures)) => self.it.tests.figures = figures,
            Event::Conflict(nodes) if self.it.phase.is_open() || self.it.phase == Phase::Reverting => {
                self.it.conflict = nodes;
                if nodes > 0 {
                    self.pause(
                        "rollout.conflict",
                        "",
                        "nodes know more than this hub: its database is a backup's",
                    );
                }
            }
            Event::Conflict(nodes) if self.it.conflict > 0 => self.it.conflict = nodes,
            Event::Conflict(_) => {}
            Event::Adopted { named, who, why } => self.adopt(&named, &who, &why),
            Event::Tick(view) if view.wave == self.it.wave => self.it.seen = Some(view),
            Event::Tick(_) => {}
        }
    }

    fn count(&mut self, happened: Happened) {
        let Happened { wave, from, to, bytes } = happened;
        if let Some(tally) = self.it.tally.get_mut(usize::try_from(wave).unwrap_or(usize::MAX)) {
            tally.moved(from, to);
        }
        if from == Standing::Waiting {
            self.it.recent.add(bytes, self.now_ms);
        }
        if to == Standing::Failed && wave < self.it.wave {
            self.it.late += 1;
        }
    }

    fn follow(&mut self, order: Order, who: &str, why: &str) {
        match order {
            Order::Start => self.open(self.plan.first_wave(), "rollout.start", who, why),
            Order::Pause => self.pause("rollout.pause", who, why),
            Order::Approve => {
                self.it.approved.insert(who.to_owned());
                self.audit("rollout.approve", who, why, None);
            }
            Order::SkipUnknown => {
                self.it.skip_unknown = true;
                self.audit("rollout.skip-unknown", who, why, None);
            }
            Order::Resume => {
                if let Phase::Paused { back } = self.it.phase.clone() {
                    if self.it.stopped.take().is_some() {
                        self.it.pardoned = self.it.open_tally().failed + self.it.late;
                        self.it.tests = Tests::default();
                    }
                    self.turn(*back, "rollout.resume", who, why, None);
                } else {
                    self.it.go = true;
                    self.audit("rollout.resume", who, why, None);
                }
            }
            Order::Abort => {
                let end = if self.it.phase == Phase::Reverting { Phase::Reverted } else { Phase::Aborted };
                self.turn(end, "rollout.abort", who, why, None);
            }
            Order::Revert => self.revert("rollout.revert", who, why, None),
        }
    }

    /// Goes on as far as it can by itself; whether something changed, so that it is asked again.
    fn settle(&mut self, is_tick: bool) -> bool {
        let expired = self.now_ms >= self.plan.expires_ms();
        match self.it.phase {
            Phase::Draft if self.is_ready() => {
                self.turn(Phase::Ready, "rollout.ready", "", "signed and approved", None);
                true
            }
            Phase::Ready if !self.is_ready() => {
                self.turn(Phase::Draft, "rollout.draft", "", "signatures are missing", None);
                true
            }
            Phase::Running | Phase::Soaking | Phase::Held if expired => {
                self.pause("rollout.expired", "", "the signed documents have expired");
                true
            }
            Phase::Running | Phase::Soaking | Phase::Held => {
                self.warn();
                self.look(is_tick)
            }
            Phase::Reverting if is_tick && self.it.seen.is_some_and(|seen| seen.returning == 0) => {
                self.turn(
                    Phase::Reverted,
                    "rollout.reverted",
                    "",
                    "every member that can be reached is back",
                    None,
                );
                true
            }
            _ => false,
        }
    }

    fn is_ready(&self) -> bool {
        let needed = self.plan.needed(self.plan.first_wave());
        let approved = self.it.approved.len() >= usize::from(self.plan.approvals);
        approved && needed.iter().all(|kind| self.it.signed.contains(kind))
    }

    /// Says once that the documents end soon.
    fn warn(&mut self) {
        if !self.it.warned && self.now_ms >= self.plan.expires_ms() - EXPIRES_SOON_MS {
            self.it.warned = true;
            let text = "the rollout's signed documents end within seven days".to_owned();
            self.effects.push(Effect::Alert(Alarm::SignaturesExpire, text));
        }
    }

    /// Looks at the open wave's gate.
    fn look(&mut self, is_tick: bool) -> bool {
        let verdict = judged(self.plan, &self.it, self.now_ms);
        let (plan, wave) = (self.plan, self.it.wave);
        match verdict {
            Verdict::Stop(evidence) => {
                self.stop(evidence);
                true
            }
            _ if self.it.phase == Phase::Held => self.pass(None),
            Verdict::Pass(evidence) if is_tick => {
                let unsigned = missing(plan, &self.it);
                if unsigned.is_empty() && (plan.gate(wave).then == Then::Continue || wave >= plan.last_wave())
                {
                    return self.pass(Some(evidence));
                }
                self.keep(&evidence);
                self.turn(Phase::Held, "rollout.held", "", "the gate passed", Some(evidence));
                true
            }
            _ if is_tick && self.it.phase == Phase::Running => {
                let gate = plan.gate(wave);
                let full = case(&gate, &self.it, &self.it.open_tally()).is_full(self.now_ms);
                if full {
                    self.it.full_ms = Some(self.now_ms);
                    self.turn(Phase::Soaking, "rollout.soak", "", "the wave is full", None);
                }
                full
            }
            _ => false,
        }
    }

    /// Opens the next wave, or ends, if nothing is missing.
    fn pass(&mut self, evidence: Option<Evidence>) -> bool {
        let (plan, wave) = (self.plan, self.it.wave);
        let waits = evidence.is_none() && plan.gate(wave).then == Then::Wait && !self.it.go;
        let is_last = wave >= plan.last_wave();
        if !missing(plan, &self.it).is_empty() || waits && !is_last {
            return false;
        }
        if let Some(evidence) = &evidence {
            self.keep(evidence);
        }
        if is_last {
            self.release(Kind::Standing);
            self.turn(Phase::Done, "rollout.done", "", "all waves passed", evidence);
        } else {
            if let Some(evidence) = evidence {
                self.audit("rollout.gate", "", "the gate passed", Some(evidence));
            }
            self.open(wave + 1, "rollout.wave", "", "");
        }
        true
    }

    fn open(&mut self, wave: u32, act: &str, who: &str, why: &str) {
        let it = &mut self.it;
        (it.wave, it.since_ms, it.full_ms) = (wave, self.now_ms, None);
        (it.late, it.pardoned, it.skip_unknown, it.go) = (0, 0, false, false);
        (it.tests, it.seen) = (Tests::default(), None);
        self.release(self.plan.opens(wave));
        self.turn(Phase::Running, act, who, why, None);
    }

    fn stop(&mut self, evidence: Evidence) {
        let why = evidence.why();
        self.effects.push(Effect::Alert(Alarm::RolloutStopped, why.clone()));
        self.keep(&evidence);
        self.it.stopped = Some(evidence.clone());
        if self.plan.revert_on_stop && ways_back(self.plan, &self.it).is_some() {
            self.revert("rollout.stop", "", &why, Some(evidence));
        } else {
            let back = Box::new(self.it.phase.clone());
            self.turn(Phase::Paused { back }, "rollout.stop", "", &why, Some(evidence));
        }
    }

    fn revert(&mut self, act: &str, who: &str, why: &str, evidence: Option<Evidence>) {
        for kind in ways_back(self.plan, &self.it).unwrap_or_default() {
            self.release(kind);
        }
        (self.it.since_ms, self.it.seen) = (self.now_ms, None);
        self.turn(Phase::Reverting, act, who, why, evidence);
    }

    fn pause(&mut self, act: &str, who: &str, why: &str) {
        let back = Box::new(self.it.phase.clone());
        self.turn(Phase::Paused { back }, act, who, why, None);
    }

    fn release(&mut self, kind: Kind) {
        if self.it.released.insert(kind) {
            self.effects.push(Effect::Release(kind));
        }
    }

    fn keep(&mut self, evidence: &Evidence) {
        self.it.evidence.push(evidence.clone());
        if self.it.evidence.len() > EVIDENCE_MAX {
            self.it.evidence.remove(0);
        }
    }

    fn turn(&mut self, phase: Phase, act: &str, who: &str, why: &str, evidence: Option<Evidence>) {
        let before = std::mem::replace(&mut self.it.phase, phase);
        self.it.why = why.to_owned();
        self.entry(act, who, before.as_str(), why, evidence);
    }

    fn audit(&mut self, act: &str, who: &str, why: &str, evidence: Option<Evidence>) {
        self.entry(act, who, self.it.phase.as_str(), why, evidence);
    }

    fn entry(&mut self, act: &str, who: &str, before: &str, why: &str, evidence: Option<Evidence>) {
        self.effects.push(Effect::Audit(Act {
            act: act.to_owned(),
            who: who.to_owned(),
            before: before.to_owned(),
            after: self.it.phase.as_str().to_owned(),
            wave: self.it.wave,
            why: why.to_owned(),
            evidence,
        }));
    }
}

/// The documents that take every member back, if the plan has them and they are signed.
fn ways_back(plan: &Plan, rollout: &Rollout) -> Option<Vec<Kind>> {
    if plan.revert.is_empty() {
        return None;
    }
    let canary = rollout.released.contains(&Kind::Canary).then_some(Kind::CanaryRevert);
    let ring = (rollout.wave > 0).then_some(Kind::Revert(rollout.wave));
    let ways: Vec<Kind> = canary.into_iter().chain(ring).collect();
    ways.iter().all(|kind| rollout.signed.contains(kind)).then_some(ways)
}

/// What must be signed before it goes on from the open wave.
fn missing(plan: &Plan, rollout: &Rollout) -> Vec<Kind> {
    let is_last = rollout.wave >= plan.last_wave();
    let needed = if is_last { vec![Kind::Standing] } else { plan.needed(rollout.wave + 1) };
    needed.into_iter().filter(|kind| !rollout.signed.contains(kind)).collect()
}

fn case<'a>(gate: &'a crate::rollout::plan::Gate, rollout: &'a Rollout, tally: &'a Tally) -> Case<'a> {
    Case {
        gate,
        wave: rollout.wave,
        tally,
        late: rollout.late,
        pardoned: rollout.pardoned,
        skip_unknown: rollout.skip_unknown,
        tests: &rollout.tests,
        seen: rollout.seen.as_ref(),
        since_ms: rollout.since_ms,
        full_ms: rollout.full_ms,
    }
}

/// What the open wave's gate says now.
pub fn judged(plan: &Plan, rollout: &Rollout, now_ms: WallMs) -> Verdict {
    let (gate, tally) = (plan.gate(rollout.wave), rollout.open_tally());
    judge(&case(&gate, rollout, &tally), now_ms)
}

/// What a rollout waits for; empty only at an end.
fn needs(plan: &Plan, rollout: &Rollout, now_ms: WallMs) -> Vec<Need> {
    let person = |ask, why: &str| Need::Person { ask, why: why.to_owned() };
    let mut needs = Vec::new();
    match &rollout.phase {
        Phase::Draft => {
            let first = plan.needed(plan.first_wave());
            let of: Vec<Kind> = first.into_iter().filter(|kind| !rollout.signed.contains(kind)).collect();
            if !of.is_empty() {
                needs.push(Need::Signature { of });
            }
            let have = u8::try_from(rollout.approved.len()).unwrap_or(u8::MAX);
            if have < plan.approvals {
                needs.push(Need::Approval { of: plan.approvals, have });
            }
        }
        Phase::Ready => needs.push(person(Ask::Start, "it may begin: start it")),
        Phase::Running | Phase::Soaking => match judged(plan, rollout, now_ms) {
            Verdict::Wait(all) => needs = all,
            // It passes with the next tick.
            Verdict::Pass(_) | Verdict::Stop(_) => needs.push(Need::Time { until_ms: now_ms }),
        },
        Phase::Held => {
            let of = missing(plan, rollout);
            if !of.is_empty() {
                needs.push(Need::Signature { of });
            }
            if plan.gate(rollout.wave).then == Then::Wait && !rollout.go && rollout.wave < plan.last_wave() {
                needs.push(person(Ask::Next, "the gate passed: resume opens the next wave"));
            }
        }
        Phase::Paused { .. } if rollout.conflict > 0 => {
            needs.push(Need::Conflict { nodes: rollout.conflict });
            needs.push(person(Ask::Paused, &rollout.why));
        }
        Phase::Paused { .. } if now_ms >= plan.expires_ms() => {
            needs.push(person(Ask::Expired, "the signed documents have expired: make a new rollout"));
        }
        Phase::Paused { .. } => {
            let ask = if rollout.stopped.is_some() { Ask::Stopped } else { Ask::Paused };
            needs.push(person(ask, &rollout.why));
        }
        Phase::Reverting => {
            let nodes = rollout.seen.map_or_else(|| rollout.members().out(), |seen| seen.returning);
            needs.push(Need::Returning { nodes });
            if now_ms >= rollout.since_ms + RETURN_MS {
                needs.push(person(Ask::Stuck, "nodes that can be reached do not go back"));
            }
        }
        Phase::Done | Phase::Aborted | Phase::Reverted => {}
    }
    needs
}
