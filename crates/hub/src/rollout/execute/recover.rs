//! What a person does after a backup was restored, in one transaction with its entry in the log: keys let in, nodes believed.

use package::trust::canonical::Value;
use sqlx::Error;
use wire::body::Install;
use wire::checkin::CheckIn;
use wire::world::WallMs;

use crate::rollout::execute::{Recovered, Recovery, Rollouts, active};
use crate::rollout::plan::PlanId;
use crate::store::audit::{self, Entry};
use crate::store::connection::Writer;
use crate::store::recovery;
use crate::store::rollouts::{self as rows, Of};

/// The most rollouts that are looked up for one check-in.
const LOOK_UP_MAX: usize = 64;

impl Rollouts {
    /// Takes rollouts into memory that a node names, and that are stored though nothing of them was released here.
    pub(super) async fn look_up(&mut self, writer: &mut Writer, checkin: &CheckIn) -> Result<(), Error> {
        let strange = self.engine()?.strange(checkin);
        for id in strange.iter().take(LOOK_UP_MAX) {
            if let Some(plan) = recovery::plan_of(writer, id).await?
                && let Some(row) = rows::find(writer, Of::Rollout, &plan).await?
                && PlanId::parse(&plan)
                    .is_some_and(|id| self.engine.as_ref().is_some_and(|it| it.get(id).is_none()))
            {
                let found = active(writer, &row).await?;
                self.engine()?.insert(found);
            }
        }
        Ok(())
    }

    /// Does it.
    pub(super) async fn recover(
        &mut self,
        writer: &mut Writer,
        wanted: &Recovery,
        who: &str,
        why: &str,
        now_ms: WallMs,
    ) -> Result<Recovered, Error> {
        let mut done = Recovered::default();
        let entry = |act: &str, about: &str, before: Option<Value>, after: Value| Entry {
            at_ms: now_ms,
            who: who.to_owned(),
            act: act.to_owned(),
            about: about.to_owned(),
            why: why.to_owned(),
            before,
            after: Some(after),
        };
        for key in &wanted.keys {
            if let Some((node, name)) = recovery::readmit(writer, key, now_ms).await? {
                self.engine()?.readmit(node);
                let after = Value::object([("key", key.to_string().into())]);
                audit::append(writer, &entry("identity.readmit", &name, None, after)).await?;
                done.keys += 1;
            }
        }
        if !wanted.adopt {
            return Ok(done);
        }
        recovery::forget_lost(writer).await?;
        let engine = self.engine()?;
        let before = Value::object([("revision", engine.desired().into())]);
        let adopted = engine.adopt(who.strip_prefix("operator:").unwrap_or(who), why, now_ms);
        (done.nodes, done.rollouts) = (adopted.nodes, adopted.rollouts.len() as u64);
        if adopted.nodes == 0 {
            return Ok(done);
        }
        recovery::adopt_log(writer, adopted.log_size as i64).await?;
        recovery::settle_readmitted(writer).await?;
        for (id, node) in &adopted.members {
            let Some(rollout) = engine.get(*id) else { continue };
            let indexes: Vec<_> = rollout.plan.what.iter().map(|target| target.index).collect();
            // Their records may have come again before anybody knew that they were members.
            for (record, body) in recovery::installs(writer, *node).await? {
                let install = serde_json::from_str::<Install>(&body).ok();
                if let Some(install) = install.filter(|install| indexes.contains(&install.index)) {
                    engine.installed(*node, &install, record, now_ms);
                }
            }
        }
        let rollouts = adopted.rollouts.iter().map(|id| id.to_string().into()).collect();
        let after = Value::object([
            ("nodes", adopted.nodes.into()),
            ("revision", engine.desired().into()),
            ("rollouts", Value::List(rollouts)),
            ("members", (adopted.members.len() as u64).into()),
            ("log_seen", adopted.log_size.into()),
        ]);
        audit::append(writer, &entry("hub.adopt", "restored from a backup", Some(before), after)).await?;
        Ok(done)
    }
}
