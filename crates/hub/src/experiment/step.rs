//! Where an experiment stands, and what an event does to it. Pure: the same events give the same experiment.
//!
//! ```text
//! draft ── signed ─▶ ready ── start ─▶ running ── decided, until, harm, stop ─▶ returning ─▶ ended
//!                                         └── nodes keep what they have ──────────────────────┘
//! ```
//!
//! As with rollouts, whoever carries it out stores it and everything that comes back in one transaction, and only then lets
//! a document leave.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use wire::world::WallMs;

use crate::experiment::plan::{Measure, Plan, What, Which, arm_name};
use crate::experiment::sequence::{Finding, Interval, Pair, finding, interval};
use crate::experiment::shadow::{self, Count, Sum};
use crate::experiment::split::{SUSPICIOUS, mismatch};
use crate::rollout::gate::Tally;
use crate::rollout::member::{Happened, Standing};
use crate::rollout::plan::PlanId;
use crate::rollout::rate::Recent;
use crate::rollout::sequential::share;

/// How many points of the curve are kept; where there are more, every other one goes.
const CURVE_MAX: usize = 240;

/// Where an experiment stands. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// The plan's.
    pub id: PlanId,
    /// Grows with every step that changes something.
    pub revision: u64,
    /// What goes on.
    pub phase: Phase,
    /// When it began, or was made.
    pub since_ms: WallMs,
    /// When it was decided or given up.
    pub ended_ms: Option<WallMs>,
    /// Which documents are signed.
    pub signed: BTreeSet<Which>,
    /// Which documents the hub may hand out.
    pub released: BTreeSet<Which>,
    /// Members by arm.
    pub tally: [Tally; 2],
    /// The figures that were taken.
    pub figures: Pair,
    /// What was told of a release that answers beside what runs.
    #[serde(default)]
    pub shadow: Sum,
    /// How they came to be, the oldest first.
    pub curve: Vec<Point>,
    /// Whether the arms are as large as the lot makes them.
    pub split: Option<Split>,
    /// What came of it.
    pub outcome: Option<Outcome>,
    /// What went out in the last minute.
    pub recent: Recent,
    /// What it waits for. Empty only at the end.
    pub needs: Vec<Need>,
    /// Why it stands where it stands, in words.
    pub why: String,
}

/// What goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not signed.
    Draft,
    /// Signed: it may begin.
    Ready,
    /// Nodes get their arms' releases, and tell.
    Running,
    /// It is over, and members go back.
    Returning,
    /// It is over.
    Ended,
}

impl Phase {
    /// The word in tables and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Draft => "draft",
            Phase::Ready => "ready",
            Phase::Running => "running",
            Phase::Returning => "returning",
            Phase::Ended => "ended",
        }
    }
}

/// A point of the curve: what was known when a node's figure was taken, or when it told what it compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When.
    pub at_ms: WallMs,
    /// How many figures each arm had; or how many answers were compared, and parted.
    pub nodes: [u32; 2],
    /// Their means; or the share that parted, and nothing.
    pub means: [f64; 2],
    /// By how much arm b lay above arm a, or where the share lay, if that was known.
    pub interval: Option<Interval>,
}

/// How probable the sizes of the arms are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Of members.
    pub members: Option<f64>,
    /// Of figures that were taken: nodes that fail or fall silent in one arm alone are missing there.
    pub figures: Option<f64>,
}

impl Split {
    /// Whether something else than the lot chose.
    pub fn is_suspicious(&self) -> bool {
        [self.members, self.figures].into_iter().flatten().any(|p| p < SUSPICIOUS)
    }
}

/// What came of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// In a word.
    pub verdict: Verdict,
    /// When.
    pub at_ms: WallMs,
    /// By how much arm b lies above arm a, or where the share of answers that part lies, if that is known.
    pub interval: Option<Interval>,
    /// In words.
    pub why: String,
}

/// What came of an experiment, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Arm a is better.
    A,
    /// Arm b is better.
    B,
    /// They differ by less than matters.
    NoDifference,
    /// What answers beside what runs says something else less often than it may.
    Agrees,
    /// More often.
    Parts,
    /// Time was over first, or enough was compared.
    Undecided,
    /// What answers beside what runs does harm.
    Harmful,
    /// An arm does harm.
    Harm {
        /// Which.
        arm: usize,
    },
    /// A person stopped it.
    Stopped,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::A => f.write_str("arm a is better"),
            Verdict::B => f.write_str("arm b is better"),
            Verdict::NoDifference => f.write_str("no difference that matters"),
            Verdict::Agrees => f.write_str("it agrees"),
            Verdict::Parts => f.write_str("it says something else"),
            Verdict::Harmful => f.write_str("it does harm"),
            Verdict::Undecided => f.write_str("undecided"),
            Verdict::Harm { arm } => write!(f, "arm {} does harm", arm_name(*arm)),
            Verdict::Stopped => f.write_str("stopped"),
        }
    }
}

/// What an experiment waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "need", rename_all = "snake_case")]
pub enum Need {
    /// Documents that nobody has signed yet.
    Signature {
        /// Which.
        of: Vec<Which>,
    },
    /// Somebody who starts it.
    Start,
    /// Figures of more nodes.
    Figures {
        /// How many were taken.
        taken: u32,
        /// How many members have not told enough.
        open: u32,
    },
    /// Answers of more nodes.
    Answers {
        /// How many were compared.
        compared: u64,
        /// How many are enough.
        of: u32,
        /// How many nodes told of them.
        #[serde(default)]
        nodes: u32,
        /// How many must.
        #[serde(default)]
        of_nodes: u32,
    },
    /// Its end.
    Until {
        /// When.
        until_ms: WallMs,
    },
    /// Members that go back.
    Returning {
        /// How many can be reached, as far as is known.
        nodes: u32,
    },
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Signature { of } => {
                let of: Vec<String> = of.iter().map(ToString::to_string).collect();
                write!(f, "signatures of {}", of.join(", "))
            }
            Need::Start => f.write_str("somebody who starts it"),
            Need::Figures { taken, open } => {
                write!(f, "figures: {taken} were taken, {open} members have not told enough")
            }
            Need::Answers { compared, of, nodes, of_nodes } => {
                write!(
                    f,
                    "answers: {compared} of {of} were compared, by {nodes} of {of_nodes} nodes at least"
                )
            }
            Need::Until { until_ms } => {
                write!(f, "{} at the latest", package::trust::time::format_utc(*until_ms))
            }
            Need::Returning { nodes } => write!(f, "{nodes} nodes that go back"),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// These documents are signed, all of them that are.
    Signed(BTreeSet<Which>),
    /// A person wants something, and says why.
    Ordered {
        /// What.
        order: Order,
        /// Who.
        who: String,
        /// Why.
        why: String,
    },
    /// A member of an arm stands elsewhere.
    Happened {
        /// The arm.
        arm: usize,
        /// What happened.
        happened: Happened,
    },
    /// A node's figure was taken.
    Counted {
        /// Its arm.
        arm: usize,
        /// The figure.
        value: f64,
    },
    /// A node told what it compared.
    Compared {
        /// Its name.
        node: String,
        /// What it told.
        more: Count,
        /// All that it has told.
        whole: Count,
    },
    /// Some time passed; so many members that can be reached have not gone back.
    Tick {
        /// How many.
        returning: u32,
    },
}

/// What a person can want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Begin.
    Start,
    /// End it, undecided; while members go back: do not wait for the rest.
    Stop,
}

impl Order {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Order::Start => "start",
            Order::Stop => "stop",
        }
    }

    /// The inverse of [`Order::as_str`].
    pub fn parse(word: &str) -> Option<Order> {
        [Order::Start, Order::Stop].into_iter().find(|order| order.as_str() == word)
    }
}

/// An order that cannot be followed now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// It does not fit the phase.
    #[error("an experiment that is {phase} cannot be told to {order}")]
    Phase {
        /// The order.
        order: &'static str,
        /// The phase.
        phase: &'static str,
    },
    /// Too late.
    #[error("the signed documents end before the experiment would: make a new one")]
    Expired,
}

/// What is to be done, in the transaction that stores the experiment.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// From now on this document may be handed out.
    Release(Which),
    /// A person is to look.
    Alert(String),
    /// Nothing more to look at.
    Calm,
    /// For the audit log.
    Audit(Act),
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// `experiment.start`, `experiment.decided`, …
    pub act: &'static str,
    /// Who; empty: the hub, by the plan.
    pub who: String,
    /// The phase before.
    pub before: &'static str,
    /// The phase after.
    pub after: &'static str,
    /// Why.
    pub why: String,
    /// How many figures each arm had; or how many answers were compared, and parted.
    pub nodes: [u32; 2],
}

impl Experiment {
    /// An experiment of a plan that nobody has signed yet.
    pub fn new(plan: &Plan, id: PlanId, now_ms: WallMs) -> Experiment {
        let it = Experiment {
            id,
            revision: 0,
            phase: Phase::Draft,
            since_ms: now_ms,
            ended_ms: None,
            signed: BTreeSet::new(),
            released: BTreeSet::new(),
            tally: [Tally::default(); 2],
            figures: Pair::default(),
            shadow: Sum::default(),
            curve: Vec::new(),
            split: None,
            outcome: None,
            recent: Recent::default(),
            needs: Vec::new(),
            why: String::new(),
        };
        let needs = needs(plan, &it, 0);
        Experiment { needs, ..it }
    }

    /// When it ends at the latest.
    pub fn until_ms(&self, plan: &Plan) -> WallMs {
        (self.since_ms + i64::from(plan.for_s) * 1000).min(plan.expires_ms())
    }

    /// By how much arm b lies above arm a now, or where the share of answers that part lies, if that is known.
    pub fn interval(&self, plan: &Plan) -> Option<Interval> {
        match &plan.what {
            What::Arms(arms) => interval(&self.figures, arms.measure.alpha()),
            What::Shadow(shadow) => shadow::interval(&self.shadow.all, shadow.bound.alpha()),
        }
    }

    /// Whether an order can be followed now.
    pub fn allows(&self, plan: &Plan, order: Order, now_ms: WallMs) -> Result<(), NotNow> {
        let fits = match order {
            Order::Start => self.phase == Phase::Ready,
            Order::Stop => self.phase != Phase::Ended,
        };
        if !fits {
            return Err(NotNow::Phase { order: order.as_str(), phase: self.phase.as_str() });
        }
        if order == Order::Start && now_ms + i64::from(plan.for_s) * 1000 > plan.expires_ms() {
            return Err(NotNow::Expired);
        }
        Ok(())
    }
}

/// One step.
pub fn step(plan: &Plan, it: Experiment, event: Event, now_ms: WallMs) -> (Experiment, Vec<Effect>) {
    let before = it.clone();
    let returning = if let Event::Tick { returning } = event { Some(returning) } else { None };
    let mut step = Step { plan, it, effects: Vec::new(), now_ms };
    step.take(event);
    while step.settle(returning) {}
    let Step { mut it, effects, .. } = step;
    let known = before.needs.iter().find_map(|need| match need {
        Need::Returning { nodes } => Some(*nodes),
        _ => None,
    });
    it.needs = needs(plan, &it, returning.or(known).unwrap_or(0));
    if it != before || !effects.is_empty() {
        it.revision += 1;
    }
    (it, effects)
}

/// One step, while it is taken.
struct Step<'a> {
    plan: &'a Plan,
    it: Experiment,
    effects: Vec<Effect>,
    now_ms: WallMs,
}

impl Step<'_> {
    /// Takes what happened into the experiment.
    fn take(&mut self, event: Event) {
        match event {
            Event::Signed(documents) => self.it.signed = documents,
            Event::Ordered { order, who, why } => {
                if self.it.allows(self.plan, order, self.now_ms).is_ok() {
                    self.follow(order, &who, &why);
                }
            }
            Event::Happened { arm, happened } => {
                let Happened { from, to, bytes, .. } = happened;
                if let Some(tally) = self.it.tally.get_mut(arm) {
                    tally.moved(from, to);
                }
                if from == Standing::Waiting && to == Standing::Offered {
                    self.it.recent.add(bytes, self.now_ms);
                }
            }
            Event::Counted { arm, value } if self.it.phase == Phase::Running && value.is_finite() => {
                self.it.figures.add(arm, value);
                self.point();
            }
            Event::Compared { node, more, whole } if self.it.phase == Phase::Running => {
                self.it.shadow.hear(&node, &more, &whole);
                self.point();
            }
            Event::Counted { .. } | Event::Compared { .. } => {}
            Event::Tick { .. } if self.it.phase == Phase::Running => self.look_at_split(),
            Event::Tick { .. } => {}
        }
    }

    fn follow(&mut self, order: Order, who: &str, why: &str) {
        match (order, self.it.phase) {
            (Order::Start, _) => {
                self.it.since_ms = self.now_ms;
                let plan = self.plan;
                for arm in plan.arms() {
                    self.release(plan.opens(arm.at));
                }
                self.turn(Phase::Running, "experiment.start", who, why);
            }
            (Order::Stop, Phase::Running) => {
                self.end(Verdict::Stopped, "experiment.stop", who, why);
            }
            (Order::Stop, phase) => {
                if phase != Phase::Returning {
                    self.conclude(Verdict::Stopped, why);
                }
                self.turn(Phase::Ended, "experiment.stop", who, why);
            }
        }
    }

    /// Goes on as far as it can by itself; whether something changed, so that it is asked again.
    fn settle(&mut self, returning: Option<u32>) -> bool {
        let is_signed = self.plan.documents().iter().all(|which| self.it.signed.contains(which));
        match self.it.phase {
            Phase::Draft if is_signed => self.turn(Phase::Ready, "experiment.ready", "", "signed"),
            Phase::Ready if !is_signed => {
                self.turn(Phase::Draft, "experiment.draft", "", "signatures are missing");
            }
            Phase::Running => return self.judge(),
            Phase::Returning if returning == Some(0) => {
                let why = self.it.why.clone();
                self.turn(Phase::Ended, "experiment.ended", "", &why);
            }
            _ => return false,
        }
        true
    }

    /// Whether it is over: harm first, then the figures, then time.
    fn judge(&mut self) -> bool {
        let plan = self.plan;
        if let Some((arm, why)) = self.harm() {
            self.effects.push(Effect::Alert(why.clone()));
            let verdict = if plan.two().is_some() { Verdict::Harm { arm } } else { Verdict::Harmful };
            self.end(verdict, "experiment.harm", "", &why);
            return true;
        }
        let found = self.it.interval(plan);
        let words = found.map(|found| told(plan, &found));
        if let Some(verdict) = self.verdict(found.as_ref()) {
            let few = self.few().filter(|_| verdict == Verdict::Undecided).unwrap_or_default();
            let why = format!("{verdict}: {}{few}", words.unwrap_or_default());
            self.end(verdict, "experiment.decided", "", &why);
            return true;
        }
        if self.now_ms < self.it.until_ms(plan) {
            return false;
        }
        let why = match words {
            Some(words) => format!("time is over: {words}{}", self.few().unwrap_or_default()),
            None => "time is over, and too few nodes told".to_owned(),
        };
        self.end(Verdict::Undecided, "experiment.until", "", &why);
        true
    }

    /// Why what is known of a release beside what runs decides nothing, however clear it is: what follows the figures.
    fn few(&self) -> Option<String> {
        let (bound, told) = (&self.plan.shadow()?.bound, &self.it.shadow);
        let (nodes, most) = (told.nodes, told.most);
        (!told.is_spread(bound)).then(|| {
            let word = if nodes == 1 { "node" } else { "nodes" };
            let of = told.all.compared;
            let rests_on = bound.spread();
            format!(
                "; {nodes} {word} told, at most {most} of {of} answers each: a verdict rests on {rests_on}"
            )
        })
    }

    /// What is decided by what is known, if something is.
    fn verdict(&self, found: Option<&Interval>) -> Option<Verdict> {
        Some(match &self.plan.what {
            What::Arms(arms) => match finding(&arms.measure, found?)? {
                Finding::A => Verdict::A,
                Finding::B => Verdict::B,
                Finding::NoDifference => Verdict::NoDifference,
            },
            What::Shadow(it) => match shadow::finding(&it.bound, &self.it.shadow, found)? {
                shadow::Finding::Agrees => Verdict::Agrees,
                shadow::Finding::Parts => Verdict::Parts,
                shadow::Finding::Enough => Verdict::Undecided,
            },
        })
    }

    /// The arm that does harm, and why one can say so.
    fn harm(&self) -> Option<(usize, String)> {
        let harm = &self.plan.harm;
        self.plan.arms().iter().find_map(|arm| {
            let tally = self.it.tally.get(arm.at)?;
            let answered = tally.succeeded + tally.failed;
            let of = match self.plan.two() {
                Some(_) => format!(" of arm {}", arm_name(arm.at)),
                None => String::new(),
            };
            let why =
                |beyond: &str| (arm.at, format!("{} of {answered} nodes{of} failed: {beyond}", tally.failed));
            if tally.failed > harm.max_failed {
                return Some(why(&format!("at most {} may", harm.max_failed)));
            }
            let (p0, alpha) = (f64::from(harm.p0_ppm) / 1e6, f64::from(harm.alpha_ppm) / 1e6);
            let is_worse = alpha > 0.0 && share(tally.failed, answered, p0) >= -alpha.ln();
            is_worse.then(|| why(&format!("more than {} % do", p0 * 100.0)))
        })
    }

    fn look_at_split(&mut self) {
        let of = |counts| mismatch(&self.plan.arms(), counts);
        let members = of([self.it.tally[0].members(), self.it.tally[1].members()]);
        let figures = of([self.it.figures.a.n, self.it.figures.b.n]);
        let split = Split { members, figures };
        let was_suspicious = self.it.split.is_some_and(|split| split.is_suspicious());
        self.it.split = (members.is_some() || figures.is_some()).then_some(split);
        if split.is_suspicious() && !was_suspicious {
            let why =
                "the arms are not as large as the lot makes them: something else chose, and figures mislead";
            self.audit("experiment.split", "", why);
        }
    }

    fn point(&mut self) {
        let (nodes, means) = (self.nodes(), self.means());
        let interval = self.it.interval(self.plan);
        self.it.curve.push(Point { at_ms: self.now_ms, nodes, means, interval });
        if self.it.curve.len() > CURVE_MAX {
            let mut at = 0;
            let last = self.it.curve.len() - 1;
            self.it.curve.retain(|_| {
                at += 1;
                at % 2 == 1 || at > last
            });
        }
    }

    /// How many figures each arm has; or how many answers were compared, and parted.
    fn nodes(&self) -> [u32; 2] {
        let Pair { a, b } = self.it.figures;
        let all = &self.it.shadow.all;
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        match self.plan.two() {
            Some(_) => [a.n, b.n],
            None => [count(all.compared), count(all.parted())],
        }
    }

    fn means(&self) -> [f64; 2] {
        let Pair { a, b } = self.it.figures;
        match self.plan.two() {
            Some(_) => [a.mean, b.mean],
            None => [self.it.shadow.all.share().unwrap_or(0.0), 0.0],
        }
    }

    fn conclude(&mut self, verdict: Verdict, why: &str) {
        let interval = self.it.interval(self.plan);
        self.it.ended_ms = Some(self.now_ms);
        self.it.outcome = Some(Outcome { verdict, at_ms: self.now_ms, interval, why: why.to_owned() });
    }

    fn end(&mut self, verdict: Verdict, act: &'static str, who: &str, why: &str) {
        self.conclude(verdict, why);
        if self.plan.stays() && !matches!(verdict, Verdict::Harm { .. }) {
            self.turn(Phase::Ended, act, who, why);
        } else {
            self.release(Which::Back);
            self.turn(Phase::Returning, act, who, why);
        }
    }

    fn release(&mut self, which: Which) {
        if self.it.released.insert(which) {
            self.effects.push(Effect::Release(which));
        }
    }

    fn turn(&mut self, phase: Phase, act: &'static str, who: &str, why: &str) {
        let before = std::mem::replace(&mut self.it.phase, phase);
        self.it.why = why.to_owned();
        self.entry(act, who, before, why);
        if phase == Phase::Ended {
            self.effects.push(Effect::Calm);
        }
    }

    fn audit(&mut self, act: &'static str, who: &str, why: &str) {
        self.entry(act, who, self.it.phase, why);
    }

    fn entry(&mut self, act: &'static str, who: &str, before: Phase, why: &str) {
        let nodes = self.nodes();
        self.effects.push(Effect::Audit(Act {
            act,
            who: who.to_owned(),
            before: before.as_str(),
            after: self.it.phase.as_str(),
            why: why.to_owned(),
            nodes,
        }));
    }
}

/// An interval, as people read it: `p95_ms of arm b against arm a: -12.3 % (-14.5 to -10.1)`, or
/// `1.8 % of answers part (0.9 to 3.1)`.
pub fn told(plan: &Plan, found: &Interval) -> String {
    match &plan.what {
        What::Arms(arms) => told_of(&arms.measure, found),
        What::Shadow(_) => {
            let [change, low, high] = [found.change, found.low, found.high].map(|share| share * 100.0);
            format!("{change:.2} % of answers part ({low:.2} to {high:.2})")
        }
    }
}

fn told_of(measure: &Measure, found: &Interval) -> String {
    let Interval { change, low, high } = *found;
    let metric = &measure.metric;
    if measure.is_ratio() {
        let percent = |value: f64| format!("{:+.1}", value.exp_m1() * 100.0);
        let (change, low, high) = (percent(change), percent(low), percent(high));
        format!("{metric} of arm b against arm a: {change} % ({low} to {high})")
    } else {
        format!("{metric} of arm b against arm a: {change:+.4} ({low:+.4} to {high:+.4})")
    }
}

/// What an experiment waits for; empty only at the end.
fn needs(plan: &Plan, it: &Experiment, returning: u32) -> Vec<Need> {
    match it.phase {
        Phase::Draft => {
            let missing = plan.documents().into_iter().filter(|which| !it.signed.contains(which));
            vec![Need::Signature { of: missing.collect() }]
        }
        Phase::Ready => vec![Need::Start],
        Phase::Running => {
            let until = Need::Until { until_ms: it.until_ms(plan) };
            if let Some(shadow) = plan.shadow() {
                let (compared, of) = (it.shadow.all.compared, shadow.bound.answers);
                let (nodes, of_nodes) = (it.shadow.nodes, shadow.bound.nodes);
                return vec![Need::Answers { compared, of, nodes, of_nodes }, until];
            }
            let taken = it.figures.a.n.saturating_add(it.figures.b.n);
            let members = it.tally[0].members().saturating_add(it.tally[1].members());
            vec![Need::Figures { taken, open: members.saturating_sub(taken) }, until]
        }
        Phase::Returning => vec![Need::Returning { nodes: returning }],
        Phase::Ended => Vec::new(),
    }
}
