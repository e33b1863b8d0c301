//! Which nodes follow rollouts or experiments that this hub does not know, most likely made after the backup that it was restored from.
//! That stops nothing, and stands beside each node until the plan is here again.
//!
//! Looked at with each check-in, so cheap: what was found once is not looked for again, and a row is written when it changes.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::Error;
use wire::checkin::CheckIn;

use crate::rollout::plan::PlanId;
use crate::rollout::step::NodeNo;
use crate::store::connection::Writer;
use crate::store::recovery::{self, Strange};

/// The most that are noted of one node: each is looked for whenever it checks in.
const NOTED_MAX: usize = 16;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// What the store has, by node; absent: it was not read yet.
    noted: Option<HashMap<NodeNo, Vec<Strange>>>,
    /// Plans that are here.
    known: HashSet<String>,
}

impl Strangers {
    /// A node checks in.
    pub(super) async fn note(
        &mut self,
        writer: &mut Writer,
        node: NodeNo,
        checkin: &CheckIn,
    ) -> Result<(), Error> {
        let mut named: BTreeMap<String, u32> = BTreeMap::new();
        for one in &checkin.accepted {
            let Some(rollout) = one.rollout.as_deref().and_then(PlanId::parse) else { continue };
            let id = rollout.to_string();
            if !self.known.contains(&id) {
                let version = u32::try_from(one.version).unwrap_or(u32::MAX);
                let highest = named.entry(id).or_default();
                *highest = version.max(*highest);
            }
        }
        if self.noted.is_none() {
            self.noted = Some(recovery::noted(writer).await?);
        }
        let before = self.noted.as_ref().and_then(|noted| noted.get(&node));
        if named.is_empty() && before.is_none() {
            return Ok(());
        }
        let mut strange = Vec::new();
        for (id, version) in named {
            if recovery::plan_of(writer, &id).await?.is_some() {
                self.known.insert(id);
            } else if strange.len() < NOTED_MAX {
                strange.push(Strange { id, version });
            }
        }
        if before.map_or(&[][..], Vec::as_slice) == strange {
            return Ok(());
        }
        recovery::note(writer, node, &strange).await?;
        let noted = self.noted.get_or_insert_default();
        match strange.is_empty() {
            true => drop(noted.remove(&node)),
            false => drop(noted.insert(node, strange)),
        }
        Ok(())
    }
}
