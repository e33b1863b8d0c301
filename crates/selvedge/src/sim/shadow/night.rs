//! One run: an event queue in virtual time, a hub that watches, and nodes that let a release answer beside what runs.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use anyhow::Context as _;
use hub::experiment::documents;
use hub::experiment::engine::{Active, Experiments};
use hub::experiment::plan::Which;
use hub::experiment::shadow::Count;
use hub::experiment::step::{Effect as Done, Experiment, Order, Phase, Verdict};
use hub::experiment::text;
use hub::rollout::engine::Engine;
use hub::rollout::figures::Hour;
use hub::rollout::plan::PlanId;
use node::install::event::{Effect, Event, Proof, Stood};
use node::install::shadow::every;
use node::install::state::{Measured, Phase as Stage};
use node::install::trial::Answer;
use package::name::ModelName;
use package::trust::assignment::Assignment;
use package::trust::canonical::{Value, parse, to_json};
use wire::id::BootId;
use wire::world::{Entropy as _, Simulated};

use crate::sim::fleet::{HOUR_MS, MINUTE_MS, Presence, START_MS, span};
use crate::sim::release::Harm;
use crate::sim::shadow::check;
use crate::sim::shadow::machine::{Machine, Told, slot};
use crate::sim::shadow::setup::{CANDIDATE, Night, Setup};

/// How often a node comes, and tells.
const COMES_MS: i64 = 10 * MINUTE_MS;
const SILENCE_MS: i64 = 3 * MINUTE_MS;
const TICK_MS: i64 = 5 * MINUTE_MS;
const FETCH_MS: f64 = 180_000.0;
/// Who is here for so long has heard that it is over.
const HEARD_MS: i64 = 2 * HOUR_MS;
/// How much nodes differ in how often they are asked, and answers in what they take; in logarithms.
const SPREAD_OF_ASKED: f64 = 0.5;
const SPREAD_OF_TOOK: f64 = 0.3;

/// A piece of work of a node's slots that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Did {
    Chosen,
    Arrived,
    Verified,
    Proved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Contact(usize),
    Silence(usize),
    Did(usize, u32, Did),
    Wake(usize, u32),
    Asked(usize, u32),
    Answered(usize, u32),
    Cut(usize),
    Tick,
}

struct Run<'a> {
    setup: &'a Setup,
    model: ModelName,
    id: PlanId,
    world: Simulated,
    now_ms: i64,
    queue: BinaryHeap<Reverse<(i64, u64, Happens)>>,
    count: u64,
    fleet: Engine,
    all: Experiments,
    signed: Vec<(Which, Vec<u8>)>,
    machines: Vec<Machine>,
    meant: BTreeSet<usize>,
    /// What arrived while the hub listened, and the chances of it.
    heard: Count,
    heard_chances: f64,
    trace: bool,
    night: Night,
}

/// Plays one run. An error is something that must never be, with the seed that plays it again.
pub(crate) fn play(setup: &Setup, seed: u64, trace: bool) -> anyhow::Result<Night> {
    let mut run = Run::new(setup, seed, trace)?;
    run.whole().map_err(|error| error.context(format!("seed {seed}")))?;
    Ok(run.night)
}

impl<'a> Run<'a> {
    fn new(setup: &'a Setup, seed: u64, trace: bool) -> anyhow::Result<Run<'a>> {
        let plan = &setup.plan;
        let id = text::id(plan);
        let (mut fleet, mut all) = (Engine::new("hub".to_owned(), 0), Experiments::default());
        let active = Active::new(
            plan.clone(),
            Experiment::new(plan, id, START_MS),
            Default::default(),
            Default::default(),
            [],
        )?;
        all.insert(active, &mut fleet);
        let sign = |one: documents::Planned| {
            let signatures = ("signatures", Value::List(Vec::new()));
            (one.kind, to_json(&Value::object([("signed", one.value), signatures])))
        };
        let signed: Vec<(Which, Vec<u8>)> = documents::of(plan).into_iter().map(sign).collect();
        let mut world = Simulated::new(seed ^ 0x5bad);
        let mut machines = Vec::new();
        for resident in &setup.fleet.nodes {
            let cap = match setup.owners {
                owners if world.unit() < owners.forbid => None,
                owners => Some(match owners.cap {
                    Some((share, cap)) if world.unit() < share => cap,
                    _ => Default::default(),
                }),
            };
            let presence = Presence::new(resident.habit, &mut world);
            let boot = BootId::random(&mut world);
            let mut machine = Machine::new(&resident.name, resident.facts.clone(), cap, presence, boot);
            machine.chance = setup.answers.chance(world.unit());
            let differs = normal(&mut world) * SPREAD_OF_ASKED - SPREAD_OF_ASKED.powi(2) / 2.0;
            machine.asked_an_hour = setup.answers.asked_an_hour * differs.exp();
            machines.push(machine);
        }
        let (mut asked, mut parts) = (0.0, 0.0);
        for at in setup.meant.iter().filter(|at| machines[**at].is_allowed()) {
            asked += machines[*at].asked_an_hour;
            parts += machines[*at].asked_an_hour * machines[*at].chance;
        }
        let night = Night {
            seed,
            verdict: None,
            why: String::new(),
            right: None,
            right_of_fleet: None,
            truth: None,
            truth_of_fleet: if asked > 0.0 { parts / asked } else { 0.0 },
            took_ms: 0,
            nodes: 0,
            compared: 0,
            skipped: 0,
            disagreements: 0,
            core_s: 0.0,
            busiest: 0.0,
            joules: None,
            fetched: 0,
            failed: 0,
            lines: Vec::new(),
        };
        Ok(Run {
            setup,
            model: plan.model().clone(),
            id,
            world,
            now_ms: START_MS,
            queue: BinaryHeap::new(),
            count: 0,
            fleet,
            all,
            signed,
            machines,
            meant: setup.meant.iter().copied().collect(),
            heard: Count::default(),
            heard_chances: 0.0,
            trace,
            night,
        })
    }

    fn it(&self) -> anyhow::Result<&Experiment> {
        Ok(&self.all.get(self.id).context("the experiment is gone")?.it)
    }

    fn whole(&mut self) -> anyhow::Result<()> {
        let (id, now_ms, signed) = (self.id, self.now_ms, self.signed.clone());
        self.all.signed(&mut self.fleet, id, &signed, now_ms);
        self.all.order(&mut self.fleet, id, Order::Start, "operator", "as played", now_ms)?;
        self.settle()?;
        self.after(TICK_MS, Happens::Tick);
        for at in 0..self.machines.len() {
            self.hear(at, Event::Started)?;
            let ms = (self.world.unit() * COMES_MS as f64) as i64;
            self.after(ms, Happens::Contact(at));
            if self.setup.faults.power_cuts > 0.0 && self.meant.contains(&at) {
                self.cut_ahead(at);
            }
        }
        while let Some(Reverse((at_ms, _, happens))) = self.queue.pop() {
            if at_ms > START_MS + self.setup.most_ms {
                break;
            }
            self.now_ms = at_ms;
            self.take(happens)?;
            if self.it()?.phase == Phase::Ended {
                break;
            }
        }
        self.look_back()
    }

    fn take(&mut self, happens: Happens) -> anyhow::Result<()> {
        match happens {
            Happens::Contact(at) => self.contact(at),
            Happens::Silence(at) => self.silence(at),
            Happens::Did(at, life, did) if self.machines[at].life == life => self.did(at, did),
            Happens::Wake(at, life) if self.machines[at].life == life => self.hear(at, Event::Tick),
            Happens::Asked(at, number) => {
                self.asked(at, number);
                Ok(())
            }
            Happens::Answered(at, number) => self.answered(at, number),
            Happens::Cut(at) => {
                self.cut_ahead(at);
                self.cut(at)
            }
            Happens::Tick => self.tick(),
            Happens::Did(..) | Happens::Wake(..) => Ok(()),
        }
    }

    fn after(&mut self, ms: i64, happens: Happens) {
        self.count += 1;
        self.queue.push(Reverse((self.now_ms.saturating_add(ms), self.count, happens)));
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if self.trace {
            let seconds = (self.now_ms - START_MS) / 1000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            self.night.lines.push(format!("{hours:4}:{minutes:02}:{:02}  {}", seconds % 60, line()));
        }
    }

    /// What the hub did is stored; looks whether anything is wrong.
    fn settle(&mut self) -> anyhow::Result<()> {
        drop(self.fleet.take_changes());
        for (_, effect) in self.all.take_changes().effects {
            match effect {
                Done::Audit(act) => {
                    self.say(|| format!("{}: {} → {} {}", act.act, act.before, act.after, act.why));
                }
                Done::Alert(why) => self.say(|| format!("alert: {why}")),
                Done::Release(_) | Done::Calm => {}
            }
        }
        check::hub(&self.setup.plan, self.it()?, &self.heard)
    }

    /// One event for a node's slots, and all that follows at once.
    fn hear(&mut self, at: usize, event: Event) -> anyhow::Result<()> {
        let now_ms = self.now_ms;
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let effects = self.machines[at].hear(event, now_ms);
            check::slots(&self.machines[at].slots)?;
            for effect in effects {
                match effect {
                    Effect::Choose(_) => self.work(at, 1000, Did::Chosen),
                    Effect::Transfer(_) => {
                        self.night.fetched += 1;
                        let ms = span(FETCH_MS, &mut self.world);
                        self.work(at, ms, Did::Arrived);
                    }
                    Effect::Verify(_) => self.work(at, 10_000, Did::Verified),
                    Effect::Prove(..) => self.work(at, MINUTE_MS, Did::Proved),
                    Effect::Shadow(_, limits) => {
                        let limits =
                            limits.context("1: a comparison before a trial, which nobody asked for")?;
                        let is_meant = self.meant.contains(&at);
                        check::begins(&self.setup.plan, &self.machines[at], is_meant, &limits)?;
                        let number = self.machines[at].compare(limits, now_ms);
                        self.ask_ahead(at, number);
                    }
                    Effect::Serve(slot) => {
                        let answer = Answer { ms: 10, ok: true, golden: false };
                        events.push_back(Event::Loaded(slot.manifest, Ok(())));
                        // Somebody always asks.
                        events.push_back(Event::Answered(slot.manifest, answer));
                    }
                    Effect::Journal(report) => self.machines[at].report(&self.model, &report)?,
                    Effect::Tell(words) => self.say(|| format!("node {at}: {words}")),
                    Effect::Persist
                    | Effect::Unload
                    | Effect::Exercise(_)
                    | Effect::RaiseFloor(_)
                    | Effect::Collect => {}
                    // Nobody here wants spares.
                    Effect::ChooseSpare(_) | Effect::Rest | Effect::Over(..) => {}
                }
            }
        }
        let machine = &self.machines[at];
        if let Some(retry_ns) = machine.slots.run.retry_ns {
            let (wait_ns, life) = (retry_ns.saturating_sub(machine.mono_ns(now_ms)), machine.life);
            self.after((wait_ns / 1_000_000) as i64 + 1, Happens::Wake(at, life));
        }
        Ok(())
    }

    fn work(&mut self, at: usize, ms: i64, did: Did) {
        let life = self.machines[at].life;
        self.after(ms, Happens::Did(at, life, did));
    }

    fn did(&mut self, at: usize, did: Did) -> anyhow::Result<()> {
        let machine = &self.machines[at];
        let kept = &machine.slots.kept;
        if did == Did::Chosen {
            let Some(order) = kept.wanted.clone() else { return Ok(()) };
            let result = Ok(slot(CANDIDATE, order.index, order.rollout));
            return self.hear(at, Event::Chosen { index: order.index, result });
        }
        let Some(manifest) = kept.candidate.as_ref().map(|candidate| candidate.slot.manifest) else {
            return Ok(());
        };
        let event = match did {
            Did::Chosen | Did::Arrived => Event::Arrived(manifest),
            Did::Verified => Event::Verified(manifest, Ok(())),
            Did::Proved if machine.harm == Some(Harm::Golden) => {
                let (why, measured) = ("an answer is wrong".to_owned(), Measured::default());
                Event::Proved(manifest, Proof::Failed { why, measured })
            }
            Did::Proved => Event::Proved(manifest, Proof::Passed(Measured::default())),
        };
        if did == Did::Proved && machine.harm == Some(Harm::Silent) {
            let since_ms = self.now_ms;
            self.machines[at].presence = Presence { is_here: false, since_ms, until_ms: i64::MAX };
            self.after(SILENCE_MS, Happens::Silence(at));
        }
        self.hear(at, event)
    }

    /// When something is chosen to be compared next.
    fn ask_ahead(&mut self, at: usize, number: u32) {
        let machine = &self.machines[at];
        let Some(comparing) = machine.comparing.as_ref() else { return };
        let one_of = f64::from(every(f64::from(comparing.limits.share_ppm) / 1e6));
        let mean_ms = HOUR_MS as f64 / machine.asked_an_hour.max(1e-3) * one_of;
        let ms = (-mean_ms * (1.0 - self.world.unit()).ln()).clamp(1.0, 1e12) as i64;
        self.after(ms, Happens::Asked(at, number));
    }

    fn asked(&mut self, at: usize, number: u32) {
        let is_it = |machine: &Machine| machine.comparing.as_ref().is_some_and(|it| it.number == number);
        if !is_it(&self.machines[at]) {
            return;
        }
        self.ask_ahead(at, number);
        let times = if let Some(Harm::Slow(times)) = self.machines[at].harm { times } else { 1.0 };
        let differs = normal(&mut self.world) * SPREAD_OF_TOOK - SPREAD_OF_TOOK.powi(2) / 2.0;
        let took =
            Duration::from_secs_f64((self.setup.answers.took_s * times * differs.exp()).clamp(0.001, 1e5));
        let used_uj = self.setup.answers.watts.map(|watts| (watts * took.as_secs_f64() * 1e6) as u64);
        let (mutant, now_ms) = (self.setup.mutant, self.now_ms);
        if self.machines[at].asked(&self.model, took, used_uj, mutant, now_ms) {
            self.after(took.as_millis() as i64, Happens::Answered(at, number));
        }
    }

    fn answered(&mut self, at: usize, number: u32) -> anyhow::Result<()> {
        let machine = &self.machines[at];
        if machine.comparing.as_ref().is_none_or(|it| it.number != number) {
            return Ok(());
        }
        match machine.harm {
            Some(Harm::Crash) => {
                let manifest = machine.slots.kept.beside().map(|(it, _)| it.slot.manifest);
                let manifest = manifest.context("1: something is compared, and nothing is beside")?;
                return self.hear(at, Event::Crashed(manifest, "as played".to_owned()));
            }
            Some(Harm::Reboot) => return self.cut(at),
            _ => {}
        }
        let parts = self.world.unit() < machine.chance;
        let enough = self.machines[at].answered(&self.model, parts);
        let now_ns = self.machines[at].mono_ns(self.now_ms);
        if let Some(comparing) = &self.machines[at].comparing {
            check::budget(comparing, now_ns)?;
        }
        match enough {
            Some((manifest, count)) => self.hear(at, Event::Compared(manifest, count)),
            None => Ok(()),
        }
    }

    fn cut_ahead(&mut self, at: usize) {
        let ms = span(24.0 * HOUR_MS as f64 / self.setup.faults.power_cuts, &mut self.world);
        self.after(ms, Happens::Cut(at));
    }

    fn cut(&mut self, at: usize) -> anyhow::Result<()> {
        let boot = BootId::random(&mut self.world);
        self.machines[at].restart(boot, self.now_ms);
        self.hear(at, Event::Started)?;
        let standing = self.machines[at].standing();
        self.hear(at, standing)
    }

    /// Ten minutes of a node are over: it counts, and tells, if it can be reached.
    fn contact(&mut self, at: usize) -> anyhow::Result<()> {
        let now_ms = self.now_ms;
        let habit = self.setup.fleet.nodes[at].habit;
        let machine = &mut self.machines[at];
        machine.presence.pass(habit, now_ms, &mut self.world);
        let presence = machine.presence;
        if let Some(event) = machine.tell(&self.model, now_ms) {
            self.hear(at, event)?;
        }
        let standing = self.machines[at].standing();
        self.hear(at, standing)?;
        let is_lost = self.world.unit() < self.setup.faults.loss;
        if presence.is_here && !is_lost {
            self.exchange(at)?;
        } else if !presence.is_here {
            self.after(SILENCE_MS, Happens::Silence(at));
        }
        let machine = &self.machines[at];
        let is_dead = !presence.is_here && presence.until_ms == i64::MAX;
        let may_come = self.meant.contains(&at) && machine.is_allowed() && !is_dead;
        if machine.accepted > 0 || may_come {
            let ms =
                if is_lost { MINUTE_MS as f64 } else { COMES_MS as f64 * (0.95 + 0.1 * self.world.unit()) };
            self.after(ms as i64, Happens::Contact(at));
        }
        Ok(())
    }

    /// What was journalled goes up, the node checks in, and takes what it gets.
    fn exchange(&mut self, at: usize) -> anyhow::Result<()> {
        let (now_ms, node, id) = (self.now_ms, at as i64 + 1, self.id.to_string());
        for told in std::mem::take(&mut self.machines[at].outbox) {
            match told {
                Told::Installed(install, report) => {
                    self.all.installed(&mut self.fleet, node, &install, 1, now_ms);
                    self.hear(at, Event::Journalled(report))?;
                }
                Told::Behaved(behaviour, chances) => {
                    let ours =
                        behaviour.shadow.as_ref().filter(|it| it.experiment.as_deref() == Some(id.as_str()));
                    if let Some(shadow) =
                        ours.filter(|_| self.it().is_ok_and(|it| it.phase == Phase::Running))
                    {
                        self.heard.add(
                            &Count::of(shadow, u64::MAX)
                                .context("4: it agrees more often than it compares")?,
                        );
                        self.heard_chances += chances;
                    }
                    self.all.behaved(&mut self.fleet, node, &behaviour, &Hour::of(&behaviour), now_ms);
                }
            }
            self.settle()?;
        }
        let machine = &mut self.machines[at];
        let facts = machine.facts_text.clone();
        let checkin = machine.check_in(&self.model, &id);
        let mut handed = self.fleet.call(node, checkin, Some(&facts), now_ms);
        self.all.call(&mut self.fleet, node, checkin, &mut handed, now_ms);
        self.settle()?;
        if self.world.unit() < self.setup.faults.loss {
            return Ok(());
        }
        for document in handed.desired.into_iter().flat_map(|desired| desired.documents) {
            let envelope = parse(document.bytes())?;
            let signed = envelope.get("signed").context("a document that nobody signed")?;
            let assignment = Assignment::read(signed)?;
            if !self.machines[at].accept(&assignment, self.setup.mutant) {
                continue;
            }
            if self.machines[at].accepted == 1 {
                let facts = self.machines[at].facts.clone();
                let lots: Vec<f64> = self.setup.flaws.iter().map(|_| self.world.unit()).collect();
                let flaw = self.setup.flaws.iter().zip(lots).find(|(flaw, lot)| flaw.meets(&facts, *lot));
                self.machines[at].harm = flaw.map(|(flaw, _)| flaw.harm);
            }
            let standing = self.machines[at].standing();
            self.hear(at, standing)?;
        }
        Ok(())
    }

    fn silence(&mut self, at: usize) -> anyhow::Result<()> {
        let (now_ms, habit) = (self.now_ms, self.setup.fleet.nodes[at].habit);
        let machine = &mut self.machines[at];
        machine.presence.pass(habit, now_ms, &mut self.world);
        let presence = machine.presence;
        if !presence.is_here && now_ms - presence.since_ms >= SILENCE_MS {
            self.all.silent(&mut self.fleet, at as i64 + 1, now_ms);
            self.settle()?;
        }
        Ok(())
    }

    /// Some time passed at the hub, and people do what they do.
    fn tick(&mut self) -> anyhow::Result<()> {
        self.after(TICK_MS, Happens::Tick);
        if self.setup.faults.unrest {
            self.unrest()?;
        }
        self.all.tick(&mut self.fleet, self.now_ms);
        self.settle()
    }

    /// The hub restarts from what it stored, a node gets short of memory, somebody has seen enough.
    fn unrest(&mut self) -> anyhow::Result<()> {
        if self.world.unit() < 0.05 {
            let active = self.all.get(self.id).context("the experiment is gone")?;
            let it = serde_json::from_str(&serde_json::to_string(&active.it)?)?;
            let (members, sheets) = (active.members.clone(), active.sheets.clone());
            let signed: Vec<(u32, Vec<u8>)> =
                self.signed.iter().map(|(which, bytes)| (which.version(), bytes.clone())).collect();
            let active = Active::new(self.setup.plan.clone(), it, members, sheets, signed)?;
            self.all = Experiments::default();
            self.all.insert(active, &mut self.fleet);
        }
        let at = (self.world.unit() * self.machines.len() as f64) as usize;
        let beside = self.machines[at].slots.kept.beside().filter(|(it, _)| it.phase == Stage::Shadow);
        if let Some(manifest) = beside.map(|(it, _)| it.slot.manifest)
            && self.world.unit() < 0.1
        {
            self.hear(at, Event::Stood(manifest, Stood::Aside("memory is short".to_owned())))?;
        }
        if self.world.unit() < 0.001 {
            let (id, now_ms) = (self.id, self.now_ms);
            // It may be over already.
            drop(self.all.order(&mut self.fleet, id, Order::Stop, "operator", "as played", now_ms));
        }
        Ok(())
    }

    /// What came of it, and whether all is as it must be.
    fn look_back(&mut self) -> anyhow::Result<()> {
        let active = self.all.get(self.id).context("the experiment is gone")?;
        let (it, plan) = (&active.it, &self.setup.plan);
        for (at, machine) in self.machines.iter().enumerate() {
            let row = active.members.contains_key(&(at as i64 + 1));
            let long_ago = |at_ms: i64| self.now_ms - at_ms >= HEARD_MS;
            let is_over = it.phase == Phase::Ended || it.ended_ms.is_some_and(long_ago);
            let has_heard = is_over && long_ago(machine.presence.since_ms);
            if has_heard || machine.presence.is_here && !row {
                check::left(machine, row)?;
            }
        }
        let max = plan.shadow().context("a plan of another kind")?.bound.max();
        let night = &mut self.night;
        let truth = (self.heard.compared > 0).then(|| self.heard_chances / self.heard.compared as f64);
        let outcome = it.outcome.as_ref();
        let says = |truth: f64| match outcome.map(|outcome| outcome.verdict) {
            Some(Verdict::Agrees) => Some(truth < max),
            Some(Verdict::Parts) => Some(truth > max),
            _ => None,
        };
        (night.right, night.right_of_fleet) = (truth.and_then(says), says(night.truth_of_fleet));
        night.truth = truth;
        night.verdict = outcome.map(|outcome| outcome.verdict.to_string());
        night.why = it.why.clone();
        night.took_ms = it.ended_ms.unwrap_or(self.now_ms) - START_MS;
        (night.nodes, night.compared, night.skipped) =
            (it.shadow.nodes, it.shadow.all.compared, it.shadow.all.skipped);
        night.failed = it.tally[0].failed;
        for machine in &self.machines {
            let open_ns = machine
                .comparing
                .as_ref()
                .map_or(0, |it| machine.mono_ns(self.now_ms).saturating_sub(it.began_ns));
            let (busy_s, watched_s) =
                (machine.busy.as_secs_f64(), (machine.watched_ns + open_ns) as f64 / 1e9);
            night.disagreements += machine.disagreements;
            night.core_s += busy_s;
            if watched_s >= 60.0 {
                night.busiest = night.busiest.max(busy_s / watched_s);
            }
            if let Some(uj) = machine.used_uj {
                night.joules = Some(night.joules.unwrap_or(0.0) + uj as f64 / 1e6);
            }
        }
        Ok(())
    }
}

/// The sum of twelve draws: near enough to a normal value.
fn normal(world: &mut Simulated) -> f64 {
    (0..12).map(|_| world.unit()).sum::<f64>() - 6.0
}
