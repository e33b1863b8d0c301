//! All experiments that may still hand something out, in memory, beside the rollouts and on the same fleet. Pure, as
//! [`crate::rollout::engine`] is: whoever carries it out stores its changes before anything leaves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use package::index::Release;
use package::name::ModelName;
use wire::body::{Behaviour, Install};
use wire::checkin::{CheckIn, DOCUMENTS_MAX, DOCUMENTS_MAX_BYTES, Document};
use wire::facts::{Fact, FactName, Facts};
use wire::select::{BadSelector, Selector};
use wire::world::WallMs;

use crate::experiment::documents::{self, Planned};
use crate::experiment::plan::{Arm, Plan, Which};
use crate::experiment::shadow::Count;
use crate::experiment::sheet::Sheet;
use crate::experiment::split::place;
use crate::experiment::step::{Effect, Event, Experiment, NotNow, Order, Phase, step};
use crate::rollout::engine::{Engine, Handed, Seen};
use crate::rollout::figures::Hour;
use crate::rollout::fit::fetched;
use crate::rollout::member::{Happened, Heard, Member, Standing, hear_of};
use crate::rollout::plan::PlanId;
use crate::rollout::step::NodeNo;

/// What a node says it can that knows the word.
const SHADOW: &str = "shadow";
/// What a node says of a release that answers beside what runs, as it was ordered to.
const BESIDE: &str = "beside";

/// The experiments under way.
#[derive(Debug, Default)]
pub struct Experiments {
    all: BTreeMap<PlanId, Active>,
    changes: Changes,
    /// Members whose figure is to be taken.
    due: BTreeSet<(PlanId, NodeNo)>,
}

/// One experiment.
#[derive(Debug)]
pub struct Active {
    /// What was decided.
    pub plan: Plan,
    /// Where it stands.
    pub it: Experiment,
    /// Everybody who takes part; a member's `wave` is its arm.
    pub members: HashMap<NodeNo, Member>,
    /// What they told.
    pub sheets: HashMap<NodeNo, Sheet>,
    /// The revision that is stored.
    pub stored: u64,
    /// The releases of the arms, in their order, where the hub has them.
    pub releases: Vec<Option<Release>>,
    group: Selector,
    planned: Vec<Planned>,
    signed: BTreeMap<Which, Document>,
}

/// What the transaction that runs must store.
#[derive(Debug, Default)]
pub struct Changes {
    /// Members that stand elsewhere, and the record that says so.
    pub members: BTreeMap<(PlanId, NodeNo), Option<i64>>,
    /// Members that told something.
    pub sheets: BTreeSet<(PlanId, NodeNo)>,
    /// What is to be done beside, in order.
    pub effects: Vec<(PlanId, Effect)>,
    /// Documents that were signed.
    pub signed: Vec<(PlanId, Which)>,
}

/// What a node gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Offer {
    /// It takes part from now on, and runs the release already.
    Enrol(usize),
    /// A document.
    Hand {
        /// Which.
        which: Which,
        /// Its arm.
        arm: usize,
        /// Whether it is the first: a row is to be made, before the answer leaves.
        first: bool,
    },
}

impl Active {
    /// An experiment as it is stored. `signed`: bytes of documents by version.
    pub fn new(
        plan: Plan,
        it: Experiment,
        members: HashMap<NodeNo, Member>,
        sheets: HashMap<NodeNo, Sheet>,
        signed: impl IntoIterator<Item = (u32, Vec<u8>)>,
    ) -> Result<Active, BadSelector> {
        let group = Selector::parse(&plan.group)?;
        let planned = documents::of(&plan);
        let document = |(version, bytes): (u32, Vec<u8>)| {
            let planned = planned.iter().find(|one| one.version == version)?;
            Some((planned.kind, Document::from_bytes(&bytes)?))
        };
        let signed = signed.into_iter().filter_map(document).collect();
        let stored = it.revision;
        Ok(Active { plan, it, members, sheets, stored, releases: Vec::new(), group, planned, signed })
    }

    /// Whether it may still hand something out.
    pub fn is_active(&self) -> bool {
        match self.it.phase {
            Phase::Draft | Phase::Ready => false,
            Phase::Running | Phase::Returning => true,
            Phase::Ended => {
                let goes_back = self.it.released.contains(&Which::Back);
                goes_back && self.members.values().any(|member| self.must_go_back(member))
            }
        }
    }

    /// A document, where it stands in the store and as it was signed.
    pub fn document(&self, which: Which) -> Option<(&Planned, &Document)> {
        let planned = self.planned.iter().find(|one| one.kind == which)?;
        Some((planned, self.signed.get(&which)?))
    }

    /// The model that it is about.
    pub fn model(&self) -> &ModelName {
        self.plan.model()
    }

    /// Whether a member was changed, and is not back.
    fn must_go_back(&self, member: &Member) -> bool {
        member.version > 0 && member.standing.is_out() && self.leads_away(member)
    }

    /// Whether a member's arm runs something else than what nodes go back to; what answers beside it always does.
    fn leads_away(&self, member: &Member) -> bool {
        let base = self.plan.two().map(|arms| arms.base.index);
        self.arm(member).is_some_and(|arm| Some(arm.target.index) != base)
    }

    fn arm(&self, member: &Member) -> Option<Arm<'_>> {
        self.plan.arms().into_iter().find(|arm| u32::try_from(arm.at).ok() == Some(member.wave))
    }

    /// Holds the model on a node: against other experiments, and if it changes what runs, against rollouts.
    fn hold(&self, fleet: &mut Engine, node: NodeNo) {
        fleet.hold(node, self.model(), self.it.id, self.plan.two().is_some());
    }

    /// Bytes that a node would fetch.
    fn bytes(&self, arm: &Arm<'_>, seen: &Seen) -> u64 {
        let release = self.releases.get(arm.at).and_then(Option::as_ref);
        fetched(arm.target, release, &seen.facts)
    }

    /// What a node gets, having accepted this version before; 0: none.
    fn offer(&self, fleet: &Engine, node: NodeNo, accepted: u32, now_ms: WallMs) -> Result<Offer, String> {
        let seen = fleet.seen(node).ok_or("the hub does not know it")?;
        if let Some(conflict) = &seen.state.conflict {
            return Err(conflict.clone());
        }
        if let Some(member) = self.members.get(&node) {
            return self.go_on(member, accepted);
        }
        if self.it.phase != Phase::Running {
            return Err(format!("the experiment is {}", self.it.phase.as_str()));
        }
        let place = place(&self.plan, &seen.name);
        let arm = self.plan.arm_of(place).ok_or_else(|| format!("its place is {place}, in no arm"))?;
        if !self.group.has(&seen.facts) {
            return Err("the group does not have it".to_owned());
        }
        let model = self.model();
        if let Some(id) = fleet.under_way(node, model) {
            return Err(format!("rollout {id} is under way on it"));
        }
        if let Some(id) = fleet.holder(node, model, Some(self.it.id)) {
            return Err(format!("experiment {id} is under way on it"));
        }
        if now_ms < seen.state.box_until_ms {
            return Err("it failed lately".to_owned());
        }
        let serves = seen.serves(model).map(|(release, _)| release);
        let has_it = serves == Some(arm.target.release);
        if self.plan.shadow().is_some() {
            if has_it {
                return Err("it runs the release already: there is nothing to compare".to_owned());
            }
            if serves.is_none() {
                return Err(format!("it runs no release of {model} that could be compared"));
            }
            if !can(&seen.facts, SHADOW) {
                return Err("its version cannot let a release answer beside another, or its owner lets none"
                    .to_owned());
            }
        } else if has_it {
            return Ok(Offer::Enrol(arm.at));
        }
        if !seen.understands {
            return Err("its version does not understand documents of rollouts".to_owned());
        }
        if seen.refused.contains(&arm.target.index.to_string()) {
            return Err("it has refused this release before".to_owned());
        }
        if !self.it.recent.allows(self.plan.rate, self.bytes(&arm, seen), now_ms) {
            return Err("enough nodes got it in the last minute".to_owned());
        }
        Ok(Offer::Hand { which: self.plan.opens(arm.at), arm: arm.at, first: true })
    }

    /// What a member gets.
    fn go_on(&self, member: &Member, accepted: u32) -> Result<Offer, String> {
        let arm = self.arm(member).ok_or("it is in no arm")?.at;
        if matches!(self.it.phase, Phase::Returning | Phase::Ended) {
            let has_one = (1..Which::Back.version()).contains(&accepted);
            let released = self.it.released.contains(&Which::Back);
            if has_one && released && member.version > 0 && self.leads_away(member) {
                return Ok(Offer::Hand { which: Which::Back, arm, first: false });
            }
            return Err(format!("it is {}", member.standing));
        }
        let waits = member.standing.is_pending() || member.standing == Standing::Unknown;
        if waits && accepted == 0 && member.version > 0 {
            return Ok(Offer::Hand { which: self.plan.opens(arm), arm, first: false });
        }
        Err(format!("it is {}", member.standing))
    }
}

impl Experiments {
    /// Takes in an experiment.
    pub fn insert(&mut self, active: Active, fleet: &mut Engine) {
        if active.is_active() && active.it.phase != Phase::Ended {
            active.members.keys().for_each(|node| active.hold(fleet, *node));
        }
        self.all.insert(active.it.id, active);
    }

    /// One experiment.
    pub fn get(&self, id: PlanId) -> Option<&Active> {
        self.all.get(&id)
    }

    /// Whether no check-in and no record can change anything.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether there is anything that time alone could change.
    pub fn is_idle(&self) -> bool {
        self.all.values().all(|active| active.it.phase == Phase::Ended || !active.is_active())
    }

    /// Every experiment whose stored state is not the one in memory.
    pub fn moved(&mut self) -> impl Iterator<Item = &mut Active> {
        self.all.values_mut().filter(|active| active.it.revision != active.stored)
    }

    /// What must be stored; afterwards nothing must be.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Members whose figure is to be taken: [`Experiments::count`].
    pub fn take_due(&mut self) -> BTreeSet<(PlanId, NodeNo)> {
        std::mem::take(&mut self.due)
    }

    fn ids(&self) -> Vec<PlanId> {
        self.all.keys().copied().collect()
    }

    /// A node that the fleet has just heard of checks in: what it says of its members, and what it gets beside what rollouts
    /// give it.
    pub fn call(
        &mut self,
        fleet: &mut Engine,
        node: NodeNo,
        checkin: &CheckIn,
        handed: &mut Handed,
        now_ms: WallMs,
    ) {
        let mut documents: Vec<Document> = Vec::new();
        for id in self.ids() {
            self.said(id, fleet, node, checkin, now_ms);
            if handed.paused.is_some() {
                continue;
            }
            let Some(active) = self.all.get(&id).filter(|active| active.is_active()) else { continue };
            match active.offer(fleet, node, accepted(id, checkin), now_ms) {
                Ok(Offer::Enrol(arm)) => self.enrol(id, fleet, node, arm, now_ms),
                Ok(Offer::Hand { which, arm, first }) => {
                    let released = active.it.released.contains(&which);
                    let Some((_, document)) = active.document(which).filter(|_| released) else { continue };
                    let document = document.clone();
                    let others = handed.desired.iter().flat_map(|desired| &desired.documents);
                    let all = others.chain(&documents).chain([&document]);
                    let (count, bytes) =
                        all.fold((0, 0), |(count, bytes), one| (count + 1, bytes + one.bytes().len()));
                    if count > DOCUMENTS_MAX || bytes > DOCUMENTS_MAX_BYTES {
                        break;
                    }
                    let bytes = self.fetches(id, fleet, node, arm);
                    let wave = u32::try_from(arm).unwrap_or(u32::MAX);
                    let heard = Heard::Offered { wave, version: which.version() };
                    if self.hear(id, fleet, node, Some(arm), &heard, None, bytes, now_ms) {
                        fleet.change(node);
                    }
                    if first && let Some(active) = self.all.get(&id) {
                        active.hold(fleet, node);
                    }
                    documents.push(document);
                }
                Err(_) => {}
            }
        }
        if let Some(revision) = fleet.seen(node).map(|seen| seen.state.revision).filter(|it| *it > 0)
            && !documents.is_empty()
        {
            let desired = handed.desired.get_or_insert_with(Default::default);
            desired.revision = revision;
            desired.documents.extend(documents);
        }
    }

    fn fetches(&self, id: PlanId, fleet: &Engine, node: NodeNo, arm: usize) -> u64 {
        let found = self.all.get(&id).zip(fleet.seen(node));
        let bytes = found.and_then(|(active, seen)| {
            let arm = active.plan.arms().into_iter().find(|one| one.at == arm)?;
            Some(active.bytes(&arm, seen))
        });
        bytes.unwrap_or(0)
    }

    /// What an experiment has for a node, in words; `None` if either is not known.
    pub fn why(&self, fleet: &Engine, id: PlanId, node: NodeNo, now_ms: WallMs) -> Option<String> {
        let active = self.all.get(&id)?;
        fleet.seen(node)?;
        Some(match active.offer(fleet, node, 0, now_ms) {
            Ok(Offer::Enrol(arm)) => {
                format!("it takes part in arm {}", active.plan.arm_name(arm))
            }
            Ok(Offer::Hand { which, .. }) => format!("it gets the document of {which} when it comes"),
            Err(why) => why,
        })
    }

    /// What a check-in says of one experiment.
    fn said(&mut self, id: PlanId, fleet: &mut Engine, node: NodeNo, checkin: &CheckIn, now_ms: WallMs) {
        let (Some(active), Some(seen)) = (self.all.get(&id), fleet.seen(node)) else { return };
        if !active.members.contains_key(&node) {
            return;
        }
        let reverting = matches!(active.it.phase, Phase::Returning | Phase::Ended)
            && active.it.released.contains(&Which::Back);
        let seen = seen.clone();
        let heard = Heard::CheckIn { accepted: accepted(id, checkin), slots: &seen.running(), reverting };
        self.hear(id, fleet, node, None, &heard, None, 0, now_ms);
    }

    /// A node that runs its arm's release already takes part as it is.
    fn enrol(&mut self, id: PlanId, fleet: &mut Engine, node: NodeNo, arm: usize, now_ms: WallMs) {
        let Some(active) = self.all.get_mut(&id) else { return };
        let wave = u32::try_from(arm).unwrap_or(u32::MAX);
        let member = Member {
            wave,
            standing: Standing::Succeeded,
            version: 0,
            done: 1,
            offered_ms: now_ms,
            changed_ms: now_ms,
            why: "it ran the release already".to_owned(),
            kernel_same: None,
        };
        active.members.insert(node, member);
        active.hold(fleet, node);
        self.changes.members.entry((id, node)).or_default();
        let happened = Happened { wave, from: Standing::Waiting, to: Standing::Succeeded, bytes: 0 };
        self.step(id, fleet, Event::Happened { arm, happened }, now_ms);
    }

    /// An install record of a node was stored, under this number.
    pub fn installed(
        &mut self,
        fleet: &mut Engine,
        node: NodeNo,
        install: &Install,
        record: i64,
        now_ms: WallMs,
    ) {
        for id in self.ids() {
            let mut heard = Heard::Installed { install, kernel_same: install.kernel_same };
            if self.all.get(&id).is_some_and(|active| active.plan.shadow().is_some()) {
                // Another order may have brought the same release.
                if install.rollout.as_deref() != Some(&id.to_string()) {
                    continue;
                }
                if install.outcome == BESIDE {
                    heard = Heard::Beside;
                }
            }
            self.hear(id, fleet, node, None, &heard, Some(record), 0, now_ms);
        }
    }

    /// A node has fallen silent.
    pub fn silent(&mut self, fleet: &mut Engine, node: NodeNo, now_ms: WallMs) {
        for id in self.ids() {
            self.hear(id, fleet, node, None, &Heard::Silent, None, 0, now_ms);
        }
    }

    /// A node told how a model behaved for a while.
    pub fn behaved(
        &mut self,
        fleet: &mut Engine,
        node: NodeNo,
        behaviour: &Behaviour,
        told: &Hour,
        now_ms: WallMs,
    ) {
        if self.is_empty() {
            return;
        }
        let Some(seen) = fleet.seen(node).cloned() else { return };
        for id in self.ids() {
            let Some(active) = self.all.get_mut(&id) else { continue };
            if active.it.phase != Phase::Running || active.model().as_str() != behaviour.model {
                continue;
            }
            let Some(member) = active.members.get(&node) else { continue };
            if active.plan.shadow().is_some() {
                self.compared(id, fleet, node, &seen.name, behaviour, now_ms);
                continue;
            }
            let Some(arm) = active.arm(member) else { continue };
            let by_us = behaviour.rollout.as_deref() == Some(&id.to_string());
            let had_it = seen.serves(active.model()) == Some((arm.target.release, behaviour.manifest));
            if !(by_us || had_it) {
                continue;
            }
            let asked = behaviour.answered.saturating_add(behaviour.failed);
            active.sheets.entry(node).or_default().hear(told, asked);
            self.changes.sheets.insert((id, node));
            self.look(id, node);
        }
    }

    /// A node told what it compared of a release that answers beside what runs.
    fn compared(
        &mut self,
        id: PlanId,
        fleet: &mut Engine,
        node: NodeNo,
        name: &str,
        behaviour: &Behaviour,
        now_ms: WallMs,
    ) {
        let Some(active) = self.all.get_mut(&id) else { return };
        let Some(shadow) = active.plan.shadow() else { return };
        let told = behaviour.shadow.as_ref().filter(|it| it.experiment.as_deref() == Some(&id.to_string()));
        // A node that is asked for so many ends with the record in which it has them: one that tells of more is not believed.
        let most = u64::from(shadow.limits.answers);
        let Some(more) = told.and_then(|told| Count::of(told, most)) else { return };
        let whole = active.sheets.entry(node).or_default().compared.get_or_insert_default();
        if whole.compared >= most {
            return;
        }
        whole.add(&more);
        let whole = *whole;
        self.changes.sheets.insert((id, node));
        self.step(id, fleet, Event::Compared { node: name.to_owned(), more, whole }, now_ms);
    }

    /// Marks a member whose figure can be taken: it has its release, and told enough.
    fn look(&mut self, id: PlanId, node: NodeNo) {
        let Some(active) = self.all.get(&id) else { return };
        let Some(member) = active.members.get(&node) else { return };
        let Some(arms) = active.plan.two() else { return };
        let enough = active.sheets.get(&node).is_some_and(|sheet| sheet.is_enough(&arms.measure));
        if enough && member.standing == Standing::Succeeded && active.it.phase == Phase::Running {
            self.due.insert((id, node));
        }
    }

    /// Takes a member's figure. `before`: the last day before it was offered that it told of.
    pub fn count(
        &mut self,
        fleet: &mut Engine,
        id: PlanId,
        node: NodeNo,
        before: Option<&Hour>,
        now_ms: WallMs,
    ) {
        let Some(active) = self.all.get_mut(&id) else { return };
        let Some(member) = active.members.get(&node) else { return };
        let arm = usize::try_from(member.wave).unwrap_or(usize::MAX);
        let Some(arms) = active.plan.two() else { return };
        let sheet = active.sheets.entry(node).or_default();
        if sheet.taken.is_some() || active.it.phase != Phase::Running {
            return;
        }
        let value = sheet.take(&arms.measure, before, now_ms);
        self.changes.sheets.insert((id, node));
        if let Some(value) = value {
            self.step(id, fleet, Event::Counted { arm, value }, now_ms);
        }
    }

    /// Some time passed.
    pub fn tick(&mut self, fleet: &mut Engine, now_ms: WallMs) {
        for id in self.ids() {
            let Some(active) = self.all.get(&id) else { continue };
            if active.it.phase == Phase::Ended {
                continue;
            }
            let is_out = |(node, member): &(&NodeNo, &Member)| {
                active.must_go_back(member) && fleet.is_awake(**node, now_ms)
            };
            let returning = active.members.iter().filter(is_out).count();
            let returning = u32::try_from(returning).unwrap_or(u32::MAX);
            self.step(id, fleet, Event::Tick { returning }, now_ms);
        }
    }

    /// Documents of an experiment that were signed.
    pub fn signed(&mut self, fleet: &mut Engine, id: PlanId, documents: &[(Which, Vec<u8>)], now_ms: WallMs) {
        let Some(active) = self.all.get_mut(&id) else { return };
        for (which, bytes) in documents {
            if let Some(document) = Document::from_bytes(bytes) {
                active.signed.insert(*which, document);
                self.changes.signed.push((id, *which));
            }
        }
        let all = active.signed.keys().copied().collect();
        self.step(id, fleet, Event::Signed(all), now_ms);
    }

    /// A person wants something.
    pub fn order(
        &mut self,
        fleet: &mut Engine,
        id: PlanId,
        order: Order,
        who: &str,
        why: &str,
        now_ms: WallMs,
    ) -> Result<(), NotNow> {
        if let Some(active) = self.all.get(&id) {
            active.it.allows(&active.plan, order, now_ms)?;
        }
        let (who, why) = (who.to_owned(), why.to_owned());
        self.step(id, fleet, Event::Ordered { order, who, why }, now_ms);
        Ok(())
    }

    /// What is heard of a member; whether its row changed. `arm`: of one that has no row yet.
    #[expect(clippy::too_many_arguments, reason = "each is one thing that a member's row needs")]
    fn hear(
        &mut self,
        id: PlanId,
        fleet: &mut Engine,
        node: NodeNo,
        arm: Option<usize>,
        heard: &Heard<'_>,
        record: Option<i64>,
        bytes: u64,
        now_ms: WallMs,
    ) -> bool {
        let Some(active) = self.all.get_mut(&id) else { return false };
        let before = active.members.get(&node).cloned();
        let arm = before.as_ref().and_then(|member| usize::try_from(member.wave).ok()).or(arm);
        let arms = active.plan.arms();
        let Some(arm) = arms.iter().find(|one| Some(one.at) == arm) else { return false };
        let (at, target) = (arm.at, arm.target.clone());
        let heard = hear_of(std::slice::from_ref(&target), before.clone(), heard, now_ms);
        let Some((member, happened)) = heard else { return false };
        let is_other = before.as_ref() != Some(&member);
        if is_other {
            active.members.insert(node, member);
            let place = self.changes.members.entry((id, node)).or_default();
            *place = record.or(*place);
        }
        if let Some(mut happened) = happened {
            if happened.from == Standing::Waiting {
                happened.bytes = bytes;
            }
            self.step(id, fleet, Event::Happened { arm: at, happened }, now_ms);
            self.look(id, node);
        }
        is_other
    }

    fn step(&mut self, id: PlanId, fleet: &mut Engine, event: Event, now_ms: WallMs) {
        let Some(active) = self.all.get_mut(&id) else { return };
        let was_over = active.it.phase == Phase::Ended;
        let (it, effects) = step(&active.plan, active.it.clone(), event, now_ms);
        active.it = it;
        self.changes.effects.extend(effects.into_iter().map(|effect| (id, effect)));
        if !was_over && active.it.phase == Phase::Ended {
            fleet.let_go(id);
        }
    }
}

/// Whether a node says that its program can do this.
fn can(facts: &Facts, what: &str) -> bool {
    FactName::new("can").is_ok_and(|name| match facts.get(&name) {
        Some(Fact::List(words)) => words.iter().any(|word| word == what),
        _ => false,
    })
}

/// The highest version that a check-in names of an experiment's documents; 0: none.
fn accepted(id: PlanId, checkin: &CheckIn) -> u32 {
    let id = id.to_string();
    let of_it = checkin.accepted.iter().filter(|one| one.id == id);
    of_it.map(|one| u32::try_from(one.version).unwrap_or(u32::MAX)).max().unwrap_or(0)
}
