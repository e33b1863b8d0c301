//! Several rollouts of one model on one fleet: an emergency beside normal ones, a hub that restarts, and one that is set back to
//! a backup. Nodes judge documents by the code that real nodes have (`package::trust::assignment`).
//!
//! Beside what [`check`](crate::sim::check) looks at for each rollout, after every event:
//!
//! 1. No node is handed what is not meant for it, or a release that it has told to refuse.
//! 2. No node's release gets older but by a way back.
//! 3. Never more nodes of a site in change than the plan's budget says.
//! 4. An emergency never waits for a normal rollout.
//! 5. A node that knows more than the hub gets nothing, and what it knows of pauses.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use anyhow::{Context as _, bail, ensure};
use hub::rollout::member::{Member, Standing};
use hub::rollout::offer::{is_canary, place};
use hub::rollout::plan::{Lane, Plan, PlanId};
use hub::rollout::step::{Order, Phase, Rollout};
use package::trust::assignment::{Assignment, NodeFacts, prefer};
use package::trust::canonical::parse;
use serde_json::json;
use wire::body::Install;
use wire::checkin::{AcceptedVersion, CandidateState, CheckIn, CurrentState, SlotState};
use wire::facts::FactName;
use wire::id::{BootId, JournalId};
use wire::select::Selector;
use wire::world::{Entropy as _, Simulated};

use super::leader::{HUB, Leader, NEXT_MS};
use crate::sim::check::{self, Before, Check, Truth};
use crate::sim::fleet::{Fleet, HOUR_MS, MINUTE_MS, Presence, START_MS, span};
use crate::sim::release::{Flaw, Harm};
use crate::sim::setup::Faults;

const TICK_MS: i64 = 5 * MINUTE_MS;
const FETCH_MS: f64 = 180_000.0;

/// A rollout, when it begins, and what is wrong with its release.
pub(crate) struct Going {
    pub(crate) plan: Plan,
    pub(crate) at_ms: i64,
    pub(crate) flaws: Vec<Flaw>,
}

/// What is played.
pub(crate) struct Scene {
    pub(crate) fleet: Fleet,
    pub(crate) rollouts: Vec<Going>,
    pub(crate) faults: Faults,
    pub(crate) trial_ms: i64,
    pub(crate) most_ms: i64,
}

/// What a node is, and has.
struct Node {
    presence: Presence,
    /// What it says of itself, whatever it does.
    said: CheckIn,
    revision: Option<u64>,
    documents: BTreeMap<String, Assignment>,
    current: u64,
    fetches: Option<u64>,
    candidate: Option<u64>,
    misses: u8,
    refused: BTreeSet<u64>,
    ran: BTreeSet<u64>,
    /// All records of installs, and how many of them the hub has.
    told: Vec<Install>,
    acked: usize,
    generation: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Contact(usize),
    Proved(usize, u32),
    Tried(usize, u32),
    Begin(usize),
    Tick,
}

/// One rollout, as it was seen last.
struct Watched {
    id: PlanId,
    rollout: Rollout,
    members: BTreeMap<String, Member>,
    group: Selector,
    check: Check,
}

/// The play, while it lasts.
pub(crate) struct Play<'a, L> {
    scene: &'a Scene,
    pub(crate) leader: L,
    world: Simulated,
    pub(crate) now_ms: i64,
    queue: BinaryHeap<Reverse<(i64, u64, Happens)>>,
    count: u64,
    nodes: Vec<Node>,
    watched: BTreeMap<usize, Watched>,
    /// Nodes of which a hub that was set back does not know all.
    forgotten: BTreeSet<usize>,
    pub(crate) paused: usize,
    pub(crate) lines: Vec<String>,
}

impl<'a, L: Leader> Play<'a, L> {
    pub(crate) fn new(scene: &'a Scene, leader: L, seed: u64) -> Play<'a, L> {
        let mut world = Simulated::new(seed ^ 0x70_6765);
        let old = scene.rollouts[0].plan.revert[0].release;
        let mut nodes = Vec::new();
        for resident in &scene.fleet.nodes {
            let said = json!({
                "v": 1, "node": resident.name, "version": "0.1.0", "uptime_ms": 1, "wall_ms": 0, "clock": "checked",
                "journal": JournalId::random(&mut world), "boot": BootId::random(&mut world), "hub": HUB,
                "inventory": { "seq": 1, "base": 0, "set": resident.facts },
            });
            nodes.push(Node {
                presence: Presence::new(resident.habit, &mut world),
                said: serde_json::from_value(said).expect("a check-in"),
                revision: None,
                documents: BTreeMap::new(),
                current: old,
                fetches: None,
                candidate: None,
                misses: 0,
                refused: BTreeSet::new(),
                ran: BTreeSet::new(),
                told: Vec::new(),
                acked: 0,
                generation: 0,
            });
        }
        let mut play = Play {
            scene,
            leader,
            world,
            now_ms: START_MS,
            queue: BinaryHeap::new(),
            count: 0,
            nodes,
            watched: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            paused: 0,
            lines: Vec::new(),
        };
        for at in 0..play.nodes.len() {
            let ms = (play.world.unit() * NEXT_MS as f64) as i64;
            play.after(ms, Happens::Contact(at));
        }
        for (at, going) in scene.rollouts.iter().enumerate() {
            play.after(going.at_ms - START_MS, Happens::Begin(at));
        }
        play.after(TICK_MS, Happens::Tick);
        play
    }

    /// Plays until this time, or until nothing more can happen by itself.
    pub(crate) fn until(&mut self, until_ms: i64) -> anyhow::Result<()> {
        while let Some(Reverse((at_ms, _, happens))) = self.queue.peek().copied() {
            if at_ms > until_ms.min(START_MS + self.scene.most_ms) || self.is_over() {
                break;
            }
            self.queue.pop();
            self.now_ms = at_ms;
            match happens {
                Happens::Contact(at) => self.contact(at)?,
                Happens::Proved(at, generation) => self.proved(at, generation),
                Happens::Tried(at, generation) => self.tried(at, generation),
                Happens::Begin(at) => self.begin(at)?,
                Happens::Tick => {
                    self.leader.tick(self.now_ms)?;
                    self.look(None)?;
                    self.people()?;
                    self.after(TICK_MS, Happens::Tick);
                }
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let over = |watched: &Watched| watched.rollout.phase.is_end();
        self.watched.len() == self.scene.rollouts.len() && self.watched.values().all(over)
    }

    /// The hub goes on from what it once had: nodes know more.
    pub(crate) fn set_back(&mut self, acked: &[usize]) -> anyhow::Result<()> {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            node.acked = acked[at];
            if !node.documents.is_empty() || node.revision.is_some() {
                self.forgotten.insert(at);
            }
        }
        self.leader.acts()?;
        let known: Vec<(usize, PlanId)> = self.watched.iter().map(|(at, it)| (*at, it.id)).collect();
        for (at, id) in known {
            let Ok(rollout) = self.leader.rollout(id) else { bail!("a backup from before a rollout") };
            let members = self.leader.members(id)?;
            if let Some(watched) = self.watched.get_mut(&at) {
                (watched.rollout, watched.members) = (rollout, members);
            }
        }
        Ok(())
    }

    /// How many records of each node the hub has.
    pub(crate) fn acked(&self) -> Vec<usize> {
        self.nodes.iter().map(|node| node.acked).collect()
    }

    pub(crate) fn phases(&mut self) -> anyhow::Result<Vec<Rollout>> {
        let ids: Vec<PlanId> = self.watched.values().map(|it| it.id).collect();
        ids.into_iter().map(|id| self.leader.rollout(id)).collect()
    }

    fn after(&mut self, ms: i64, happens: Happens) {
        self.count += 1;
        self.queue.push(Reverse((self.now_ms.saturating_add(ms), self.count, happens)));
    }

    fn begin(&mut self, at: usize) -> anyhow::Result<()> {
        let plan = &self.scene.rollouts[at].plan;
        let id = self.leader.create(plan, self.now_ms)?;
        let rollout = self.leader.rollout(id)?;
        let (members, group, check) = (BTreeMap::new(), Selector::parse(&plan.group)?, Check::new(None));
        self.leader.acts()?;
        self.watched.insert(at, Watched { id, rollout, members, group, check });
        ensure!(self.leader.order(id, Order::Start, self.now_ms)?, "it does not start");
        self.look(None)
    }

    /// People open gates that wait for them, and give orders as they come to mind.
    fn people(&mut self) -> anyhow::Result<()> {
        let now: Vec<(PlanId, Phase)> =
            self.watched.values().map(|it| (it.id, it.rollout.phase.clone())).collect();
        for (id, phase) in now {
            let lot = self.world.unit();
            let order = match phase {
                Phase::Held => Order::Resume,
                Phase::Paused { .. } if lot < 0.1 => Order::Resume,
                Phase::Paused { .. } if lot < 0.12 => Order::Abort,
                _ if !self.scene.faults.unrest => continue,
                _ if lot < 0.01 => Order::Pause,
                _ if lot < 0.015 => Order::Revert,
                _ if lot < 0.02 => Order::SkipUnknown,
                _ => continue,
            };
            if self.leader.order(id, order, self.now_ms)? {
                self.look(None)?;
            }
        }
        if self.scene.faults.unrest && self.world.unit() < 0.05 {
            self.leader.restart();
            self.look(None)?;
        }
        Ok(())
    }

    fn checkin(&self, at: usize) -> CheckIn {
        let node = &self.nodes[at];
        let accepted = node.documents.values();
        let accepted = accepted.map(|one| AcceptedVersion {
            id: one.id.clone(),
            version: one.head.version,
            rollout: one.rollout.clone(),
        });
        let (manifest, extra) = (wire::hash::Hash::GENESIS, serde_json::Map::new);
        let candidate = |release| CandidateState {
            release,
            phase: "trial".to_owned(),
            misses: node.misses.into(),
            extra: extra(),
        };
        let slot = SlotState {
            model: self.scene.rollouts[0].plan.what[0].model.to_string(),
            current: Some(CurrentState {
                release: node.current,
                variant: "q4".into(),
                manifest,
                extra: extra(),
            }),
            previous: None,
            candidate: node.candidate.map(candidate),
            spare: None,
            safe: None,
            waits: None,
            extra: extra(),
        };
        CheckIn {
            wall_ms: self.now_ms,
            revision: node.revision,
            accepted: accepted.collect(),
            slots: vec![slot],
            ..node.said.clone()
        }
    }

    fn contact(&mut self, at: usize) -> anyhow::Result<()> {
        let habit = self.scene.fleet.nodes[at].habit;
        let (now_ms, loss) = (self.now_ms, self.scene.faults.loss);
        self.nodes[at].presence.pass(habit, now_ms, &mut self.world);
        let presence = self.nodes[at].presence;
        if !presence.is_here {
            if presence.until_ms < i64::MAX {
                self.after(presence.until_ms - now_ms + 1000, Happens::Contact(at));
            }
            return Ok(());
        }
        let ms = NEXT_MS as f64 * (0.9 + 0.2 * self.world.unit());
        self.after(ms as i64, Happens::Contact(at));
        if self.world.unit() < loss {
            return Ok(());
        }
        let checkin = self.checkin(at);
        while let Some(install) = self.nodes[at].told.get(self.nodes[at].acked).cloned() {
            self.leader.installed(&checkin, &install, now_ms)?;
            self.nodes[at].acked += 1;
            self.look(Some(at))?;
        }
        let handed = self.leader.check_in(&checkin, now_ms)?;
        self.look(Some(at))?;
        if handed.paused.is_some() {
            self.paused += 1;
            ensure!(handed.desired.is_none(), "5: who knows more than the hub was handed something");
            let name = &self.scene.fleet.nodes[at].name;
            self.lines.push(format!("{} {name} knows more", now_ms - START_MS));
            return Ok(());
        }
        if self.world.unit() < loss {
            return Ok(());
        }
        let Some(desired) = handed.desired else { return self.does_not_wait(at) };
        let none = desired.documents.is_empty();
        self.nodes[at].revision = self.nodes[at].revision.max(Some(desired.revision));
        for document in desired.documents {
            let signed = parse(document.bytes())?.get("signed").cloned().context("what is signed")?;
            self.accept(at, Assignment::read(&signed)?)?;
        }
        if none { self.does_not_wait(at) } else { Ok(()) }
    }

    /// A node that was handed nothing does not wait for a normal rollout where an emergency is open to it.
    fn does_not_wait(&mut self, at: usize) -> anyhow::Result<()> {
        let name = self.scene.fleet.nodes[at].name.clone();
        let urgent = |index: &usize| self.scene.rollouts[*index].plan.lane == Lane::Emergency;
        let urgent: Vec<PlanId> =
            self.watched.iter().filter(|(index, _)| urgent(index)).map(|(_, it)| it.id).collect();
        for id in urgent {
            let why = self.leader.why(id, &name, self.now_ms).unwrap_or_default();
            let normal = self.watched.iter().find(|(_, it)| why.contains(&it.id.to_string()));
            let waits =
                normal.is_some_and(|(index, _)| self.scene.rollouts[*index].plan.lane == Lane::Normal);
            ensure!(!waits, "4: an emergency waits: {why}");
        }
        Ok(())
    }

    /// A node judges a document by itself, and follows the one that it prefers.
    fn accept(&mut self, at: usize, document: Assignment) -> anyhow::Result<()> {
        let (resident, node) = (&self.scene.fleet.nodes[at], &mut self.nodes[at]);
        let held = node.documents.get(&document.id).map_or(0, |held| held.head.version);
        let line = format!(
            "{} {} gets {} {}",
            self.now_ms - START_MS,
            resident.name,
            &document.id[..8],
            document.head.version
        );
        self.lines.push(line);
        let labels = BTreeMap::new();
        let mut facts = resident.facts.clone();
        facts.set(FactName::new("name")?, resident.name.as_str().into())?;
        let is_meant =
            document.subject.has(NodeFacts { name: &resident.name, labels: &labels, facts: &facts }, held);
        ensure!(is_meant, "1: {} was handed what is not meant for it", resident.name);
        if document.head.version <= held {
            return Ok(());
        }
        let release = document.models.first().map(|ordered| (ordered.release, ordered.allow_rollback));
        if let Some((release, false)) = release {
            let told =
                node.told[..node.acked].iter().any(|it| it.outcome == "refused" && it.release == release);
            ensure!(!told, "1: {} was handed what it refuses", resident.name);
        }
        node.documents.insert(document.id.clone(), document);
        let Some(follows) = node.documents.values().reduce(|a, b| prefer(a, b)) else { return Ok(()) };
        let Some(ordered) = follows.models.first() else { return Ok(()) };
        let release = ordered.release;
        let is_under_way = node.fetches == Some(release) || node.candidate == Some(release);
        let may = !node.refused.contains(&release) && (release > node.current || ordered.allow_rollback);
        if is_under_way {
            return Ok(());
        }
        node.generation += 1;
        (node.fetches, node.candidate, node.misses) = (None, None, 0);
        if release != node.current && may {
            ensure!(release > node.current || follows.head.version > 500, "2: {} gets older", resident.name);
            node.fetches = Some(release);
            let generation = node.generation;
            let ms = span(FETCH_MS, &mut self.world);
            self.after(ms, Happens::Proved(at, generation));
        }
        Ok(())
    }

    fn harm(&mut self, at: usize, release: u64) -> Option<Harm> {
        let going = self.scene.rollouts.iter().find(|going| going.plan.what[0].release == release)?;
        let facts = &self.scene.fleet.nodes[at].facts;
        // The same on every try: drawn from the node and the release.
        let mut lots = Simulated::new(release << 32 | at as u64);
        going.flaws.iter().find(|flaw| flaw.meets(facts, lots.unit())).map(|flaw| flaw.harm)
    }

    fn proved(&mut self, at: usize, generation: u32) {
        let Some(release) = self.nodes[at].fetches.filter(|_| self.nodes[at].generation == generation) else {
            return;
        };
        let harm = self.harm(at, release);
        self.nodes[at].fetches = None;
        if harm == Some(Harm::Golden) {
            self.refuse(at, release);
            return;
        }
        let node = &mut self.nodes[at];
        node.candidate = Some(release);
        node.ran.insert(release);
        if harm == Some(Harm::Silent) {
            node.presence = Presence { is_here: false, since_ms: self.now_ms, until_ms: i64::MAX };
        }
        self.after(self.scene.trial_ms, Happens::Tried(at, generation));
    }

    fn refuse(&mut self, at: usize, release: u64) {
        self.nodes[at].refused.insert(release);
        self.tell(at, release, "refused");
    }

    fn tell(&mut self, at: usize, release: u64, outcome: &str) {
        let index = wire::hash::Hash::of(&release.to_be_bytes());
        let node = &mut self.nodes[at];
        let said = json!({
            "id": format!("{}-{}", node.said.boot, node.told.len()), "model": self.scene.rollouts[0].plan.what[0].model.as_str(),
            "release": release, "index": index, "outcome": outcome, "kernel_same": true,
        });
        node.told.push(serde_json::from_value(said).expect("an install record"));
    }

    fn tried(&mut self, at: usize, generation: u32) {
        let Some(release) = self.nodes[at].candidate.filter(|_| self.nodes[at].generation == generation)
        else {
            return;
        };
        let faults = self.scene.faults;
        let risk = 1.0 - (-faults.power_cuts * self.scene.trial_ms as f64 / (24.0 * HOUR_MS as f64)).exp();
        let (cut, by_itself) = (self.world.unit() < risk, self.world.unit() < faults.by_itself);
        let harm = self.harm(at, release);
        let reboots = harm == Some(Harm::Reboot) || cut;
        if reboots && self.nodes[at].misses == 0 {
            self.nodes[at].misses = 1;
            self.tell(at, release, "missed");
            self.after(self.scene.trial_ms, Happens::Tried(at, generation));
            return;
        }
        (self.nodes[at].candidate, self.nodes[at].misses) = (None, 0);
        if reboots || by_itself || harm == Some(Harm::Crash) {
            self.refuse(at, release);
        } else {
            self.nodes[at].current = release;
            self.tell(at, release, "committed");
        }
    }

    /// Looks at all rollouts after an event, and at the node that it was about.
    fn look(&mut self, about: Option<usize>) -> anyhow::Result<()> {
        let acts = self.leader.acts()?;
        for (id, act) in &acts {
            let id = id.to_string();
            let line = format!("{} {} {act:?}", self.now_ms - START_MS, &id[..8]);
            self.lines.push(line);
        }
        for (index, watched) in &mut self.watched {
            let plan = &self.scene.rollouts[*index].plan;
            let release = plan.what[0].release;
            if self.leader.has_moved(watched.id) {
                let rollout = self.leader.rollout(watched.id)?;
                let its: Vec<_> =
                    acts.iter().filter(|(id, _)| *id == watched.id).map(|(_, act)| act).collect();
                Before::of(&watched.rollout).stepped(plan, &rollout, &its)?;
                let members = self.leader.members(watched.id)?;
                check::tallies(&rollout, members.values())?;
                for (name, member) in &members {
                    let before = watched.members.get(name);
                    if before == Some(member) {
                        continue;
                    }
                    let from = before.map_or(Standing::Waiting, |before| before.standing);
                    let (at_ms, standing) = (self.now_ms - START_MS, member.standing);
                    self.lines
                        .push(format!("{at_ms} {name}: {release} {from} {standing} {}", member.version));
                    if before.is_none() {
                        watched.check.offered(plan, self.now_ms)?;
                        within_budget(plan, &self.scene.fleet, &members, name)?;
                    }
                }
                ensure!(members.len() >= watched.members.len(), "7: a row is gone");
                (watched.rollout, watched.members) = (rollout, members);
            }
            let Some(at) = about.filter(|at| !self.forgotten.contains(at)) else { continue };
            let (resident, node) = (&self.scene.fleet.nodes[at], &self.nodes[at]);
            let row = watched.members.get(&resident.name);
            let is_superseded = row.is_some_and(|row| row.standing == Standing::Superseded);
            // Who follows something newer does not go back by something older.
            let newer = node.documents.values().any(|it| it.issued_ms > plan.created_ms);
            // Who comes late goes back then: that takes some calls, a fetch and a trial.
            let is_here_long = node.presence.is_here && self.now_ms - node.presence.since_ms > 6 * HOUR_MS;
            let committed = |it: &Install| it.outcome == "committed" && it.release == release;
            check::node(&Truth {
                plan,
                rollout: &watched.rollout,
                place: place(plan, &resident.name),
                in_group: watched.group.has(&resident.facts),
                is_canary: is_canary(plan, &resident.name),
                row,
                ever_ran: node.ran.contains(&release),
                told_committed: node.told[..node.acked].iter().any(committed),
                runs_new: node.current == release || node.candidate == Some(release),
                can_be_reached: is_here_long && !is_superseded && !newer,
            })?;
        }
        Ok(())
    }
}

/// As a node is offered a release: no more of its site are in change than may be.
fn within_budget(
    plan: &Plan,
    fleet: &Fleet,
    members: &BTreeMap<String, Member>,
    name: &str,
) -> anyhow::Result<()> {
    let Some(most) = plan.budget.iter().map(|budget| budget.max_unavailable).min() else { return Ok(()) };
    let site_of = |name: &str| fleet.nodes.iter().find(|node| node.name == name).map(|node| node.site);
    let site = site_of(name);
    let in_change = members.iter().filter(|(_, member)| member.standing.is_pending());
    let in_change = in_change.filter(|(other, _)| site_of(other) == site).count();
    ensure!(in_change <= most as usize, "3: {in_change} nodes of a site in change, {most} may be");
    Ok(())
}
