//! Carries out what the engine of experiments decides: reads it from the store, and stores what changed in the transaction
//! that runs. Thin, as [`crate::rollout::execute`] is, which calls it: both share one fleet, one turn and one answer.

use package::trust::canonical::Value;
use sqlx::Error;
use wire::hash::Hash;
use wire::world::WallMs;

use crate::experiment::engine::{Active, Changes, Experiments};
use crate::experiment::plan::{Plan, Which};
use crate::experiment::step::{Act, Effect, Experiment, NotNow, Order};
use crate::experiment::text;
use crate::live::Event as Told;
use crate::rollout::carry::{LostSwap, doer, entry, json, on_whom, release, unreadable};
use crate::rollout::engine::Engine;
use crate::rollout::figures::{BEFORE_DAYS, day_of};
use crate::rollout::plan::PlanId;
use crate::rollout::step::NodeNo;
use crate::store::alerts::{self, Raise};
use crate::store::audit::{self, Entry};
use crate::store::connection::Writer;
use crate::store::experiments as sheets;
use crate::store::rollouts::{self as rows, DocumentRow, NewState, Of};
use crate::store::samples;

/// The hub's rule for an experiment that was stopped for its harm.
pub const STOPPED: &str = "experiment-stopped";

/// What a person or a program wants of an experiment.
#[derive(Debug, Clone)]
pub enum Wish {
    /// What an experiment has for a node.
    Why {
        /// The experiment.
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
        /// The experiment.
        id: PlanId,
        /// The documents, as they were signed.
        documents: Vec<(Which, Vec<u8>)>,
        /// Who brings them.
        who: String,
    },
    /// Do as told.
    Order {
        /// The experiment.
        id: PlanId,
        /// What.
        order: Order,
        /// Who.
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
    /// What an experiment has for a node, in words; absent if the node is not known.
    Why(Option<String>),
    /// The experiment as it stands now.
    Experiment(Box<Experiment>),
}

/// Why nothing came of it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotDone {
    /// There is no such experiment.
    #[error("there is no experiment {0}")]
    Unknown(PlanId),
    /// It has moved on.
    #[error("the experiment is at revision {} by now", .0.revision)]
    Stale(Box<Experiment>),
    /// Not now.
    #[error(transparent)]
    NotNow(#[from] NotNow),
}

impl Experiments {
    /// The experiments as they are stored.
    pub async fn read(writer: &mut Writer, fleet: &mut Engine) -> Result<Experiments, Error> {
        let mut all = Experiments::default();
        for row in rows::active(writer, Of::Experiment).await? {
            all.insert(active(writer, &row).await?, fleet);
        }
        Ok(all)
    }

    /// Takes the figures that are due: reads what stood before where the plan asks for it.
    pub async fn take_figures(
        &mut self,
        writer: &mut Writer,
        fleet: &mut Engine,
        now_ms: WallMs,
    ) -> Result<(), Error> {
        for (id, node) in self.take_due() {
            let Some(active) = self.get(id) else { continue };
            let Some(offered_ms) = active.members.get(&node).map(|member| member.offered_ms) else {
                continue;
            };
            let (model, day) = (active.model().to_string(), day_of(offered_ms));
            let before = samples::last_day(writer, &model, node, day - BEFORE_DAYS, day).await?;
            self.count(fleet, id, node, before.as_ref(), now_ms);
        }
        Ok(())
    }

    /// Does what is wished.
    pub async fn grant(
        &mut self,
        writer: &mut Writer,
        fleet: &mut Engine,
        wish: &Wish,
        now_ms: WallMs,
    ) -> Result<Result<Granted, NotDone>, Error> {
        let id = match wish {
            Wish::Create { plan, who } => create(writer, plan, who, now_ms).await?,
            Wish::Why { id, .. } | Wish::Sign { id, .. } | Wish::Order { id, .. } => *id,
        };
        if self.get(id).is_none() {
            match rows::find(writer, Of::Experiment, &id.to_string()).await? {
                Some(row) => self.insert(active(writer, &row).await?, fleet),
                None => return Ok(Err(NotDone::Unknown(id))),
            }
        }
        let Some(before) = self.get(id).map(|active| active.it.clone()) else {
            return Ok(Err(NotDone::Unknown(id)));
        };
        match wish {
            Wish::Create { .. } => {}
            Wish::Why { node, .. } => return Ok(Ok(Granted::Why(self.why(fleet, id, *node, now_ms)))),
            Wish::Sign { documents, who, .. } => {
                self.signed(fleet, id, documents, now_ms);
                let all = documents.iter().map(|(which, _)| which.to_string().into()).collect();
                let entry = entry(who, "experiment.sign", id, "", Some(Value::List(all)), now_ms);
                audit::append(writer, &entry).await?;
            }
            Wish::Order { order, who, why, revision, .. } => {
                if revision.is_some_and(|seen| seen != before.revision) {
                    return Ok(Err(NotDone::Stale(Box::new(before))));
                }
                let name = who.strip_prefix("operator:").unwrap_or(who);
                if let Err(error) = self.order(fleet, id, *order, name, why, now_ms) {
                    return Ok(Err(error.into()));
                }
            }
        }
        let now = self.get(id).map_or(before, |active| active.it.clone());
        Ok(Ok(Granted::Experiment(Box::new(now))))
    }

    /// Whether something is in memory that is not stored.
    pub fn has_moved(&mut self) -> bool {
        self.moved().next().is_some()
    }

    /// Stores all that changed, in the transaction that runs, and says what is to be told once it is on disk.
    pub async fn settle(&mut self, writer: &mut Writer, now_ms: WallMs) -> Result<Vec<Told>, Error> {
        let changes = self.take_changes();
        let mut told = Vec::new();
        for active in self.moved() {
            let (it, is_active) = (&active.it, active.is_active());
            let state = json(it)?;
            let new = new_state(it, is_active, &state, now_ms);
            if !rows::swap(writer, &it.id.to_string(), active.stored, &new).await? {
                return Err(LostSwap(it.id).into());
            }
            active.stored = it.revision;
            let data =
                format!(r#"{{"experiment":"{}","revision":{},"phase":"{}"}}"#, it.id, it.revision, new.phase);
            told.push(Told { node: "".into(), name: "rollout", data: data.into() });
        }
        self.store(writer, changes, now_ms).await?;
        Ok(told)
    }

    /// Stores what changed beside the experiments' own rows.
    async fn store(&self, writer: &mut Writer, changes: Changes, now_ms: WallMs) -> Result<(), Error> {
        for ((id, node), record) in changes.members {
            if let Some(member) = self.get(id).and_then(|active| active.members.get(&node)) {
                rows::put_member(writer, &id.to_string(), node, member, record).await?;
            }
        }
        for (id, node) in changes.sheets {
            if let Some(sheet) = self.get(id).and_then(|active| active.sheets.get(&node)) {
                sheets::put_sheet(writer, &id.to_string(), node, sheet).await?;
            }
        }
        for (id, which) in changes.signed {
            if let Some((planned, document)) = self.get(id).and_then(|active| active.document(which)) {
                let (version, body) = (which.version(), document.bytes().to_vec());
                let row = DocumentRow { id: planned.id.to_string(), version, body, released_ms: None };
                rows::put_document(writer, &id.to_string(), &row, planned.expires_ms).await?;
            }
        }
        for (id, effect) in changes.effects {
            match effect {
                Effect::Release(which) => {
                    rows::release(writer, &id.to_string(), which.version(), now_ms).await?;
                }
                Effect::Audit(act) => {
                    audit::append(writer, &entry_of(id, &act, now_ms)).await?;
                }
                Effect::Alert(why) => {
                    if let Some(node) = self.get(id).and_then(|active| on_whom(&active.members)) {
                        let raise = Raise::by_hub(STOPPED, &id.to_string(), why, now_ms);
                        alerts::raise(writer, node, &raise, now_ms).await?;
                    }
                }
                Effect::Calm => {
                    alerts::clear_hub_source(writer, STOPPED, &id.to_string(), now_ms).await?;
                }
            }
        }
        Ok(())
    }
}

async fn create(writer: &mut Writer, plan: &Plan, who: &str, now_ms: WallMs) -> Result<PlanId, Error> {
    let id = text::id(plan);
    let it = Experiment::new(plan, id, now_ms);
    let state = json(&it)?;
    let new = new_state(&it, false, &state, now_ms);
    let body = String::from_utf8(text::write(plan)).map_err(|error| Error::Encode(error.into()))?;
    if rows::add_of(writer, Of::Experiment, &id.to_string(), &body, &new).await? {
        audit::append(writer, &entry(who, "experiment.create", id, &plan.note, None, now_ms)).await?;
    }
    Ok(id)
}

/// The experiment of a row, with its members, their sheets, and documents.
async fn active(writer: &mut Writer, row: &rows::RolloutRow) -> Result<Active, Error> {
    let unreadable = unreadable("experiment", &row.id);
    let plan = text::read(row.plan.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    let it: Experiment = serde_json::from_str(&row.state).map_err(|error| unreadable(error.to_string()))?;
    let members = rows::members(writer, &row.id).await?.into_iter().collect();
    let told = sheets::sheets(writer, &row.id).await?.into_iter().collect();
    let documents = rows::documents(writer, &row.id).await?;
    let signed = documents.into_iter().map(|document| (document.version, document.body));
    let active = Active::new(plan, it, members, told, signed);
    let mut active = active.map_err(|error| unreadable(error.to_string()))?;
    let digests: Vec<Hash> = active.plan.arms().iter().map(|arm| arm.target.index).collect();
    for digest in digests {
        active.releases.push(release(writer, &digest).await?);
    }
    Ok(active)
}

fn new_state<'a>(it: &Experiment, active: bool, state: &'a str, changed_ms: WallMs) -> NewState<'a> {
    NewState { revision: it.revision, phase: it.phase.as_str(), active, wave: 0, state, changed_ms }
}

/// What a step says to the audit log.
fn entry_of(id: PlanId, act: &Act, now_ms: WallMs) -> Entry {
    let [a, b] = act.nodes.map(u64::from);
    let figures = Value::object([("a", a.into()), ("b", b.into())]);
    let after = Value::object([("phase", act.after.into()), ("figures", figures)]);
    let before = Some(Value::object([("phase", act.before.into())]));
    Entry { before, ..entry(&doer(&act.who), act.act, id, &act.why, Some(after), now_ms) }
}
