//! The same play on a real store: what is rehearsed in memory is what a hub does, line by line.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use hub::rollout::engine::Handed;
use hub::rollout::execute::{Granted, Wish};
use hub::rollout::gate::Evidence;
use hub::rollout::member::Member;
use hub::rollout::plan::{Plan, PlanId};
use hub::rollout::step::{Act, Order, Rollout};
use hub::store;
use hub::store::audit::{self, AuditFilter};
use hub::store::database::Store;
use hub::store::rollouts as rows;
use hub::write::{self, Limits, Names, Written};
use serde_json::value::RawValue;
use sqlx::Connection as _;
use tokio::runtime::Runtime;
use wire::batch::Batch;
use wire::body::{Body as _, Install};
use wire::chain::{Link, link};
use wire::checkin::CheckIn;
use wire::class::Class;
use wire::hash::Hash;
use wire::id::{PartName, StreamName};
use wire::record::Record;
use wire::world::ClockQuality;

use super::leader::{Leader, NEXT_MS, unsigned};

const LIMITS: Limits = Limits { nodes: 1000 };

/// A hub's writer, one transaction at a time.
pub(crate) struct Stored {
    runtime: Runtime,
    store: Store,
    names: Names,
    /// The last number and the hash there of each node's stream of installs.
    heads: HashMap<String, (u64, Hash)>,
    /// The newest entry of the audit log that was looked at.
    seen: i64,
    _folder: tempfile::TempDir,
}

impl Stored {
    pub(crate) fn new() -> Stored {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = runtime.block_on(store::open(folder.path(), None)).unwrap();
        Stored { runtime, store, names: Names::default(), heads: HashMap::new(), seen: 0, _folder: folder }
    }

    fn wish(&mut self, wish: &Wish, now_ms: i64) -> anyhow::Result<Option<Rollout>> {
        let Stored { runtime, store, names, .. } = self;
        runtime.block_on(async {
            let mut transaction = store.writer.begin().await?;
            let last_record = write::begin(&mut transaction, names, super::leader::HUB).await?;
            let granted = names.rollouts.grant(&mut transaction, wish, now_ms).await?;
            let mut written = Written::default();
            write::end(&mut transaction, names, last_record, now_ms, &mut written).await?;
            transaction.commit().await?;
            Ok(granted.ok().and_then(|granted| match granted {
                Granted::Rollout(rollout) => Some(*rollout),
                _ => None,
            }))
        })
    }
}

impl Leader for Stored {
    fn create(&mut self, plan: &Plan, now_ms: i64) -> anyhow::Result<PlanId> {
        let who = || "operator:ann".to_owned();
        let made = self.wish(&Wish::Create { plan: Box::new(plan.clone()), who: who() }, now_ms)?;
        let id = made.context("a plan was not taken")?.id;
        self.wish(&Wish::Sign { id, documents: unsigned(plan), who: who() }, now_ms)?;
        Ok(id)
    }

    fn order(&mut self, id: PlanId, order: Order, now_ms: i64) -> anyhow::Result<bool> {
        let (who, why) = ("operator:bob".to_owned(), "as played".to_owned());
        Ok(self.wish(&Wish::Order { id, order, who, why, revision: None }, now_ms)?.is_some())
    }

    fn check_in(&mut self, checkin: &CheckIn, now_ms: i64) -> anyhow::Result<Handed> {
        let Stored { runtime, store, names, .. } = self;
        let text = serde_json::to_string(checkin)?;
        runtime.block_on(async {
            let mut transaction = store.writer.begin().await?;
            let last_record = write::begin(&mut transaction, names, super::leader::HUB).await?;
            let mut written = Written::default();
            let answer = write::checkin(
                &mut transaction,
                names,
                &LIMITS,
                checkin,
                &text,
                NEXT_MS,
                now_ms,
                &mut written,
            );
            let answer = answer.await?.map_err(|_| anyhow::anyhow!("a check-in was refused"))?;
            write::end(&mut transaction, names, last_record, now_ms, &mut written).await?;
            transaction.commit().await?;
            Ok(Handed { desired: answer.desired, paused: answer.paused, ..Handed::default() })
        })
    }

    fn installed(&mut self, checkin: &CheckIn, install: &Install, now_ms: i64) -> anyhow::Result<()> {
        let (seq, head) = self.heads.entry(checkin.node.to_string()).or_insert((0, Hash::GENESIS));
        *seq += 1;
        let (stream, class) = (StreamName::new("installs")?, Class::Audit);
        let record = Record {
            seq: *seq,
            kind: PartName::new(Install::KIND)?,
            boot: checkin.boot,
            mono_ns: *seq,
            wall_ms: now_ms,
            clock: ClockQuality::Checked,
            body: RawValue::from_string(serde_json::to_string(install)?)?,
        };
        let of = Link { stream: &stream, class, seq: *seq, kind: Install::KIND, stamp: record.stamp() };
        *head = link(*head, of, record.body.get());
        let (node, journal, head) = (checkin.node.clone(), checkin.journal, *head);
        let batch = Batch { v: 1, node, journal, stream, class, gap: None, records: vec![record], head };
        let Stored { runtime, store, names, .. } = self;
        runtime.block_on(async {
            let mut transaction = store.writer.begin().await?;
            let last_record = write::begin(&mut transaction, names, super::leader::HUB).await?;
            let mut written = Written::default();
            let answer =
                write::batch(&mut transaction, names, &LIMITS, &batch, NEXT_MS, now_ms, &mut written).await?;
            answer.map_err(|_| anyhow::anyhow!("a batch was refused"))?;
            write::end(&mut transaction, names, last_record, now_ms, &mut written).await?;
            transaction.commit().await?;
            Ok(())
        })
    }

    fn tick(&mut self, now_ms: i64) -> anyhow::Result<()> {
        let Stored { runtime, store, names, .. } = self;
        runtime.block_on(async {
            let (me, mut written) = (super::leader::HUB, Written::default());
            write::watch(&mut store.writer, names, me, 0, now_ms, &mut written).await?;
            write::tick(&mut store.writer, names, me, now_ms, &mut written).await?;
            Ok(())
        })
    }

    fn restart(&mut self) {
        self.names = Names::default();
    }

    fn acts(&mut self) -> anyhow::Result<Vec<(PlanId, Act)>> {
        let filter = AuditFilter::default();
        let list = audit::list(&self.store.readers, &filter, 200);
        let mut acts = Vec::new();
        let rows = self.runtime.block_on(list)?;
        let newest = rows.first().map_or(self.seen, |row| row.id);
        for row in rows.into_iter().rev().filter(|row| row.id > self.seen) {
            let entry: serde_json::Value = serde_json::from_str(&row.body)?;
            // Who brought a plan and its signatures is told beside the rollout's own steps.
            let (Some(id), Some(after)) = (PlanId::parse(&row.about), entry["after"]["phase"].as_str())
            else {
                continue;
            };
            let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let evidence = entry["after"].get("evidence").cloned();
            let act = Act {
                act: row.act,
                who: row.who.strip_prefix("operator:").unwrap_or_default().to_owned(),
                before: word(&entry["before"]["phase"]),
                after: after.to_owned(),
                wave: serde_json::from_value(entry["after"]["wave"].clone())?,
                why: word(&entry["why"]),
                evidence: evidence.map(serde_json::from_value::<Evidence>).transpose()?,
            };
            acts.push((id, act));
        }
        self.seen = newest;
        Ok(acts)
    }

    fn rollout(&mut self, id: PlanId) -> anyhow::Result<Rollout> {
        let row = self.runtime.block_on(rows::get(&self.store.readers, &id.to_string()))?;
        Ok(serde_json::from_str(&row.context("a rollout")?.state)?)
    }

    fn members(&mut self, id: PlanId) -> anyhow::Result<BTreeMap<String, Member>> {
        let id = id.to_string();
        let list = rows::list_members(&self.store.readers, &id, None, "", 1000);
        let rows = self.runtime.block_on(list)?;
        Ok(rows.into_iter().map(|row| (row.node, row.member)).collect())
    }
}
