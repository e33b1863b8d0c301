//! Nodes that know more than the hub, because its database is a backup's: they are told nothing until a person believes them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use wire::checkin::CheckIn;
use wire::world::WallMs;

use crate::rollout::conflict::{self, Ahead, Told};
use crate::rollout::engine::{Active, Engine};
use crate::rollout::member::Heard;
use crate::rollout::plan::{Kind, PlanId};
use crate::rollout::step::{Event, NodeNo, Phase};

/// What adoption did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopted {
    /// How many nodes were ahead, and are followed now.
    pub nodes: u64,
    /// The rollouts that were raised.
    pub rollouts: Vec<PlanId>,
    /// Members that had no row here, with their rollouts: what their records say of it is to be told again.
    pub members: Vec<(PlanId, NodeNo)>,
    /// The highest revision that they report, and the largest log.
    pub revision: u64,
    /// See [`Adopted::revision`].
    pub log_size: u64,
}

impl Engine {
    /// Learns what else the store knows of itself: the length of the log, and nodes whose key was let in again.
    pub fn know(&mut self, log_size: u64, readmitted: HashSet<NodeNo>) {
        (self.log_size, self.readmitted) = (log_size, readmitted);
    }

    /// The log has grown.
    pub fn know_log(&mut self, log_size: u64) {
        self.log_size = self.log_size.max(log_size);
    }

    /// A node's key was let in again.
    pub fn readmit(&mut self, node: NodeNo) {
        self.readmitted.insert(node);
    }

    /// How many nodes know more than this hub.
    pub fn behind(&self) -> u64 {
        self.fleet.values().filter(|seen| seen.state.conflict.is_some()).count() as u64
    }

    /// In which ways a node is ahead of this hub, by what it says now. What it heard of another hub says nothing of this one,
    /// unless it came by a key of this hub's authority that this hub did not know.
    pub fn ways(&self, node: NodeNo, checkin: &CheckIn) -> Vec<Ahead> {
        let is_ours = checkin.hub.as_ref().is_some_and(|hub| *hub == self.hub);
        if checkin.hub.is_none() || !is_ours && !self.readmitted.contains(&node) {
            return Vec::new();
        }
        let known = conflict::Known {
            hub: self.hub.clone(),
            revision: self.desired,
            released: self.rollouts.values().flat_map(released).collect(),
            log_size: self.log_size,
        };
        let mut ways = conflict::ahead(&Told::of(checkin), &known);
        ways.retain(Ahead::stops);
        ways
    }

    /// Which of these ids no rollout in memory has.
    pub fn strange(&self, checkin: &CheckIn) -> Vec<String> {
        let known: BTreeSet<String> = self
            .rollouts
            .values()
            .flat_map(|active| [active.rollout.id.to_string(), active.canaries.to_string()])
            .collect();
        let ids = checkin.accepted.iter().map(|one| one.id.clone());
        ids.filter(|id| PlanId::parse(id).is_some() && !known.contains(id)).collect()
    }

    /// Whether a node of this hub knows more than the hub: then it gets nothing, and rollouts that it is ahead of wait for a
    /// person. Once it is, it stays so until it is believed, or begins anew: this hub's own numbers grow in the meantime, and prove
    /// nothing.
    pub(super) fn compare(&mut self, node: NodeNo, checkin: &CheckIn, now_ms: WallMs) -> bool {
        let ways = self.ways(node, checkin);
        let Some(seen) = self.fleet.get_mut(&node) else { return false };
        let was_ahead = seen.state.conflict.is_some();
        if !ways.is_empty() {
            let why = ways.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let why: String = why.chars().take(500).collect();
            seen.reported = Some(Told::of(checkin));
            if !was_ahead || seen.state.conflict.as_ref() != Some(&why) {
                seen.state.conflict = Some(why);
                self.changes.nodes.insert(node);
            }
        } else if was_ahead && checkin.hub.is_none() {
            (seen.state.conflict, seen.reported) = (None, None);
            self.changes.nodes.insert(node);
            if self.behind() == 0 {
                self.tell_behind(|active| active.rollout.conflict > 0, now_ms);
            }
        }
        let is_ahead = self.fleet.get(&node).is_some_and(|seen| seen.state.conflict.is_some());
        let mut ids = BTreeSet::new();
        for way in ways {
            if let Ahead::Document { id, .. } = way {
                ids.insert(id);
            }
        }
        if !ids.is_empty() {
            let of = |active: &Active| [active.rollout.id, active.canaries].map(|id| id.to_string());
            self.tell_behind(|active| of(active).iter().any(|id| ids.contains(id)), now_ms);
        }
        is_ahead
    }

    /// Tells rollouts how many nodes know more than this hub.
    fn tell_behind(&mut self, which: impl Fn(&Active) -> bool, now_ms: WallMs) {
        let nodes = u32::try_from(self.behind()).unwrap_or(u32::MAX);
        let is_news = |active: &&Active| {
            let phase = &active.rollout.phase;
            let stops = nodes > 0 && (phase.is_open() || *phase == Phase::Reverting);
            stops || active.rollout.conflict > 0 && active.rollout.conflict != nodes
        };
        let held = self.rollouts.values().filter(|active| which(active)).filter(is_news);
        let ids: Vec<PlanId> = held.map(|active| active.rollout.id).collect();
        for id in ids {
            self.step(id, Event::Conflict(nodes), now_ms);
        }
    }

    /// A node that was away while a restored hub went on has been told more than the hub noted of it, though not more than the
    /// hub has reached by now: it goes on from there, for a node takes nothing older.
    pub(super) fn follow_revision(&mut self, node: NodeNo, checkin: &CheckIn) {
        let (hub, told) = (&self.hub, checkin.revision.unwrap_or(0));
        let Some(seen) = self.fleet.get_mut(&node) else { return };
        if checkin.hub.as_ref() == Some(hub) && told > seen.state.revision && told <= self.desired {
            seen.state.revision = told;
            self.changes.nodes.insert(node);
        }
    }

    /// Believes all nodes that are ahead: the revision and every wave are raised to what they report, and whoever took a document
    /// is a member.
    pub fn adopt(&mut self, who: &str, why: &str, now_ms: WallMs) -> Adopted {
        let ahead = self.fleet.iter().filter(|(_, seen)| seen.state.conflict.is_some());
        let reported: BTreeMap<NodeNo, Told> =
            ahead.map(|(node, seen)| (*node, seen.reported.clone().unwrap_or_default())).collect();
        let ours = |told: &&Told| told.hub.as_ref() == Some(&self.hub);
        let mut done = Adopted {
            nodes: reported.len() as u64,
            revision: reported.values().filter(ours).map(|told| told.revision).max().unwrap_or(0),
            log_size: reported.values().filter(ours).map(|told| told.log_size).max().unwrap_or(0),
            ..Adopted::default()
        };
        self.desired = self.desired.max(done.revision);
        self.log_size = self.log_size.max(done.log_size);
        for (node, told) in &reported {
            let is_ours = told.hub.as_ref() == Some(&self.hub);
            self.readmitted.remove(node);
            if let Some(seen) = self.fleet.get_mut(node) {
                (seen.state.conflict, seen.reported) = (None, None);
                if is_ours {
                    seen.state.revision = seen.state.revision.max(told.revision);
                }
                self.changes.nodes.insert(*node);
            }
        }
        let ids: Vec<PlanId> = self.rollouts.keys().copied().collect();
        for id in ids {
            let Some(active) = self.rollouts.get(&id) else { continue };
            let (named, nodes) =
                conflict::named(&active.planned, &active.rollout.released, reported.values());
            if nodes > 0 {
                let (who, why) = (who.to_owned(), why.to_owned());
                self.step(id, Event::Adopted { named, who, why }, now_ms);
                done.rollouts.push(id);
            } else if active.rollout.conflict > 0 {
                self.step(id, Event::Conflict(0), now_ms);
            }
            for (node, told) in &reported {
                if self.count_in(id, *node, told, now_ms) {
                    done.members.push((id, *node));
                }
            }
        }
        done
    }

    /// A node that names a document of a rollout was offered it, whatever is in the table of members. True if it was not there.
    fn count_in(&mut self, id: PlanId, node: NodeNo, told: &Told, now_ms: WallMs) -> bool {
        let (Some(active), Some(seen)) = (self.rollouts.get_mut(&id), self.fleet.get(&node)) else {
            return false;
        };
        if active.members.contains_key(&node) {
            return false;
        }
        let own = |planned: &&crate::rollout::documents::Planned| {
            told.accepted
                .iter()
                .any(|(id, version)| *version == planned.version && *id == planned.id.to_string())
        };
        let Some((version, kind)) = active.planned.iter().filter(own).map(|it| (it.version, it.kind)).max()
        else {
            return false;
        };
        let place = active.fit(node, seen).place;
        let plan = &active.plan;
        let wave = match kind {
            Kind::Canary | Kind::CanaryRevert => 0,
            // The first ring that has it: whoever was offered it then still counts there.
            _ => (1..=plan.last_wave()).find(|wave| place < plan.ring_to(*wave)).unwrap_or(plan.last_wave()),
        };
        self.hear(id, node, &Heard::Offered { wave, version }, None, now_ms)
    }
}

/// The highest version that was released of each of a rollout's two ids.
fn released(active: &Active) -> [(String, u32); 2] {
    let highest = |of_canaries: bool| {
        let kinds = active.rollout.released.iter();
        let kinds = kinds.filter(|kind| of_canaries == matches!(kind, Kind::Canary | Kind::CanaryRevert));
        kinds.map(|kind| kind.version()).max().unwrap_or(0)
    };
    [(active.rollout.id.to_string(), highest(false)), (active.canaries.to_string(), highest(true))]
}
