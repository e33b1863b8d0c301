//! Carries out what the engine decides: reads it from the store when it is not in memory, and stores what changed in the
//! transaction that runs. Thin: nothing is decided here.
//!
//! A rollout's row is swapped: it is replaced only if it still has the revision that was read. Under the turn a swap can be
//! lost through a mistake of ours alone; then the whole transaction is, and the engine is read anew.

mod recover;
mod strange;

use std::collections::{BTreeSet, HashMap};

use package::index::Release;
use package::name::ModelName;
use package::trust::canonical::{Value, parse};
use sqlx::Error;
use wire::body::{Behaviour, Install};
use wire::checkin::CheckIn;
use wire::hash::Hash;
use wire::world::WallMs;

use self::strange::Strangers;
use crate::experiment::engine::Experiments;
use crate::experiment::execute as experiment;
use crate::live::Event as Told;
use crate::rollout::carry::{LostSwap, doer, entry, json, on_whom, release, unreadable};
use crate::rollout::coverage::Preview;
use crate::rollout::engine::{Active, Changes, Engine, Handed, Seen};
use crate::rollout::figures::{self, BEFORE_DAYS, Hour, Told as Figures};
use crate::rollout::plan::{Kind, Plan, PlanId};
use crate::rollout::step::{Act, Alarm, Effect, NodeNo, NotNow, Order, Rollout};
use crate::rollout::text;
use crate::store::alerts::{self, Raise};
use crate::store::audit::{self, Entry};
use crate::store::connection::Writer;
use crate::store::recovery;
use crate::store::rollouts::{self as rows, DocumentRow, NewState, Of};
use crate::store::samples::{self, SampleRow};
use crate::store::turn::{self, Turn};

/// How many nodes are read at once: each brings its last check-in.
const NODES_AT_ONCE: i64 = 256;

/// How many days of nodes are read at once, some 2 KiB each.
const SAMPLES_AT_ONCE: i64 = 1024;

/// The hub's rule for a node that knows more than the hub.
pub const HUB_BEHIND: &str = "hub-behind";

/// The engine, if it is in memory.
#[derive(Debug, Default)]
pub struct Rollouts {
    engine: Option<Engine>,
    experiments: Experiments,
    strangers: Strangers,
    has_fleet: bool,
    /// Something changed since whoever waits for news was looked at.
    has_news: bool,
}

/// What a person wants after a backup was restored.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// Believe the nodes that are ahead.
    pub adopt: bool,
    /// Let these keys in, of those that knocked and are not known.
    pub keys: Vec<Hash>,
}

/// What a person or a program wants of a rollout.
#[derive(Debug, Clone)]
pub enum Wish {
    /// What a person wants after a backup was restored.
    Recover {
        /// What.
        recovery: Box<Recovery>,
        /// Who: `operator:<name>`.
        who: String,
        /// Why, in words.
        why: String,
    },
    /// Something of an experiment.
    Experiment(experiment::Wish),
    /// What a plan would do.
    Preview {
        /// The plan.
        plan: Box<Plan>,
        /// The release of its first target, if the hub has it.
        release: Option<Box<Release>>,
        /// Nodes, by name, with an assignment of their own for one of its models.
        pinned: BTreeSet<String>,
    },
    /// What a rollout has for a node.
    Why {
        /// The rollout.
        id: PlanId,
        /// The node's number.
        node: NodeNo,
    },
    /// Take in a plan.
    Create {
        /// The plan.
        plan: Box<Plan>,
        /// Who brings it.
        who: String,
    },
    /// Keep documents whose signatures were checked.
    Sign {
        /// The rollout.
        id: PlanId,
        /// The documents, as they were signed.
        documents: Vec<(Kind, Vec<u8>)>,
        /// Who brings them.
        who: String,
    },
    /// Do as told.
    Order {
        /// The rollout.
        id: PlanId,
        /// What.
        order: Order,
        /// Who: `operator:<name>`.
        who: String,
        /// Why, in words.
        why: String,
        /// The revision that the person saw; absent: whatever it is by now.
        revision: Option<u64>,
    },
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Granted {
    /// What came of a wish of an experiment.
    Experiment(Result<experiment::Granted, experiment::NotDone>),
    /// What a plan would do.
    Preview(Box<Preview>),
    /// What a rollout has for a node, in words; absent if the node is not known.
    Why(Option<String>),
    /// The rollout as it stands now.
    Rollout(Box<Rollout>),
    /// What was done after a backup was restored.
    Recovered(Recovered),
}

/// What was done after a backup was restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// How many nodes were ahead, and are followed now.
    pub nodes: u64,
    /// How many rollouts were raised.
    pub rollouts: u64,
    /// How many keys were let in.
    pub keys: u64,
}

/// Why nothing came of it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotDone {
    /// There is no such rollout.
    #[error("there is no rollout {0}")]
    Unknown(PlanId),
    /// It has moved on.
    #[error("the rollout is at revision {} by now", .0.revision)]
    Stale(Box<Rollout>),
    /// Not now.
    #[error(transparent)]
    NotNow(#[from] NotNow),
    /// The plan cannot be.
    #[error("{0}")]
    Plan(String),
}

impl Rollouts {
    /// Forgets all, so that it is read again: another hub has written, or a transaction failed.
    pub fn forget(&mut self) {
        *self = Rollouts { has_news: true, ..Rollouts::default() };
    }

    /// Whether it is in memory.
    pub fn is_ready(&self) -> bool {
        self.engine.is_some()
    }

    /// Whether it is known that time alone can change nothing.
    pub fn is_idle(&self) -> bool {
        self.engine.as_ref().is_some_and(Engine::is_idle) && self.experiments.is_idle()
    }

    /// The engine as it is stored. `new_id` becomes the hub's id if it has none.
    pub async fn ready(
        &mut self,
        writer: &mut Writer,
        turn: &Turn,
        new_id: &str,
    ) -> Result<&mut Engine, Error> {
        if let Some(engine) = &mut self.engine {
            engine.know_log(turn.last_audit as u64);
        } else {
            let hub = rows::hub_id(writer, new_id).await?;
            let mut engine = Engine::new(hub, turn.desired as u64);
            let adopted = recovery::adopted_log(writer).await?;
            let readmitted = recovery::readmitted(writer).await?;
            engine.know(adopted.max(turn.last_audit) as u64, readmitted);
            for row in rows::active(writer, Of::Rollout).await? {
                engine.insert(active(writer, &row).await?);
            }
            self.experiments = Experiments::read(writer, &mut engine).await?;
            let is_empty =
                engine.is_empty() && self.experiments.is_empty() && !recovery::is_behind(writer).await?;
            self.engine = Some(engine);
            if !is_empty {
                self.meet_fleet(writer).await?;
            }
        }
        self.engine()
    }

    fn engine(&mut self) -> Result<&mut Engine, Error> {
        // Only a caller that did not get ready comes here without one.
        self.engine.as_mut().ok_or(Error::WorkerCrashed)
    }

    /// Reads the fleet, unless it is there. A hub without rollouts never does.
    async fn meet_fleet(&mut self, writer: &mut Writer) -> Result<(), Error> {
        if self.has_fleet {
            return Ok(());
        }
        let mut refused: HashMap<NodeNo, Vec<String>> = HashMap::new();
        for (node, index) in rows::refused(writer).await? {
            refused.entry(node).or_default().push(index);
        }
        let mut after = 0;
        loop {
            let page = rows::nodes(writer, after, NODES_AT_ONCE).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for row in page {
                let mut seen = Seen::new(&row.name, row.seen_ms);
                (seen.is_silent, seen.state) = (row.silent, row.state);
                seen.refused = refused.remove(&row.id).into_iter().flatten().collect();
                let checkin = row.checkin.as_deref().and_then(|text| serde_json::from_str(text).ok());
                if let Some(checkin) = checkin {
                    seen.learn(&checkin, row.facts.as_deref());
                }
                self.engine()?.meet(row.id, seen);
            }
        }
        self.has_fleet = true;
        Ok(())
    }

    /// A node checks in: what it gets. To be stored by [`Rollouts::settle`] before the answer leaves.
    pub async fn call(
        &mut self,
        writer: &mut Writer,
        node: NodeNo,
        checkin: &CheckIn,
        now_ms: WallMs,
    ) -> Result<(String, Handed), Error> {
        self.strangers.note(writer, node, checkin).await?;
        // Only a caller that did not get ready comes here without one.
        let engine = self.engine.as_mut().ok_or(Error::WorkerCrashed)?;
        let hub = engine.hub().to_owned();
        let is_ahead = !engine.ways(node, checkin).is_empty();
        if engine.is_empty() && self.experiments.is_empty() && !is_ahead && engine.behind() == 0 {
            return Ok((hub, Handed::default()));
        }
        if is_ahead {
            self.meet_fleet(writer).await?;
            self.look_up(writer, checkin).await?;
        }
        let engine = self.engine.as_mut().ok_or(Error::WorkerCrashed)?;
        let facts = rows::facts(writer, node).await?;
        let mut handed = engine.call(node, checkin, facts.as_deref(), now_ms);
        if handed.paused.is_none() {
            self.experiments.call(engine, node, checkin, &mut handed, now_ms);
        }
        Ok((hub, handed))
    }

    /// An `install` record was stored, under this number, in the transaction that runs.
    pub fn heard(&mut self, node: NodeNo, install: &Install, record: i64, now_ms: WallMs) {
        if let Some(engine) = &mut self.engine {
            engine.installed(node, install, record, now_ms);
            self.experiments.installed(engine, node, install, record, now_ms);
        }
    }

    /// A node has fallen silent.
    pub fn silent(&mut self, node: NodeNo, now_ms: WallMs) {
        if let Some(engine) = &mut self.engine {
            engine.silent(node, now_ms);
            self.experiments.silent(engine, node, now_ms);
        }
    }

    /// A node started again without having been told to, or a rule of its own fired, at this time of its clock.
    pub fn troubled(&mut self, node: NodeNo, at_ms: WallMs, now_ms: WallMs) {
        if let Some(engine) = &mut self.engine {
            engine.troubled(node, at_ms, now_ms);
        }
    }

    /// A `behaviour` record was stored: adds it to the node's day, in the transaction that runs.
    pub async fn behaved(
        &mut self,
        writer: &mut Writer,
        node: NodeNo,
        behaviour: &Behaviour,
        now_ms: WallMs,
    ) -> Result<(), Error> {
        if ModelName::new(&behaviour.model).is_err() {
            return Ok(());
        }
        // A while that has not begun yet has a clock that is wrong.
        let at_ms = behaviour.from_ms.clamp(0, now_ms.max(0));
        let (day, hour) = (figures::day_of(at_ms), Hour::of(behaviour));
        let (model, manifest) = (&behaviour.model, behaviour.manifest);
        let mut told = samples::find(writer, model, node, day, &manifest).await?;
        told.add(at_ms, &hour);
        samples::put(writer, model, &SampleRow { node, day, manifest, told }).await?;
        if let Some(engine) = &mut self.engine {
            engine.behaved(node, behaviour, at_ms, &hour);
            self.experiments.behaved(engine, node, behaviour, &hour, now_ms);
        }
        Ok(())
    }

    /// Some time passed.
    pub async fn tick(&mut self, writer: &mut Writer, now_ms: WallMs) -> Result<(), Error> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        for (id, since_ms) in engine.unread() {
            let models = engine.get(id).map(|active| &active.plan.what);
            let models = models.into_iter().flatten().map(|target| target.model.to_string());
            let told = told(writer, &models.collect::<Vec<_>>(), since_ms).await?;
            engine.recall(id, told);
        }
        engine.tick(now_ms);
        self.experiments.tick(engine, now_ms);
        self.has_news = true;
        Ok(())
    }

    /// Whether there may be something for nodes that there was not when this was last asked.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// There may be more.
    pub fn expect_news(&mut self) {
        self.has_news = true;
    }

    /// Whether a node would be handed something new, if it came now.
    pub fn calls(&mut self, node: NodeNo, now_ms: WallMs) -> bool {
        self.engine.as_mut().is_some_and(|engine| engine.calls(node, now_ms))
    }

    /// Whether something is in memory that is not stored.
    pub fn has_moved(&mut self) -> bool {
        let has_engine = self.engine.as_mut().is_some_and(|engine| engine.moved().next().is_some());
        has_engine || self.experiments.has_moved()
    }

    /// Does what is wished.
    pub async fn grant(
        &mut self,
        writer: &mut Writer,
        wish: &Wish,
        now_ms: WallMs,
    ) -> Result<Result<Granted, NotDone>, Error> {
        self.meet_fleet(writer).await?;
        let id = match wish {
            Wish::Experiment(wish) => {
                let engine = self.engine.as_mut().ok_or(Error::WorkerCrashed)?;
                let done = self.experiments.grant(writer, engine, wish, now_ms).await?;
                return Ok(Ok(Granted::Experiment(done)));
            }
            Wish::Preview { plan, release, pinned } => {
                let preview = self.engine()?.preview(plan, release.as_deref(), pinned, now_ms);
                return Ok(preview
                    .map(|it| Granted::Preview(Box::new(it)))
                    .map_err(|error| NotDone::Plan(error.to_string())));
            }
            Wish::Recover { recovery, who, why } => {
                let done = self.recover(writer, recovery, who, why, now_ms).await?;
                return Ok(Ok(Granted::Recovered(done)));
            }
            Wish::Create { plan, who } => self.create(writer, plan, who, now_ms).await?,
            Wish::Why { id, .. } | Wish::Sign { id, .. } | Wish::Order { id, .. } => *id,
        };
        let engine = self.engine()?;
        if engine.get(id).is_none() {
            match rows::find(writer, Of::Rollout, &id.to_string()).await? {
                Some(row) => engine.insert(active(writer, &row).await?),
                None => return Ok(Err(NotDone::Unknown(id))),
            }
        }
        let Some(before) = engine.get(id).map(|active| active.rollout.clone()) else {
            return Ok(Err(NotDone::Unknown(id)));
        };
        match wish {
            Wish::Experiment(_) | Wish::Preview { .. } | Wish::Create { .. } | Wish::Recover { .. } => {}
            Wish::Why { node, .. } => return Ok(Ok(Granted::Why(engine.why(id, *node, now_ms)))),
            Wish::Sign { documents, who, .. } => {
                engine.signed(id, documents, now_ms);
                let kinds = documents.iter().map(|(kind, _)| kind.to_string().into()).collect();
                let entry = entry(who, "rollout.sign", id, "", Some(Value::List(kinds)), now_ms);
                audit::append(writer, &entry).await?;
            }
            Wish::Order { order, who, why, revision, .. } => {
                if revision.is_some_and(|seen| seen != before.revision) {
                    return Ok(Err(NotDone::Stale(Box::new(before))));
                }
                let name = who.strip_prefix("operator:").unwrap_or(who);
                if let Err(error) = engine.order(id, *order, name, why, now_ms) {
                    return Ok(Err(error.into()));
                }
            }
        }
        let now = engine.get(id).map_or(before, |active| active.rollout.clone());
        Ok(Ok(Granted::Rollout(Box::new(now))))
    }

    async fn create(
        &mut self,
        writer: &mut Writer,
        plan: &Plan,
        who: &str,
        now_ms: WallMs,
    ) -> Result<PlanId, Error> {
        let id = text::id(plan);
        let rollout = Rollout::new(plan, id, now_ms);
        let state = json(&rollout)?;
        let new = new_state(&rollout, false, &state, now_ms);
        let body = String::from_utf8(text::write(plan)).map_err(|error| Error::Encode(error.into()))?;
        if rows::add(writer, &id.to_string(), &body, &new).await? {
            audit::append(writer, &entry(who, "rollout.create", id, &plan.note, None, now_ms)).await?;
        }
        Ok(id)
    }

    /// Stores all that changed, in the transaction that runs, and says what is to be told once it is on disk.
    pub async fn settle(&mut self, writer: &mut Writer, now_ms: WallMs) -> Result<Vec<Told>, Error> {
        let Some(engine) = &mut self.engine else { return Ok(Vec::new()) };
        self.experiments.take_figures(writer, engine, now_ms).await?;
        let mut told = self.experiments.settle(writer, now_ms).await?;
        let changes = engine.take_changes();
        self.has_news |= !changes.members.is_empty() || !changes.effects.is_empty();
        for active in engine.moved() {
            let (rollout, is_active) = (&active.rollout, active.is_active());
            let state = json(rollout)?;
            let new = new_state(rollout, is_active, &state, now_ms);
            if !rows::swap(writer, &rollout.id.to_string(), active.stored, &new).await? {
                return Err(LostSwap(rollout.id).into());
            }
            active.stored = rollout.revision;
            let data = format!(
                r#"{{"rollout":"{}","revision":{},"phase":"{}","wave":{}}}"#,
                rollout.id, rollout.revision, new.phase, rollout.wave
            );
            told.push(Told { node: "".into(), name: "rollout", data: data.into() });
        }
        store(writer, engine, changes, now_ms).await?;
        Ok(told)
    }
}

/// Stores what changed beside the rollouts' own rows.
async fn store(writer: &mut Writer, engine: &Engine, changes: Changes, now_ms: WallMs) -> Result<(), Error> {
    for ((id, node), record) in changes.members {
        if let Some(member) = engine.get(id).and_then(|active| active.members.get(&node)) {
            rows::put_member(writer, &id.to_string(), node, member, record).await?;
        }
    }
    for (id, kind) in changes.signed {
        if let Some((planned, document)) = engine.get(id).and_then(|active| active.document(kind)) {
            let (version, body) = (planned.version, document.bytes().to_vec());
            let row = DocumentRow { id: planned.id.to_string(), version, body, released_ms: None };
            rows::put_document(writer, &id.to_string(), &row, planned.expires_ms).await?;
        }
    }
    for refusal in changes.refused {
        let (model, index) = (&refusal.model, &refusal.index);
        rows::refuse(writer, refusal.node, model, index, &refusal.why, now_ms).await?;
    }
    if !changes.nodes.is_empty() {
        turn::desire(writer, engine.desired() as i64).await?;
    }
    let (mut first_ahead, is_news) = (None, !changes.nodes.is_empty());
    for node in changes.nodes {
        let Some(seen) = engine.seen(node) else { continue };
        rows::put_node(writer, node, &seen.state).await?;
        first_ahead = first_ahead.or(seen.state.conflict.is_some().then_some(node));
    }
    match (first_ahead, engine.behind()) {
        (Some(node), count) => {
            let why = format!(
                "{count} nodes have heard of changes that this hub has not made: it was restored from a backup; see \
                 `selvedge hub adopt --plan`"
            );
            let alert = Raise { count: count as i64, ..Raise::by_hub(HUB_BEHIND, "", why, now_ms) };
            alerts::raise_for_fleet(writer, node, &alert, now_ms).await?;
        }
        (None, 0) if is_news => alerts::clear_hub_source(writer, HUB_BEHIND, "", now_ms).await?,
        (None, _) => {}
    }
    for (id, effect) in changes.effects {
        let Some(active) = engine.get(id) else { continue };
        match effect {
            Effect::Release(kind) => {
                if let Some((planned, _)) = active.document(kind) {
                    rows::release(writer, &planned.id.to_string(), planned.version, now_ms).await?;
                }
            }
            Effect::Audit(act) => {
                audit::append(writer, &entry_of(id, &act, now_ms)?).await?;
            }
            Effect::Alert(about, why) => {
                if let Some(node) = on_whom(&active.members) {
                    let raise = Raise::by_hub(rule(about), &id.to_string(), why, now_ms);
                    alerts::raise(writer, node, &raise, now_ms).await?;
                }
            }
            Effect::Calm => {
                for about in [Alarm::RolloutStopped, Alarm::RolloutWaits, Alarm::SignaturesExpire] {
                    alerts::clear_hub_source(writer, rule(about), &id.to_string(), now_ms).await?;
                }
            }
        }
    }
    Ok(())
}

/// What nodes told of these models before a wave opened, and since.
async fn told(writer: &mut Writer, models: &[String], since_ms: WallMs) -> Result<Figures, Error> {
    let (mut told, from_day) = (Figures::new(since_ms), figures::day_of(since_ms) - BEFORE_DAYS);
    for (at, model) in models.iter().enumerate() {
        let mut last: Option<SampleRow> = None;
        loop {
            let page = samples::page(writer, model, from_day, last.as_ref(), SAMPLES_AT_ONCE).await?;
            for row in &page {
                told.recall(row.node, at, row.manifest, row.day, &row.told);
            }
            last = page.into_iter().last();
            if last.is_none() {
                break;
            }
        }
    }
    Ok(told)
}

/// The rollout of a row, with its members and documents.
async fn active(writer: &mut Writer, row: &rows::RolloutRow) -> Result<Active, Error> {
    let unreadable = unreadable("rollout", &row.id);
    let plan = text::read(row.plan.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    let rollout: Rollout = serde_json::from_str(&row.state).map_err(|error| unreadable(error.to_string()))?;
    let members = rows::members(writer, &row.id).await?.into_iter().collect();
    let documents = rows::documents(writer, &row.id).await?;
    let signed = documents.into_iter().map(|document| (document.id, document.version, document.body));
    let mut active =
        Active::new(plan, rollout, members, signed).map_err(|error| unreadable(error.to_string()))?;
    active.is_retired = active.is_active() && !row.active;
    for target in &active.plan.what {
        active.releases.push(release(writer, &target.index).await?);
    }
    Ok(active)
}

fn new_state<'a>(rollout: &Rollout, active: bool, state: &'a str, changed_ms: WallMs) -> NewState<'a> {
    let (revision, phase, wave) = (rollout.revision, rollout.phase.as_str(), rollout.wave);
    NewState { revision, phase, active, wave, state, changed_ms }
}

/// What a step says to the audit log.
fn entry_of(id: PlanId, act: &Act, now_ms: WallMs) -> Result<Entry, Error> {
    let mut after =
        Value::object([("phase", act.after.as_str().into()), ("wave", u64::from(act.wave).into())]);
    if let Some(evidence) = &act.evidence {
        let evidence = parse(json(evidence)?.as_bytes()).map_err(|error| Error::Encode(error.into()))?;
        after.as_object_mut().map(|fields| fields.insert("evidence".to_owned(), evidence));
    }
    let before = Some(Value::object([("phase", act.before.as_str().into())]));
    Ok(Entry { before, ..entry(&doer(&act.who), &act.act, id, &act.why, Some(after), now_ms) })
}

fn rule(about: Alarm) -> &'static str {
    match about {
        Alarm::RolloutStopped => "rollout-stopped",
        Alarm::RolloutWaits => "rollout-waits",
        Alarm::SignaturesExpire => "signatures-expire",
    }
}

#[cfg(test)]
mod tests;
