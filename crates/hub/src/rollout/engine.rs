//! All rollouts that may still hand something out, in memory, with their members and the fleet around them. Pure: whoever
//! carries it out ([`super::execute`]) stores its changes before anything leaves, or forgets the whole engine.
//!
//! What is in memory is what is stored, plus the changes of the transaction that runs. So an answer never carries a
//! document whose member row is not on disk, and nothing is decided on a state that another hub has moved on.

mod behaviour;
mod behind;
mod held;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use package::index::Release;
use package::name::ModelName;
use wire::body::Install;
use wire::checkin::{CheckIn, DOCUMENTS_MAX, DOCUMENTS_MAX_BYTES, Desired, Document};
use wire::facts::{Fact, FactName, Facts};
use wire::hash::Hash;
use wire::select::{BadSelector, Selector};
use wire::world::WallMs;

use crate::rollout::conflict::Told as Reported;
use crate::rollout::coverage::{self, Known, Preview};
use crate::rollout::documents::{self, Planned};
use crate::rollout::figures::Told;
use crate::rollout::fit::Fit;
use crate::rollout::gate::View;
use crate::rollout::hold::Held;
use crate::rollout::member::{Happened, Heard, Member, Running, Standing, hear};
use crate::rollout::offer::{Caller, Offer, Why, box_ms, is_canary, offer};
use crate::rollout::plan::{Kind, Lane, Plan, PlanId};
use crate::rollout::step::{Effect, Event, NodeNo, NotNow, Order, Phase, Rollout, allows, step};
use crate::rollout::text;
use crate::store::rollouts::NodeState;

/// A node counts as about to come for so long after it was heard.
const AWAKE_MS: i64 = 3_600_000;

/// The rollouts under way, and the fleet.
#[derive(Debug, Default)]
pub struct Engine {
    hub: String,
    /// The number of the last change to what some node shall do.
    desired: u64,
    rollouts: BTreeMap<PlanId, Active>,
    fleet: HashMap<NodeNo, Seen>,
    /// What experiments hold on nodes.
    held: HashMap<NodeNo, Vec<Held>>,
    changes: Changes,
    /// How long the log is, or was when nodes were believed last, if that is more.
    log_size: u64,
    /// Nodes whose key was let in again: they may follow the hub that this one was.
    readmitted: HashSet<NodeNo>,
}

/// One rollout.
#[derive(Debug)]
pub struct Active {
    /// What was decided.
    pub plan: Plan,
    /// Where it stands.
    pub rollout: Rollout,
    /// Everybody who was offered it.
    pub members: HashMap<NodeNo, Member>,
    /// The revision that is stored.
    pub stored: u64,
    /// Another one has taken its place: it hands out nothing any more.
    pub is_retired: bool,
    /// The releases of the plan's targets, in their order, where the hub has them.
    pub releases: Vec<Option<Release>>,
    group: Selector,
    canaries: PlanId,
    planned: Vec<Planned>,
    signed: BTreeMap<Kind, Document>,
    /// For each budget: how many nodes are away, by the label's value. Reckoned when it is asked for.
    away: Option<Vec<HashMap<String, u32>>>,
    /// How nodes fit the plan, by the facts that they told last.
    fits: HashMap<NodeNo, Fit>,
    /// What nodes told of the plan's models; absent until it was read.
    told: Option<Told>,
}

/// A node, as far as rollouts care.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// What it says it is.
    pub facts: Facts,
    /// When it was last heard of.
    pub seen_ms: WallMs,
    /// Whether it is silent.
    pub is_silent: bool,
    /// Whether its program understands documents in answers.
    pub understands: bool,
    /// See [`NodeState`].
    pub state: NodeState,
    /// The digests of the indexes of releases that it refused.
    pub refused: HashSet<String>,
    slots: Vec<Slot>,
    /// What it reports, if it knows more than this hub.
    reported: Option<Reported>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    model: String,
    current: Option<u64>,
    manifest: Option<Hash>,
    candidate: Option<u64>,
}

/// What the transaction that runs must store.
#[derive(Debug, Default)]
pub struct Changes {
    /// Members that stand elsewhere, and the record that says so.
    pub members: BTreeMap<(PlanId, NodeNo), Option<i64>>,
    /// Nodes whose state changed.
    pub nodes: BTreeSet<NodeNo>,
    /// Releases that nodes refused.
    pub refused: Vec<Refusal>,
    /// What is to be done beside, in order.
    pub effects: Vec<(PlanId, Effect)>,
    /// Documents that were signed.
    pub signed: Vec<(PlanId, Kind)>,
}

/// A node refused a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who.
    pub node: NodeNo,
    /// The model.
    pub model: String,
    /// The digest of the release's index.
    pub index: String,
    /// Why.
    pub why: String,
}

/// What a node is answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Handed {
    /// What it shall run; absent if there was never anything for it.
    pub desired: Option<Desired>,
    /// Why it gets nothing, if it knows more than this hub.
    pub paused: Option<String>,
    /// A wave that is open waits for it: for its answer, or until it may have the release.
    pub awaited: bool,
}

impl Active {
    /// A rollout as it is stored. `signed`: bytes of documents by id and version.
    pub fn new(
        plan: Plan,
        rollout: Rollout,
        members: HashMap<NodeNo, Member>,
        signed: impl IntoIterator<Item = (String, u32, Vec<u8>)>,
    ) -> Result<Active, BadSelector> {
        let group = Selector::parse(&plan.group)?;
        let planned = documents::of(&plan);
        let canaries = text::canary_id(rollout.id, &plan);
        let kind = |id: &str, version| {
            planned.iter().find(|one| one.version == version && one.id.to_string() == id).map(|one| one.kind)
        };
        let document = |(id, version, bytes): (String, u32, Vec<u8>)| {
            Some((kind(&id, version)?, Document::from_bytes(&bytes)?))
        };
        let signed = signed.into_iter().filter_map(document).collect();
        let stored = rollout.revision;
        Ok(Active {
            plan,
            rollout,
            members,
            stored,
            is_retired: false,
            releases: Vec::new(),
            group,
            canaries,
            planned,
            signed,
            away: None,
            fits: HashMap::new(),
            told: None,
        })
    }

    /// Whether it may still hand something out.
    pub fn is_active(&self) -> bool {
        !self.is_retired && !self.rollout.released.is_empty()
    }

    /// A document, where it stands in the store and as it was signed.
    pub fn document(&self, kind: Kind) -> Option<(&Planned, &Document)> {
        let planned = self.planned.iter().find(|one| one.kind == kind)?;
        Some((planned, self.signed.get(&kind)?))
    }

    fn fit(&mut self, node: NodeNo, seen: &Seen) -> Fit {
        let Active { plan, group, releases, fits, .. } = self;
        *fits.entry(node).or_insert_with(|| Fit::of(plan, group, releases, &seen.name, &seen.facts))
    }

    /// Whether a node's documents are those of the canaries.
    fn goes_first(&self, name: &str, member: Option<&Member>) -> bool {
        is_canary(&self.plan, name) && member.map_or(self.rollout.wave, |member| member.wave) == 0
    }

    /// The highest version that a check-in names of the documents that this node can get.
    fn accepted(&self, checkin: &CheckIn, member: Option<&Member>) -> u32 {
        let line = match self.goes_first(checkin.node.as_str(), member) {
            true => self.canaries,
            false => self.rollout.id,
        };
        let line = line.to_string();
        let of_line = checkin.accepted.iter().filter(|one| one.id == line);
        of_line.map(|one| u32::try_from(one.version).unwrap_or(u32::MAX)).max().unwrap_or(0)
    }

    fn shares_model(&self, plan: &Plan) -> bool {
        self.plan.what.iter().any(|one| plan.what.iter().any(|other| other.model == one.model))
    }
}

impl Seen {
    /// A node that was just heard of.
    pub fn new(name: &str, seen_ms: WallMs) -> Seen {
        Seen { name: name.to_owned(), seen_ms, ..Seen::default() }
    }

    /// Takes what a check-in says; `facts`: what the store holds of it, as JSON.
    pub fn learn(&mut self, checkin: &CheckIn, facts: Option<&str>) {
        let slot = |slot: &wire::checkin::SlotState| Slot {
            model: slot.model.clone(),
            current: slot.current.as_ref().map(|current| current.release),
            manifest: slot.current.as_ref().map(|current| current.manifest),
            candidate: slot.candidate.as_ref().map(|candidate| candidate.release),
        };
        self.slots = checkin.slots.iter().map(slot).collect();
        self.reported = self.state.conflict.is_some().then(|| Reported::of(checkin));
        // Programs that know of rollouts say at least one of these from their second check-in on.
        self.understands = checkin.hub.is_some() || checkin.revision.is_some() || checkin.inventory.is_some();
        let held = facts.and_then(|text| serde_json::from_str(text).ok());
        let is_held = held.is_some();
        self.facts = held.unwrap_or_default();
        let mut say = |name: &str, fact: Fact| {
            // A name that cannot be one is not asked for either.
            let _ = FactName::new(name).and_then(|name| self.facts.set(name, fact));
        };
        say("name", self.name.as_str().into());
        if !is_held {
            say("version", checkin.version.as_str().into());
            for slot in &checkin.slots {
                if let Some(current) = &slot.current {
                    say(&format!("model.{}", slot.model), (current.release as f64).into());
                    say(&format!("variant.{}", slot.model), current.variant.as_str().into());
                }
            }
        }
    }

    fn is_awake(&self, now_ms: WallMs) -> bool {
        now_ms.saturating_sub(self.seen_ms) < AWAKE_MS
    }
}

impl Engine {
    /// An engine of the hub with this id, which has changed what nodes shall do so many times.
    pub fn new(hub: String, desired: u64) -> Engine {
        Engine { hub, desired, ..Engine::default() }
    }

    /// The hub's id.
    pub fn hub(&self) -> &str {
        &self.hub
    }

    /// See [`Engine::new`].
    pub fn desired(&self) -> u64 {
        self.desired
    }

    /// What must be stored; afterwards nothing must be.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Takes in a rollout.
    pub fn insert(&mut self, active: Active) {
        self.rollouts.insert(active.rollout.id, active);
    }

    /// One rollout.
    pub fn get(&self, id: PlanId) -> Option<&Active> {
        self.rollouts.get(&id)
    }

    /// Every rollout whose stored state is not the one in memory.
    pub fn moved(&mut self) -> impl Iterator<Item = &mut Active> {
        self.rollouts.values_mut().filter(|active| active.rollout.revision != active.stored)
    }

    /// Whether there is anything that time alone could change.
    pub fn is_idle(&self) -> bool {
        self.rollouts.values().all(|active| active.rollout.phase.is_end() || !active.is_active())
    }

    /// Whether no check-in and no record can change anything.
    pub fn is_empty(&self) -> bool {
        self.rollouts.is_empty()
    }

    /// Takes in a node.
    pub fn meet(&mut self, node: NodeNo, seen: Seen) {
        self.fleet.insert(node, seen);
        self.refit(node);
    }

    /// A node says something else of itself than before.
    fn refit(&mut self, node: NodeNo) {
        for active in self.rollouts.values_mut() {
            active.fits.remove(&node);
        }
    }

    /// A node, as far as it is known.
    pub fn seen(&self, node: NodeNo) -> Option<&Seen> {
        self.fleet.get(&node)
    }

    /// A node checks in: what it says of its members, and what it gets. `facts`: see [`Seen::learn`].
    pub fn call(&mut self, node: NodeNo, checkin: &CheckIn, facts: Option<&str>, now_ms: WallMs) -> Handed {
        let name = checkin.node.as_str();
        let seen = self.fleet.entry(node).or_insert_with(|| Seen::new(name, now_ms));
        let was_silent = std::mem::replace(&mut seen.is_silent, false);
        seen.seen_ms = now_ms;
        let before = std::mem::take(&mut seen.facts);
        seen.learn(checkin, facts);
        if before != seen.facts {
            self.refit(node);
        }
        if was_silent {
            self.recount_away();
        }
        let is_ahead = self.compare(node, checkin, now_ms);
        let ids: Vec<PlanId> = self.rollouts.keys().copied().collect();
        for id in ids {
            self.said(id, node, checkin, now_ms);
        }
        if is_ahead {
            return Handed { paused: Some("hub-behind".to_owned()), ..Handed::default() };
        }
        self.follow_revision(node, checkin);
        let (documents, held_back) = self.hand(node, checkin, now_ms);
        let pending = self.rollouts.values().any(|active| {
            active.rollout.phase.is_open()
                && active.members.get(&node).is_some_and(|member| member.standing.is_pending())
        });
        let revision = self.fleet.get(&node).map_or(0, |seen| seen.state.revision);
        let desired = (revision > 0).then_some(Desired { revision, documents });
        Handed { desired, paused: None, awaited: held_back || pending }
    }

    /// Whether a node would be handed something, if it came now, that no answer to it has had.
    pub fn calls(&mut self, node: NodeNo, now_ms: WallMs) -> bool {
        let ids: Vec<PlanId> = self.rollouts.keys().copied().collect();
        ids.into_iter().any(|id| match self.judge(id, node, None, now_ms) {
            Offer::Hand { first: true, .. } => true,
            Offer::Hand { kind, .. } => {
                let member = self.rollouts.get(&id).and_then(|active| active.members.get(&node));
                member.is_some_and(|member| member.version < kind.version())
            }
            Offer::No(_) => false,
        })
    }

    /// What a check-in says of one rollout.
    fn said(&mut self, id: PlanId, node: NodeNo, checkin: &CheckIn, now_ms: WallMs) {
        let (Some(active), Some(seen)) = (self.rollouts.get(&id), self.fleet.get(&node)) else { return };
        let Some(member) = active.members.get(&node) else { return };
        let accepted = active.accepted(checkin, Some(member));
        let reverting = matches!(active.rollout.phase, Phase::Reverting | Phase::Reverted);
        let slots = seen.slots.clone();
        let heard = Heard::CheckIn { accepted, slots: &running(&slots), reverting };
        self.hear(id, node, &heard, None, now_ms);
    }

    /// The documents that a node gets, and the rows that say so; and whether one is held back for now.
    fn hand(&mut self, node: NodeNo, checkin: &CheckIn, now_ms: WallMs) -> (Vec<Document>, bool) {
        let mut ids: Vec<(bool, WallMs, PlanId)> = self
            .rollouts
            .iter()
            .filter(|(_, active)| active.is_active())
            .map(|(id, active)| (active.plan.lane == Lane::Normal, active.plan.created_ms, *id))
            .collect();
        // Emergencies first, then the oldest: who gets two releases of a model gets the newer one last.
        ids.sort_unstable();
        let (mut documents, mut bytes, mut held_back) = (Vec::new(), 0, false);
        for (_, _, id) in ids {
            let (kind, wave, first) = match self.judge(id, node, Some(checkin), now_ms) {
                Offer::Hand { kind, wave, first } => (kind, wave, first),
                Offer::No(why) => {
                    held_back |= matches!(why, Why::Budget { .. } | Why::Rate);
                    continue;
                }
            };
            let Some(active) = self.rollouts.get(&id) else { continue };
            let released = active.rollout.released.contains(&kind);
            let Some((planned, document)) = active.document(kind).filter(|_| released) else { continue };
            bytes += document.bytes().len();
            if documents.len() == DOCUMENTS_MAX || bytes > DOCUMENTS_MAX_BYTES {
                break;
            }
            let (version, document) = (planned.version, document.clone());
            if first {
                self.supersede(id, node, now_ms);
            }
            if self.hear(id, node, &Heard::Offered { wave, version }, None, now_ms) {
                self.change(node);
            }
            documents.push(document);
        }
        (documents, held_back)
    }

    /// Whether a node gets a document of a rollout now, and if not, why not. Without a check-in: as if it came now and named
    /// nothing that it accepted.
    pub fn judge(&mut self, id: PlanId, node: NodeNo, checkin: Option<&CheckIn>, now_ms: WallMs) -> Offer {
        let nothing = Offer::No(Why::Phase("unknown"));
        let fit = self.rollouts.get_mut(&id).zip(self.fleet.get(&node));
        let Some(fit) = fit.map(|(active, seen)| active.fit(node, seen)) else { return nothing };
        if let Some(active) = self.rollouts.get_mut(&id)
            && active.away.is_none()
            && !active.plan.budget.is_empty()
        {
            active.away = Some(away(active, &self.fleet));
        }
        let (Some(active), Some(seen)) = (self.rollouts.get(&id), self.fleet.get(&node)) else {
            return nothing;
        };
        let member = active.members.get(&node);
        let budgets = active.plan.budget.iter().zip(active.away.iter().flatten());
        let unavailable: Vec<u32> = budgets
            .map(|(budget, away)| away.get(&value_of(&seen.facts, &budget.by)).copied().unwrap_or(0))
            .collect();
        let indexes = active.plan.what.iter().map(|target| target.index.to_string());
        let caller = Caller {
            name: &seen.name,
            place: fit.place,
            in_group: fit.in_group,
            understands: seen.understands,
            member,
            accepted: checkin.map_or(0, |checkin| active.accepted(checkin, member)),
            slots: &running(&seen.slots),
            conflict: seen.state.conflict.as_deref(),
            other: self.other(id, node).or_else(|| self.kept_by(node, &active.plan)),
            refused: indexes.into_iter().any(|index| seen.refused.contains(&index)),
            box_until_ms: seen.state.box_until_ms,
            unavailable: &unavailable,
            bytes: fit.bytes,
        };
        offer(&active.plan, &active.rollout, &caller, now_ms)
    }

    /// What a rollout has for a node, in words; `None` if either is not known.
    pub fn why(&mut self, id: PlanId, node: NodeNo, now_ms: WallMs) -> Option<String> {
        let offer = self.judge(id, node, None, now_ms);
        self.fleet.get(&node)?;
        let member = self.rollouts.get(&id)?.members.get(&node);
        Some(match (offer, member) {
            (Offer::No(why), _) => why.to_string(),
            (Offer::Hand { kind, .. }, None) => format!("it gets {kind} when it comes"),
            (Offer::Hand { kind, .. }, Some(member)) => {
                format!("it is {}, and gets {kind} unless it says that it has it", member.standing)
            }
        })
    }

    /// Another rollout of one of the models that is under way on this node, or has come after.
    fn other(&self, id: PlanId, node: NodeNo) -> Option<(PlanId, Lane)> {
        let this = self.rollouts.get(&id)?;
        let is_other = |(other, active): &(&PlanId, &Active)| {
            let Some(member) = active.members.get(&node) else { return false };
            let is_newer = active.plan.created_ms > this.plan.created_ms;
            let is_under_way = member.standing.is_pending()
                || active.rollout.phase == Phase::Reverting && member.standing.is_out();
            let has_it = is_newer && member.standing == Standing::Succeeded;
            **other != id && active.is_active() && (is_under_way || has_it) && active.shares_model(&this.plan)
        };
        self.rollouts.iter().find(is_other).map(|(id, active)| (*id, active.plan.lane))
    }

    /// What was under way on a node that another rollout takes over.
    fn supersede(&mut self, id: PlanId, node: NodeNo, now_ms: WallMs) {
        let Some(this) = self.rollouts.get(&id) else { return };
        let is_other = |(other, active): &(&PlanId, &Active)| {
            let under_way = active
                .members
                .get(&node)
                .is_some_and(|member| member.standing.is_pending() || member.standing == Standing::Unknown);
            **other != id && under_way && active.shares_model(&this.plan)
        };
        let others: Vec<PlanId> = self.rollouts.iter().filter(is_other).map(|(id, _)| *id).collect();
        for other in others {
            self.hear(other, node, &Heard::Superseded, None, now_ms);
        }
    }

    /// An install record of a node was stored, under this number.
    pub fn installed(&mut self, node: NodeNo, install: &Install, record: i64, now_ms: WallMs) {
        let ids: Vec<PlanId> = self.rollouts.keys().copied().collect();
        for id in ids {
            let heard = Heard::Installed { install, kernel_same: install.kernel_same };
            self.hear(id, node, &heard, Some(record), now_ms);
        }
        if install.outcome == "safe" {
            self.troubled(node, now_ms, now_ms);
        }
        let index = install.index.to_string();
        if install.outcome == "refused"
            && self.fleet.get_mut(&node).is_some_and(|seen| seen.refused.insert(index.clone()))
        {
            let (model, why) = (install.model.clone(), install.why.clone());
            self.changes.refused.push(Refusal { node, model, index, why });
        }
    }

    /// A node has fallen silent.
    pub fn silent(&mut self, node: NodeNo, now_ms: WallMs) {
        let Some(seen) = self.fleet.get_mut(&node) else { return };
        seen.is_silent = true;
        self.recount_away();
        let ids: Vec<PlanId> = self.rollouts.keys().copied().collect();
        for id in ids {
            self.hear(id, node, &Heard::Silent, None, now_ms);
            self.trouble(id, node, now_ms);
        }
    }

    /// Some time passed.
    pub fn tick(&mut self, now_ms: WallMs) {
        let under_way = self.rollouts.iter().filter(|(_, active)| !active.rollout.phase.is_end());
        let ids: Vec<PlanId> = under_way.map(|(id, _)| *id).collect();
        for id in ids {
            self.weigh(id, now_ms);
            let view = self.view(id, now_ms);
            self.step(id, Event::Tick(view), now_ms);
        }
    }

    /// The fleet around a rollout.
    fn view(&mut self, id: PlanId, now_ms: WallMs) -> View {
        let Some(active) = self.rollouts.get_mut(&id) else { return View::default() };
        let mut view = View { wave: active.rollout.wave, ..View::default() };
        let mut others = Vec::new();
        for (node, seen) in &self.fleet {
            match active.members.get(node) {
                Some(member) if member.standing.is_out() && seen.is_awake(now_ms) => view.returning += 1,
                Some(_) => {}
                None => {
                    view.held_out += u32::from(active.fit(*node, seen).in_group);
                    others.push(*node);
                }
            }
        }
        if !active.rollout.phase.is_open() {
            return view;
        }
        for node in others {
            let is_awake = self.fleet.get(&node).is_some_and(|seen| seen.is_awake(now_ms));
            match self.judge(id, node, None, now_ms) {
                Offer::No(Why::HadIt) => view.had_it += 1,
                Offer::Hand { .. }
                | Offer::No(Why::Budget { .. } | Why::Rate | Why::Box { .. } | Why::Other(_)) => {
                    *(if is_awake { &mut view.waiting } else { &mut view.asleep }) += 1;
                }
                // It will not get it as it is, so nobody waits for it.
                Offer::No(_) => {}
            }
        }
        view
    }

    /// Documents of a rollout that were signed.
    pub fn signed(&mut self, id: PlanId, documents: &[(Kind, Vec<u8>)], now_ms: WallMs) {
        let Some(active) = self.rollouts.get_mut(&id) else { return };
        for (kind, bytes) in documents {
            if let Some(document) = Document::from_bytes(bytes) {
                active.signed.insert(*kind, document);
                self.changes.signed.push((id, *kind));
            }
        }
        let kinds = active.signed.keys().copied().collect();
        self.step(id, Event::Signed(kinds), now_ms);
    }

    /// A person wants something.
    pub fn order(
        &mut self,
        id: PlanId,
        order: Order,
        who: &str,
        why: &str,
        now_ms: WallMs,
    ) -> Result<(), NotNow> {
        if let Some(active) = self.rollouts.get(&id) {
            allows(&active.plan, &active.rollout, order, who, now_ms)?;
        }
        let (who, why) = (who.to_owned(), why.to_owned());
        self.step(id, Event::Ordered { order, who, why }, now_ms);
        Ok(())
    }

    /// What is heard of a member; whether its row changed.
    fn hear(
        &mut self,
        id: PlanId,
        node: NodeNo,
        heard: &Heard<'_>,
        record: Option<i64>,
        now_ms: WallMs,
    ) -> bool {
        let Some(active) = self.rollouts.get_mut(&id) else { return false };
        let before = active.members.get(&node);
        let Some((member, happened)) = hear(&active.plan, before.cloned(), heard, now_ms) else {
            return false;
        };
        let is_other = before != Some(&member);
        if is_other {
            active.members.insert(node, member);
            let place = self.changes.members.entry((id, node)).or_default();
            *place = record.or(*place);
        }
        if let Some(mut happened) = happened {
            if happened.from == Standing::Waiting {
                happened.bytes = active.fits.get(&node).map_or(0, |fit| fit.bytes);
            }
            active.away = None;
            self.mind(node, happened, now_ms);
            self.step(id, Event::Happened(node, happened), now_ms);
        }
        is_other
    }

    /// Who fails gets nothing new for a while, longer each time.
    fn mind(&mut self, node: NodeNo, happened: Happened, now_ms: WallMs) {
        let Some(seen) = self.fleet.get_mut(&node) else { return };
        let state = &mut seen.state;
        match happened.to {
            Standing::Failed => {
                state.failures = state.failures.saturating_add(1);
                state.box_until_ms = now_ms + box_ms(state.failures);
            }
            Standing::Succeeded if state.failures > 0 => (state.failures, state.box_until_ms) = (0, 0),
            _ => return,
        }
        self.changes.nodes.insert(node);
    }

    fn step(&mut self, id: PlanId, event: Event, now_ms: WallMs) {
        let Some(active) = self.rollouts.get_mut(&id) else { return };
        let was_done = active.rollout.phase == Phase::Done;
        let (rollout, effects) = step(&active.plan, active.rollout.clone(), event, now_ms);
        active.rollout = rollout;
        self.changes.effects.extend(effects.into_iter().map(|effect| (id, effect)));
        if !was_done && active.rollout.phase == Phase::Done {
            self.retire_before(id);
        }
    }

    /// Older rollouts of the same models to the same group hand out nothing once this one is done.
    fn retire_before(&mut self, id: PlanId) {
        let Some(this) = self.rollouts.get(&id) else { return };
        let (plan, made_ms) = (this.plan.clone(), this.plan.created_ms);
        for (other, active) in &mut self.rollouts {
            let covered = active.plan.what.iter().all(|one| plan.what.iter().any(|it| it.model == one.model));
            let same_group = active.plan.group == plan.group || plan.group == "all";
            let is_older = active.plan.created_ms < made_ms && active.rollout.phase.is_end();
            if *other != id && covered && same_group && is_older && !active.is_retired {
                active.is_retired = true;
                active.rollout.revision += 1;
            }
        }
    }

    fn recount_away(&mut self) {
        self.rollouts.values_mut().for_each(|active| active.away = None);
    }

    /// What a plan would do to the fleet, as it is now. `release`: of its first target; `pinned`: nodes with an assignment of
    /// their own.
    pub fn preview(
        &self,
        plan: &Plan,
        release: Option<&Release>,
        pinned: &BTreeSet<String>,
        now_ms: WallMs,
    ) -> Result<Preview, BadSelector> {
        let mut fleet = Vec::with_capacity(self.fleet.len());
        for seen in self.fleet.values() {
            let boxed = now_ms < seen.state.box_until_ms;
            let pinned = pinned.contains(seen.name.as_str());
            fleet.push(Known { name: &seen.name, facts: &seen.facts, pinned, boxed });
        }
        coverage::preview(plan, release, &fleet)
    }
}

impl Seen {
    /// What stands in its slots.
    pub fn running(&self) -> Vec<Running<'_>> {
        running(&self.slots)
    }

    /// The manifest that serves a model, and of which release it is.
    pub fn serves(&self, model: &ModelName) -> Option<(u64, Hash)> {
        let slot = self.slots.iter().find(|slot| slot.model == model.as_str())?;
        slot.current.zip(slot.manifest)
    }
}

fn running(slots: &[Slot]) -> Vec<Running<'_>> {
    let mut running = Vec::with_capacity(slots.len());
    for Slot { model, current, candidate, .. } in slots {
        running.push(Running { model, current: *current, candidate: *candidate });
    }
    running
}

/// For each budget of a plan: how many nodes that share the label's value are in change or silent.
fn away(active: &Active, fleet: &HashMap<NodeNo, Seen>) -> Vec<HashMap<String, u32>> {
    let mut away = vec![HashMap::new(); active.plan.budget.len()];
    for (node, seen) in fleet {
        let in_change = active.members.get(node).is_some_and(|member| member.standing.is_pending());
        let is_away = in_change || seen.is_silent && active.group.has(&seen.facts);
        if !is_away {
            continue;
        }
        for (budget, counts) in active.plan.budget.iter().zip(&mut away) {
            *counts.entry(value_of(&seen.facts, &budget.by)).or_default() += 1;
        }
    }
    away
}

/// The value of a label or another fact, as text; empty if there is none.
fn value_of(facts: &Facts, name: &str) -> String {
    let name = FactName::new(name).or_else(|_| FactName::of_label(name));
    name.ok().and_then(|name| facts.find(&name).map(ToString::to_string)).unwrap_or_default()
}
