//! What leads rollouts: the hub's engine over rows in memory here, over a real store in [`super::stored`].
//!
//! Nothing is decided here. Every call ends with what changed in the rows, as the hub's transaction does; a restart forgets
//! everything else.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use hub::rollout::documents;
use hub::rollout::engine::{Active, Engine, Handed, Seen};
use hub::rollout::member::Member;
use hub::rollout::plan::{Kind, Plan, PlanId};
use hub::rollout::step::{Act, Effect, NodeNo, Order, Rollout};
use hub::rollout::text;
use hub::store::rollouts::NodeState;
use hub::watch;
use package::trust::canonical::{Value, to_json};
use wire::body::Install;
use wire::checkin::CheckIn;

/// When a node that missed its invitation is to come again, in milliseconds.
pub(crate) const NEXT_MS: u64 = 600_000;
pub(crate) const HUB: &str = "00112233445566778899aabbccddeeff";

/// What leads rollouts.
pub(crate) trait Leader {
    /// Takes in a plan, with all its documents signed.
    fn create(&mut self, plan: &Plan, now_ms: i64) -> anyhow::Result<PlanId>;
    /// A person orders; false if it cannot be now.
    fn order(&mut self, id: PlanId, order: Order, now_ms: i64) -> anyhow::Result<bool>;
    /// A node checks in.
    fn check_in(&mut self, checkin: &CheckIn, now_ms: i64) -> anyhow::Result<Handed>;
    /// The record of an install comes from the node that checks in so.
    fn installed(&mut self, checkin: &CheckIn, install: &Install, now_ms: i64) -> anyhow::Result<()>;
    /// Some time passed: silent nodes, then gates.
    fn tick(&mut self, now_ms: i64) -> anyhow::Result<()>;
    /// The process ends and another begins.
    fn restart(&mut self);
    /// What the audit log was told of rollouts since it was asked last.
    fn acts(&mut self) -> anyhow::Result<Vec<(PlanId, Act)>>;
    fn rollout(&mut self, id: PlanId) -> anyhow::Result<Rollout>;
    /// Whether it or a member of it may have changed since it was asked last.
    fn has_moved(&mut self, _: PlanId) -> bool {
        true
    }
    /// Members by name.
    fn members(&mut self, id: PlanId) -> anyhow::Result<BTreeMap<String, Member>>;
    /// What the rollout has for a node, in words.
    fn why(&mut self, _: PlanId, _: &str, _: i64) -> Option<String> {
        None
    }
}

/// Documents that nobody has signed.
pub(crate) fn unsigned(plan: &Plan) -> Vec<(Kind, Vec<u8>)> {
    let document = |planned: documents::Planned| {
        let signatures = ("signatures", Value::List(Vec::new()));
        (planned.kind, to_json(&Value::object([("signed", planned.value), signatures])))
    };
    documents::of(plan).into_iter().map(document).collect()
}

/// The hub in memory.
pub(crate) struct Memory {
    engine: Engine,
    has_fleet: bool,
    pub(crate) rows: Rows,
    acts: Vec<(PlanId, Act)>,
    moved: BTreeSet<PlanId>,
}

/// What is on disk.
#[derive(Clone, Default)]
pub(crate) struct Rows {
    desired: u64,
    numbers: BTreeMap<String, NodeNo>,
    nodes: BTreeMap<NodeNo, NodeRow>,
    rollouts: BTreeMap<PlanId, (Plan, String, bool)>,
    members: BTreeMap<(PlanId, NodeNo), Member>,
    documents: BTreeMap<(PlanId, String, u32), Vec<u8>>,
    refused: BTreeSet<(NodeNo, String)>,
}

#[derive(Clone)]
struct NodeRow {
    checkin: CheckIn,
    facts: Option<String>,
    seen_ms: i64,
    is_silent: bool,
    state: NodeState,
}

impl Memory {
    pub(crate) fn new() -> Memory {
        let engine = Engine::new(HUB.to_owned(), 0);
        Memory { engine, has_fleet: false, rows: Rows::default(), acts: Vec::new(), moved: BTreeSet::new() }
    }

    /// Goes on from another state of the disk.
    pub(crate) fn restore(&mut self, rows: Rows) {
        self.rows = rows;
        self.restart();
    }

    fn meet(&mut self) {
        if std::mem::replace(&mut self.has_fleet, true) {
            return;
        }
        for (number, row) in &self.rows.nodes {
            let mut seen = Seen::new(row.checkin.node.as_str(), row.seen_ms);
            (seen.is_silent, seen.state) = (row.is_silent, row.state.clone());
            let refused = self.rows.refused.iter().filter(|(node, _)| node == number);
            seen.refused = refused.map(|(_, index)| index.clone()).collect();
            seen.learn(&row.checkin, row.facts.as_deref());
            self.engine.meet(*number, seen);
        }
    }

    fn load(&mut self, id: PlanId) -> anyhow::Result<()> {
        let (plan, state, is_active) = self.rows.rollouts.get(&id).context("a rollout")?;
        let members = self.rows.members.iter().filter(|((of, _), _)| *of == id);
        let members = members.map(|((_, node), member)| (*node, member.clone())).collect();
        let signed = self.rows.documents.iter().filter(|((of, _, _), _)| *of == id);
        let signed = signed.map(|((_, line, version), bytes)| (line.clone(), *version, bytes.clone()));
        let mut active = Active::new(plan.clone(), serde_json::from_str(state)?, members, signed)?;
        active.is_retired = active.is_active() && !is_active;
        self.engine.insert(active);
        Ok(())
    }

    /// Stores what changed.
    fn settle(&mut self) -> anyhow::Result<()> {
        let changes = self.engine.take_changes();
        for active in self.engine.moved() {
            let (rollout, is_active) = (&active.rollout, active.is_active());
            let row = (active.plan.clone(), serde_json::to_string(rollout)?, is_active);
            self.moved.insert(rollout.id);
            self.rows.rollouts.insert(rollout.id, row);
            active.stored = rollout.revision;
        }
        for (id, node) in changes.members.into_keys() {
            let member = self.engine.get(id).and_then(|active| active.members.get(&node));
            self.moved.insert(id);
            self.rows.members.insert((id, node), member.context("a member")?.clone());
        }
        for (id, kind) in changes.signed {
            let signed = self.engine.get(id).and_then(|active| active.document(kind));
            let (planned, document) = signed.context("a document")?;
            let key = (id, planned.id.to_string(), planned.version);
            self.rows.documents.insert(key, document.bytes().to_vec());
        }
        self.rows.refused.extend(changes.refused.into_iter().map(|it| (it.node, it.index)));
        if !changes.nodes.is_empty() {
            self.rows.desired = self.engine.desired();
        }
        for node in changes.nodes {
            let seen = self.engine.seen(node).context("a node")?;
            self.rows.nodes.get_mut(&node).context("a node's row")?.state = seen.state.clone();
        }
        let told = |(id, effect): (PlanId, Effect)| Some((id, effect.act()?.clone()));
        self.acts.extend(changes.effects.into_iter().filter_map(told));
        Ok(())
    }

    fn number(&mut self, checkin: &CheckIn, now_ms: i64) -> NodeNo {
        let next = self.rows.numbers.len() as NodeNo + 1;
        let number = *self.rows.numbers.entry(checkin.node.to_string()).or_insert(next);
        let (checkin, state) = (checkin.clone(), NodeState::default());
        let row = NodeRow { checkin, facts: None, seen_ms: now_ms, is_silent: false, state };
        let row = self.rows.nodes.entry(number).or_insert(row);
        (row.seen_ms, row.is_silent) = (now_ms, false);
        number
    }
}

impl Leader for Memory {
    fn create(&mut self, plan: &Plan, now_ms: i64) -> anyhow::Result<PlanId> {
        self.meet();
        let id = text::id(plan);
        let rollout = Rollout::new(plan, id, now_ms);
        self.rows.rollouts.insert(id, (plan.clone(), serde_json::to_string(&rollout)?, false));
        self.load(id)?;
        self.engine.signed(id, &unsigned(plan), now_ms);
        self.settle()?;
        Ok(id)
    }

    fn order(&mut self, id: PlanId, order: Order, now_ms: i64) -> anyhow::Result<bool> {
        self.meet();
        if self.engine.get(id).is_none() {
            self.load(id)?;
        }
        let done = self.engine.order(id, order, "bob", "as played", now_ms).is_ok();
        self.settle()?;
        Ok(done)
    }

    fn check_in(&mut self, checkin: &CheckIn, now_ms: i64) -> anyhow::Result<Handed> {
        let number = self.number(checkin, now_ms);
        let facts = checkin.inventory.as_ref().map(|told| serde_json::to_string(&told.set)).transpose()?;
        let row = self.rows.nodes.get_mut(&number).context("a node's row")?;
        (row.checkin, row.facts) = (checkin.clone(), facts.clone());
        if self.engine.is_empty() {
            return Ok(Handed::default());
        }
        let handed = self.engine.call(number, checkin, facts.as_deref(), now_ms);
        self.settle()?;
        Ok(handed)
    }

    fn installed(&mut self, checkin: &CheckIn, install: &Install, now_ms: i64) -> anyhow::Result<()> {
        let number = self.number(checkin, now_ms);
        self.engine.installed(number, install, 0, now_ms);
        self.settle()
    }

    fn tick(&mut self, now_ms: i64) -> anyhow::Result<()> {
        let mut fallen = Vec::new();
        for (number, row) in &mut self.rows.nodes {
            if !row.is_silent && watch::is_silent(row.seen_ms, NEXT_MS as i64, 0, now_ms) {
                row.is_silent = true;
                fallen.push(*number);
            }
        }
        fallen.into_iter().for_each(|number| self.engine.silent(number, now_ms));
        self.settle()?;
        self.engine.tick(now_ms);
        self.settle()
    }

    fn restart(&mut self) {
        self.engine = Engine::new(HUB.to_owned(), self.rows.desired);
        self.has_fleet = false;
        let active = self.rows.rollouts.iter().filter(|(_, (_, _, is_active))| *is_active);
        let active: Vec<PlanId> = active.map(|(id, _)| *id).collect();
        for id in &active {
            self.load(*id).expect("what was stored can be read");
        }
        if !active.is_empty() {
            self.meet();
        }
    }

    fn acts(&mut self) -> anyhow::Result<Vec<(PlanId, Act)>> {
        Ok(std::mem::take(&mut self.acts))
    }

    fn has_moved(&mut self, id: PlanId) -> bool {
        self.moved.remove(&id)
    }

    fn rollout(&mut self, id: PlanId) -> anyhow::Result<Rollout> {
        let (_, state, _) = self.rows.rollouts.get(&id).context("a rollout")?;
        Ok(serde_json::from_str(state)?)
    }

    fn members(&mut self, id: PlanId) -> anyhow::Result<BTreeMap<String, Member>> {
        let mut members = BTreeMap::new();
        for (name, number) in &self.rows.numbers {
            if let Some(member) = self.rows.members.get(&(id, *number)) {
                members.insert(name.clone(), member.clone());
            }
        }
        Ok(members)
    }

    fn why(&mut self, id: PlanId, node: &str, now_ms: i64) -> Option<String> {
        self.engine.why(id, *self.rows.numbers.get(node)?, now_ms)
    }
}
