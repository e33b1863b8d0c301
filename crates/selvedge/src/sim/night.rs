//! One run: an event queue in virtual time, a hub that leads a rollout, and nodes that follow it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use hub::rollout::gate::{Ask, Need, View};
use hub::rollout::member::{Heard, Member, Running, Standing, hear};
use hub::rollout::offer::{Caller, Offer, Why, is_canary, offer, place, ring};
use hub::rollout::plan::Kind;
use hub::rollout::sequential::{Arms, Moments};
use hub::rollout::step::{Act, Effect, Event, Order, Phase, Rollout, Sample, allows, step};
use hub::rollout::{documents, text};
use wire::body::Install;
use wire::select::Selector;
use wire::world::{Entropy as _, Simulated};

use crate::sim::check::{self, Check, Truth};
use crate::sim::fleet::{HOUR_MS, MINUTE_MS, Presence, START_MS, span};
use crate::sim::release::Harm;
use crate::sim::setup::{End, Mutant, Night, Setup};

/// Fleets up to this are checked whole at every tick, and played again at the end.
const SMALL: usize = 500;
const CHECK_IN_MS: f64 = 50_000.0;
const SILENCE_MS: i64 = 3 * MINUTE_MS;
const TICK_MS: i64 = 5 * MINUTE_MS;
const FETCH_MS: f64 = 180_000.0;
/// How much a figure differs from node to node, in logarithms.
const SPREAD: f64 = 0.2;

/// A node that the rollout has met.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) presence: Presence,
    /// The highest version that it accepted, of the canaries' documents or of the plan's.
    pub(crate) accepted: u32,
    pub(crate) runs_new: bool,
    pub(crate) tries: bool,
    pub(crate) refused: bool,
    pub(crate) ever_ran: bool,
    /// Whether the hub has its record that it committed the release.
    pub(crate) told_committed: bool,
    misses: u8,
    /// Install records that the hub has not got yet: the outcome, and whether the kernel was the same.
    outbox: Vec<(&'static str, Option<bool>)>,
    /// Ends what was scheduled for an earlier document.
    generation: u32,
    /// The harm that the release does here; drawn when it comes.
    harm: Option<Harm>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Contact(usize),
    Silence(usize),
    Proved(usize, u32),
    Tried(usize, u32),
    Returned(usize, u32),
    Trouble,
    Tick,
}

/// The run, while it lasts.
pub(crate) struct Run<'a> {
    pub(crate) setup: &'a Setup,
    world: Simulated,
    pub(crate) now_ms: i64,
    queue: BinaryHeap<Reverse<(i64, u64, Happens)>>,
    count: u64,
    pub(crate) rollout: Rollout,
    pub(crate) rows: BTreeMap<usize, Member>,
    pub(crate) nodes: BTreeMap<usize, Node>,
    /// Nodes of the open ring that were not offered yet.
    open: Vec<usize>,
    group: Selector,
    /// Which node is the canary of that name.
    canaries: Vec<usize>,
    figures: Arms,
    check: Check,
    trace: bool,
    night: Night,
    stopped_in: Option<u32>,
}

/// Plays one run. An error is something that must never be, with the seed that plays it again.
pub(crate) fn play(setup: &Setup, seed: u64, trace: bool) -> anyhow::Result<Night> {
    let group = Selector::parse(&setup.plan.group)?;
    let id = text::id(&setup.plan);
    let named =
        |(at, node): (usize, &crate::sim::fleet::Resident)| is_canary(&setup.plan, &node.name).then_some(at);
    let canaries = match setup.plan.canary.is_empty() {
        true => Vec::new(),
        false => setup.fleet.nodes.iter().enumerate().filter_map(named).collect(),
    };
    let mut run = Run {
        setup,
        world: Simulated::new(seed ^ 0x5eed),
        now_ms: START_MS,
        queue: BinaryHeap::new(),
        count: 0,
        rollout: Rollout::new(&setup.plan, id, START_MS),
        rows: BTreeMap::new(),
        nodes: BTreeMap::new(),
        open: Vec::new(),
        group,
        canaries,
        figures: Arms::default(),
        check: Check::default(),
        trace,
        night: Night {
            seed,
            end: End::Late,
            exposed: 0,
            failed: 0,
            took_ms: 0,
            most_a_minute: 0,
            opened: Vec::new(),
            course: Vec::new(),
            lines: Vec::new(),
        },
        stopped_in: None,
    };
    if setup.fleet.nodes.len() <= SMALL {
        run.check = Check::new(Some(&run.rollout));
    }
    run.all().map_err(|error| error.context(format!("seed {seed}")))?;
    Ok(run.night)
}

impl Run<'_> {
    fn all(&mut self) -> anyhow::Result<()> {
        let kinds = documents::of(&self.setup.plan).iter().map(|one| one.kind).collect();
        self.step(Event::Signed(kinds))?;
        for approver in 0..self.setup.plan.approvals {
            self.order(Order::Approve, &format!("approver {approver}"))?;
        }
        self.order(Order::Start, "operator")?;
        self.after(TICK_MS, Happens::Tick);
        if self.setup.plan.waves.iter().any(|wave| wave.gate.alpha_ppm > 0) {
            self.trouble_ahead();
        }
        while let Some(Reverse((at_ms, _, happens))) = self.queue.pop() {
            if at_ms > START_MS + self.setup.most_ms {
                break;
            }
            self.now_ms = at_ms;
            self.take(happens)?;
            if let Some(end) = self.end() {
                self.night.end = end;
                break;
            }
        }
        self.night.exposed = count(self.nodes.values().filter(|node| node.ever_ran).count());
        self.night.failed = self.rollout.members().failed;
        self.night.took_ms = self.now_ms - START_MS;
        self.night.most_a_minute = self.check.most_a_minute;
        self.mark();
        check::tallies(&self.rollout, self.rows.values())?;
        self.nodes.keys().try_for_each(|at| self.is_right(*at))?;
        self.check.again(&self.setup.plan, &self.rollout)
    }

    /// Looks whether anything is wrong with a node.
    fn is_right(&self, at: usize) -> anyhow::Result<()> {
        let (resident, node) = (&self.setup.fleet.nodes[at], &self.nodes[&at]);
        check::node(&Truth {
            plan: &self.setup.plan,
            rollout: &self.rollout,
            place: place(&self.setup.plan, &resident.name),
            in_group: self.group.has(&resident.facts),
            is_canary: is_canary(&self.setup.plan, &resident.name),
            row: self.rows.get(&at),
            ever_ran: node.ever_ran,
            told_committed: node.told_committed,
            runs_new: node.runs_new,
            can_be_reached: node.presence.was_heard(self.now_ms),
        })
    }

    fn take(&mut self, happens: Happens) -> anyhow::Result<()> {
        match happens {
            Happens::Contact(at) => self.contact(at),
            Happens::Silence(at) => self.silence(at),
            Happens::Proved(at, generation) => self.proved(at, generation),
            Happens::Tried(at, generation) => self.tried(at, generation),
            Happens::Returned(at, generation) => {
                if let Some(node) = self.nodes.get_mut(&at).filter(|node| node.generation == generation) {
                    (node.runs_new, node.tries) = (false, false);
                    self.soon(at);
                }
                Ok(())
            }
            Happens::Trouble => self.trouble(),
            Happens::Tick => self.tick(),
        }
    }

    /// Why the run is over, if it is.
    fn end(&mut self) -> Option<End> {
        let asked = self.rollout.needs.iter().find_map(|need| match need {
            Need::Person { ask, .. } => Some(*ask),
            _ => None,
        });
        if self.rollout.stopped.is_some() && self.stopped_in.is_none() {
            self.stopped_in = Some(self.rollout.wave);
        }
        match (&self.rollout.phase, asked) {
            (Phase::Done, _) => Some(End::Done),
            (Phase::Aborted, _) => Some(End::Aborted),
            (Phase::Reverted, _) => Some(self.stopped_in.map_or(End::Aborted, |wave| End::Stopped { wave })),
            // Power asks only how far it got, not how it goes back.
            (Phase::Reverting, _) if self.setup.until_wave.is_some() => {
                self.stopped_in.map(|wave| End::Stopped { wave })
            }
            (_, Some(Ask::Stopped)) => Some(End::Stopped { wave: self.rollout.wave }),
            (_, Some(ask)) if !matches!(ask, Ask::Start | Ask::Next) && !self.setup.faults.unrest => {
                Some(End::Asked { about: format!("{ask:?}").to_lowercase() })
            }
            _ if self.setup.until_wave.is_some_and(|wave| self.rollout.wave > wave) => Some(End::Done),
            _ => None,
        }
    }

    fn after(&mut self, ms: i64, happens: Happens) {
        self.count += 1;
        self.queue.push(Reverse((self.now_ms.saturating_add(ms), self.count, happens)));
    }

    /// At its next check-in.
    fn soon(&mut self, at: usize) {
        let ms = (self.world.unit() * CHECK_IN_MS) as i64;
        self.after(ms, Happens::Contact(at));
    }

    fn node(&mut self, at: usize) -> &mut Node {
        let (world, now_ms, habit) = (&mut self.world, self.now_ms, self.setup.fleet.nodes[at].habit);
        let node = self.nodes.entry(at).or_insert_with(|| Node {
            presence: Presence::new(habit, world),
            accepted: 0,
            runs_new: false,
            tries: false,
            refused: false,
            ever_ran: false,
            told_committed: false,
            misses: 0,
            outbox: Vec::new(),
            generation: 0,
            harm: None,
        });
        node.presence.pass(habit, now_ms, world);
        node
    }

    /// Takes one step of the rollout, stores what comes of it, and looks whether anything is wrong.
    fn step(&mut self, event: Event) -> anyhow::Result<()> {
        let before = self.check.before(&self.rollout, &event, self.now_ms);
        let rollout = self.rollout.clone();
        let (rollout, effects) = step(&self.setup.plan, rollout, event, self.now_ms);
        self.rollout = rollout;
        let acts: Vec<&Act> = effects.iter().filter_map(Effect::act).collect();
        before.stepped(&self.setup.plan, &self.rollout, &acts)?;
        for effect in effects {
            match effect {
                Effect::Release(kind) => self.released(kind),
                Effect::Audit(act) => {
                    let line = || {
                        format!("{} wave {}: {} → {} {}", act.act, act.wave, act.before, act.after, act.why)
                    };
                    self.say(line);
                    self.mark();
                }
                Effect::Alert(alarm, why) => self.say(|| format!("alert {alarm:?}: {why}")),
                Effect::Calm => {}
            }
        }
        Ok(())
    }

    fn order(&mut self, order: Order, who: &str) -> anyhow::Result<()> {
        if allows(&self.setup.plan, &self.rollout, order, who, self.now_ms).is_ok() {
            self.step(Event::Ordered { order, who: who.to_owned(), why: "as played".to_owned() })?;
        }
        Ok(())
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if self.trace {
            let seconds = (self.now_ms - START_MS) / 1000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            self.night.lines.push(format!("{hours:4}:{minutes:02}:{:02}  {}", seconds % 60, line()));
        }
    }

    /// Notes how many members stand where, for the picture.
    fn mark(&mut self) {
        let all = self.rollout.members();
        let counts = [all.members(), all.succeeded, all.failed];
        // A line needs no point between two that are alike.
        if let [.., (_, before), (at_ms, last)] = self.night.course.as_mut_slice()
            && *before == counts
            && *last == counts
        {
            *at_ms = self.now_ms - START_MS;
            return;
        }
        self.night.course.push((self.now_ms - START_MS, counts));
    }

    /// A document may be handed out: nodes that could get it come by.
    fn released(&mut self, kind: Kind) {
        let plan = &self.setup.plan;
        match kind {
            Kind::Canary => {
                self.open.extend(self.canaries.clone());
                self.night.opened.push((0, self.now_ms - START_MS));
            }
            Kind::Wave(wave) => {
                let (from, to) = (if wave > 1 { plan.ring_to(wave - 1) } else { 0 }, plan.ring_to(wave));
                if wave == 1 {
                    self.open.clear();
                }
                let from = self.setup.lots.partition_point(|(place, _)| *place < from);
                let to = self.setup.lots.partition_point(|(place, _)| *place < to);
                let ring = self.setup.lots[from..to].iter().map(|(_, at)| *at);
                let ring: Vec<usize> = ring.filter(|at| !self.rows.contains_key(at)).collect();
                self.open.extend(ring);
                self.night.opened.push((wave, self.now_ms - START_MS));
                self.figures = Arms::default();
                let held_out =
                    self.setup.lots.len().saturating_sub(self.rows.len() + self.open.len()).min(300);
                for _ in 0..held_out {
                    let value = self.normal() * SPREAD;
                    self.figures.held_out.add(value);
                }
            }
            Kind::Revert(_) | Kind::CanaryRevert => {
                let rows: Vec<usize> = self.rows.keys().copied().collect();
                rows.into_iter().for_each(|at| self.soon(at));
                return;
            }
            Kind::Standing => return,
        }
        for at in self.open.clone() {
            self.soon(at);
        }
    }

    /// The sum of twelve draws: near enough to a normal value.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.world.unit()).sum::<f64>() - 6.0
    }

    /// A node's check-in, if it can be reached, and the hub's answer, if both arrive.
    fn contact(&mut self, at: usize) -> anyhow::Result<()> {
        let now_ms = self.now_ms;
        let presence = self.node(at).presence;
        if !presence.is_here {
            if self.rows.get(&at).is_some_and(|row| row.standing.is_pending()) {
                let ms = (presence.since_ms + SILENCE_MS - now_ms).max(0);
                self.after(ms, Happens::Silence(at));
            }
            if presence.until_ms < i64::MAX {
                self.after(presence.until_ms - now_ms + 1000, Happens::Contact(at));
            }
            return Ok(());
        }
        if self.world.unit() < self.setup.faults.loss {
            self.after(MINUTE_MS, Happens::Contact(at));
            return Ok(());
        }
        self.told(at)?;
        self.answered(at)
    }

    /// What a check-in and the records beside it do to the member's row.
    fn told(&mut self, at: usize) -> anyhow::Result<()> {
        let setup = self.setup;
        let Some(target) = setup.plan.what.first() else { return Ok(()) };
        let reverting = matches!(self.rollout.phase, Phase::Reverting | Phase::Reverted);
        let node = self.node(at);
        let accepted = node.accepted;
        let old = target.release - 1;
        let slots = [Running {
            model: target.model.as_str(),
            current: Some(if node.runs_new { target.release } else { old }),
            candidate: node.tries.then_some(target.release),
        }];
        let outbox = std::mem::take(&mut node.outbox);
        node.told_committed |= outbox.iter().any(|(outcome, _)| *outcome == "committed");
        for (outcome, kernel_same) in outbox {
            let install = Install {
                model: target.model.to_string(),
                release: target.release,
                index: target.index,
                outcome: outcome.to_owned(),
                ..blank()
            };
            self.hear(at, &Heard::Installed { install: &install, kernel_same })?;
        }
        self.hear(at, &Heard::CheckIn { accepted, slots: &slots, reverting })
    }

    fn hear(&mut self, at: usize, heard: &Heard<'_>) -> anyhow::Result<()> {
        let before = self.rows.remove(&at);
        let Some((row, happened)) = hear(&self.setup.plan, before, heard, self.now_ms) else { return Ok(()) };
        self.rows.insert(at, row);
        if let Some(happened) = happened {
            self.say(|| format!("node {at}: {} → {}", happened.from, happened.to));
            self.step(Event::Happened(at as i64, happened))?;
        }
        self.is_right(at)
    }

    /// What the hub answers, and what the node makes of it.
    fn answered(&mut self, at: usize) -> anyhow::Result<()> {
        let setup = self.setup;
        let Some(target) = setup.plan.what.first() else { return Ok(()) };
        let unavailable = self.unavailable(at);
        let resident = &setup.fleet.nodes[at];
        let wide = setup.mutant == Some(Mutant::WideOpen);
        let node = &self.nodes[&at];
        let slots = [Running {
            model: target.model.as_str(),
            current: Some(if node.runs_new { target.release } else { target.release - 1 }),
            candidate: None,
        }];
        let caller = Caller {
            name: &resident.name,
            place: place(&setup.plan, &resident.name),
            in_group: wide || self.group.has(&resident.facts),
            understands: true,
            member: self.rows.get(&at),
            accepted: node.accepted,
            slots: &slots,
            conflict: None,
            other: None,
            refused: node.refused && !self.rows.contains_key(&at),
            box_until_ms: 0,
            unavailable: &unavailable,
            bytes: target.size,
        };
        match offer(&setup.plan, &self.rollout, &caller, self.now_ms) {
            Offer::Hand { kind, wave, first } => {
                self.open.retain(|other| *other != at);
                let dies = setup.mutant == Some(Mutant::OfferBeforeRow) && self.world.unit() < 0.1;
                if first && !dies {
                    self.check.offered(&setup.plan, self.now_ms)?;
                    self.hear(at, &Heard::Offered { wave, version: kind.version() })?;
                }
                let lost = self.world.unit() < setup.faults.loss;
                if !lost {
                    self.accept(at, kind);
                    self.is_right(at)?;
                }
                if lost || !self.nodes[&at].refused {
                    self.after(CHECK_IN_MS as i64, Happens::Contact(at));
                }
            }
            Offer::No(Why::Rate | Why::Budget { .. }) => {
                let ms = CHECK_IN_MS * (0.9 + 0.2 * self.world.unit());
                self.after(ms as i64, Happens::Contact(at));
            }
            Offer::No(_) => {}
        }
        Ok(())
    }

    /// For each budget: how many of the node's site are in change or silent. Every label is the site here.
    fn unavailable(&mut self, at: usize) -> Vec<u32> {
        if self.setup.plan.budget.is_empty() {
            return Vec::new();
        }
        let site = self.setup.fleet.nodes[at].site;
        let all = self.setup.fleet.nodes.iter().enumerate().filter(|(_, node)| node.site == site);
        let all: Vec<usize> = all.map(|(other, _)| other).filter(|other| *other != at).collect();
        let mut away = 0;
        for other in all {
            let in_change = self.rows.get(&other).is_some_and(|row| row.standing.is_pending());
            let presence = self.node(other).presence;
            let silent = !presence.is_here && self.now_ms - presence.since_ms >= SILENCE_MS;
            away += u32::from(in_change || silent);
        }
        vec![away; self.setup.plan.budget.len()]
    }

    /// A node judges a document by itself: version, ring, expression, what it accepted before.
    fn accept(&mut self, at: usize, kind: Kind) {
        let setup = self.setup;
        let resident = &setup.fleet.nodes[at];
        let in_ring = |wave| ring(&setup.plan, wave).has(&resident.name);
        let in_group = self.group.has(&resident.facts);
        let accepted = self.nodes[&at].accepted;
        let is_meant = setup.mutant == Some(Mutant::WideOpen)
            || match kind {
                Kind::Canary => is_canary(&setup.plan, &resident.name),
                Kind::CanaryRevert => is_canary(&setup.plan, &resident.name) && accepted > 0,
                Kind::Wave(wave) => in_ring(wave) && in_group,
                Kind::Revert(wave) => in_ring(wave) && accepted > 0,
                Kind::Standing => in_group,
            };
        let lower = setup.mutant == Some(Mutant::LowerWayBack) && kind.is_revert();
        let version = if lower { 1 } else { kind.version() };
        if !is_meant || version <= accepted {
            return;
        }
        let lots: Vec<f64> = setup.flaws.iter().map(|_| self.world.unit()).collect();
        let harm = setup.flaws.iter().zip(lots).find(|(flaw, lot)| flaw.meets(&resident.facts, *lot));
        let harm = harm.map(|(flaw, _)| flaw.harm);
        let node = self.node(at);
        node.accepted = version;
        node.generation += 1;
        let (generation, serves) = (node.generation, node.runs_new || node.tries);
        if kind.is_revert() {
            if serves {
                self.after(MINUTE_MS, Happens::Returned(at, generation));
            }
        } else if !node.refused && !node.runs_new {
            node.harm = harm;
            let ms = span(FETCH_MS, &mut self.world);
            self.after(ms, Happens::Proved(at, generation));
        }
        self.watch(at);
    }

    /// Looks again when the node will have been away for long.
    fn watch(&mut self, at: usize) {
        let presence = self.nodes[&at].presence;
        if presence.is_here && presence.until_ms < self.now_ms + 48 * HOUR_MS {
            self.after(presence.until_ms - self.now_ms + SILENCE_MS, Happens::Silence(at));
        }
    }

    fn silence(&mut self, at: usize) -> anyhow::Result<()> {
        let now_ms = self.now_ms;
        let presence = self.node(at).presence;
        let silent = !presence.is_here && now_ms - presence.since_ms >= SILENCE_MS;
        if !silent {
            return Ok(());
        }
        self.hear(at, &Heard::Silent)?;
        if presence.until_ms < i64::MAX {
            self.after(presence.until_ms - now_ms + 1000, Happens::Contact(at));
        }
        Ok(())
    }

    /// The golden set was answered: the candidate serves, or is refused.
    fn proved(&mut self, at: usize, generation: u32) -> anyhow::Result<()> {
        let trial_ms = self.setup.trial_ms;
        let now_ms = self.now_ms;
        let node = self.node(at);
        if node.generation != generation {
            return Ok(());
        }
        match node.harm {
            Some(Harm::Golden) => {
                node.refused = true;
                node.outbox.push(("refused", Some(true)));
                self.soon(at);
            }
            harm => {
                (node.tries, node.ever_ran) = (true, true);
                if harm == Some(Harm::Silent) {
                    node.presence = Presence { is_here: false, since_ms: now_ms, until_ms: i64::MAX };
                    self.after(SILENCE_MS, Happens::Silence(at));
                    self.step(Event::Behaved(self.happened_to_treated()))?;
                } else {
                    self.soon(at);
                }
                self.after(trial_ms, Happens::Tried(at, generation));
            }
        }
        self.is_right(at)
    }

    /// The trial is over.
    fn tried(&mut self, at: usize, generation: u32) -> anyhow::Result<()> {
        let faults = self.setup.faults;
        let risk = 1.0 - (-faults.power_cuts * self.setup.trial_ms as f64 / (24.0 * HOUR_MS as f64)).exp();
        let (cut, by_itself) = (self.world.unit() < risk, self.world.unit() < faults.by_itself);
        let noise = self.normal() * SPREAD;
        let trial_ms = self.setup.trial_ms;
        let node = self.node(at);
        if node.generation != generation {
            return Ok(());
        }
        let harm = node.harm;
        let reboots = harm == Some(Harm::Reboot) || cut;
        if reboots && node.misses == 0 {
            node.misses = 1;
            node.outbox.push(("missed", Some(false)));
            self.after(trial_ms, Happens::Tried(at, generation));
        } else if reboots || by_itself || harm == Some(Harm::Crash) {
            (node.tries, node.refused) = (false, true);
            node.outbox.push(("refused", Some(!reboots)));
        } else {
            (node.tries, node.runs_new) = (false, true);
            node.outbox.push(("committed", None));
            let shift = if let Some(Harm::Slow(times)) = harm { times.ln() } else { 0.0 };
            self.figures.treated.add(shift + noise);
        }
        if reboots || harm == Some(Harm::Crash) {
            self.step(Event::Behaved(self.happened_to_treated()))?;
        }
        self.soon(at);
        self.is_right(at)
    }

    fn happened_to_treated(&self) -> Sample {
        let treated = self.rows.len();
        let held_out = self.setup.lots.len().saturating_sub(treated);
        Sample::Trouble { treated: true, of_treated: count(treated), of_held_out: count(held_out) }
    }

    /// When something happens next to any node of the group, whatever the release.
    fn trouble_ahead(&mut self) {
        let a_day = self.setup.faults.power_cuts * self.setup.lots.len() as f64;
        if a_day > 0.0 {
            let ms = span(24.0 * HOUR_MS as f64 / a_day, &mut self.world);
            self.after(ms, Happens::Trouble);
        }
    }

    fn trouble(&mut self) -> anyhow::Result<()> {
        self.trouble_ahead();
        let (treated, all) = (self.rows.len(), self.setup.lots.len());
        let is_treated = self.world.unit() * (all as f64) < treated as f64;
        let (of_treated, of_held_out) = (count(treated), count(all.saturating_sub(treated)));
        let is_open = self.rollout.phase.is_open();
        if is_open && self.setup.plan.gate(self.rollout.wave).alpha_ppm > 0 {
            self.step(Event::Behaved(Sample::Trouble { treated: is_treated, of_treated, of_held_out }))?;
        }
        Ok(())
    }

    /// Some time passed: the hub looks at the fleet, and people do what they do.
    fn tick(&mut self) -> anyhow::Result<()> {
        let plan = &self.setup.plan;
        if self.rollout.phase.is_open() && !plan.gate(self.rollout.wave).compare.is_empty() {
            let figures: BTreeMap<String, Arms> = [("p95_ms".to_owned(), self.figures)].into();
            if self.rollout.tests.figures != figures && self.figures.treated != Moments::default() {
                self.step(Event::Behaved(Sample::Figures(figures)))?;
            }
        }
        let view = self.view();
        self.step(Event::Tick(view))?;
        self.mark();
        let next = self.rollout.needs.iter().any(|need| matches!(need, Need::Person { ask: Ask::Next, .. }));
        if next {
            self.order(Order::Resume, "operator")?;
        }
        if self.setup.faults.unrest {
            self.unrest()?;
        }
        if self.setup.fleet.nodes.len() <= SMALL {
            check::tallies(&self.rollout, self.rows.values())?;
        }
        let exact = self.rollout.needs.iter().find_map(|need| match need {
            Need::Time { until_ms } if *until_ms > self.now_ms => Some(until_ms - self.now_ms),
            _ => None,
        });
        self.after(exact.unwrap_or(TICK_MS).min(TICK_MS), Happens::Tick);
        Ok(())
    }

    /// The hub restarts from what it stored; people give orders as they come to mind.
    fn unrest(&mut self) -> anyhow::Result<()> {
        if self.world.unit() < 0.05 {
            self.rollout = serde_json::from_str(&serde_json::to_string(&self.rollout)?)?;
        }
        let lot = self.world.unit();
        let order = match lot {
            _ if lot < 0.002 => Order::Pause,
            _ if lot < 0.003 => Order::Revert,
            _ if lot < 0.004 => Order::SkipUnknown,
            _ if lot < 0.005 => Order::Abort,
            _ if lot < 0.1 && matches!(self.rollout.phase, Phase::Paused { .. }) => Order::Resume,
            _ => return Ok(()),
        };
        self.order(order, "operator")
    }

    /// The fleet around the rollout.
    pub(crate) fn view(&mut self) -> View {
        let now_ms = self.now_ms;
        let (mut waiting, mut asleep, mut returning) = (0, 0, 0);
        for at in self.open.clone() {
            let heard = self.node(at).presence.was_heard(now_ms);
            (waiting, asleep) = (waiting + u32::from(heard), asleep + u32::from(!heard));
        }
        if self.rollout.phase == Phase::Reverting {
            let out: Vec<usize> =
                self.rows.iter().filter(|(_, row)| row.standing.is_out()).map(|(at, _)| *at).collect();
            for at in out {
                returning += u32::from(self.node(at).presence.was_heard(now_ms));
            }
        }
        if self.setup.mutant == Some(Mutant::SilentIsGood) {
            let silent = self.rows.values_mut().filter(|row| row.standing == Standing::Unknown);
            let silent: Vec<u32> = silent
                .map(|row| {
                    row.standing = Standing::Succeeded;
                    row.wave
                })
                .collect();
            for wave in silent {
                if let Some(tally) = self.rollout.tally.get_mut(wave as usize) {
                    tally.moved(Standing::Unknown, Standing::Succeeded);
                }
            }
        }
        let held_out = count(self.setup.lots.len().saturating_sub(self.rows.len()));
        View { wave: self.rollout.wave, waiting, asleep, had_it: 0, held_out, returning }
    }
}

/// An install record that says nothing; whatever fields it has by now.
fn blank() -> Install {
    let text =
        format!(r#"{{"id":"","model":"","release":0,"index":"{}","outcome":""}}"#, wire::hash::Hash::GENESIS);
    serde_json::from_str(&text).expect("an install record")
}

fn count(nodes: usize) -> u32 {
    u32::try_from(nodes).unwrap_or(u32::MAX)
}
