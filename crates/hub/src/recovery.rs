//! After a backup was restored: what nodes report beside what this hub has, and what adoption would make of it.
//!
//! A node that knows more than the hub is told nothing ([`crate::rollout::conflict`]). Here a person sees both sides. What
//! adoption would do to a rollout is reckoned by the step that does it.

use std::collections::{BTreeMap, BTreeSet};

use wire::checkin::CheckIn;

use crate::access::who::Who;
use crate::api::behind::{
    AheadItem, LostAct, LostActs, RaisedItem, RecoverAsk, Recovered, RecoveryView, Side, StrangerItem,
    UnknownItem,
};
use crate::api::refusal::Refusal;
use crate::rollout::conflict::{self, Told};
use crate::rollout::execute::{Granted, Recovery, Wish};
use crate::rollout::plan::PlanId;
use crate::rollout::step::{Event, Rollout, step};
use crate::rollout::{documents, text};
use crate::state::HubState;
use crate::store::audit::{self, AuditFilter};
use crate::store::recovery::{self as store, AheadRow};
use crate::store::rollouts;

/// The most nodes and acts that are shown.
const SHOWN_MAX: usize = 200;
/// The most keys that are shown, or let in at once.
const KEYS_MAX: i64 = 100_000;

/// Both sides.
pub async fn look(state: &HubState) -> Result<RecoveryView, Refusal> {
    let (revision, log) = store::stands(&state.readers).await?;
    let own = store::hub_id(&state.readers).await?;
    let rows = store::ahead(&state.readers).await?;
    let told: Vec<Told> = rows.iter().map(told).collect();
    let top = |of: fn(&Told) -> u64| told.iter().map(of).max().unwrap_or(0);
    let other = told.iter().filter_map(|told| told.hub.clone()).find(|hub| Some(hub) != own.as_ref());
    let nodes = Side {
        hub: other.or_else(|| own.clone()),
        revision: top(|told| told.revision),
        log: top(|told| told.log_size),
    };
    let (raised, mut unknown) = rollouts_of(state, &told).await?;
    strange(state, &rows, &mut unknown).await?;
    let lost = lost(state).await?;
    let keys = strangers(state, &lost).await?;
    let shown = rows.iter().zip(&told).take(SHOWN_MAX).map(|(row, told)| AheadItem {
        node: row.node.clone(),
        why: row.why.clone(),
        seen_ms: row.seen_ms,
        revision: told.revision,
        log: told.log_size,
    });
    Ok(RecoveryView {
        behind: !rows.is_empty() || !keys.is_empty() || lost.count > 0,
        hub: Side { hub: own, revision: revision as u64, log: log as u64 },
        nodes: if rows.is_empty() { Side::default() } else { nodes },
        count: rows.len() as u64,
        ahead: shown.collect(),
        rollouts: raised,
        unknown,
        lost,
        keys,
    })
}

/// Adopts and lets in, as far as it was asked for.
pub async fn recover(state: &HubState, who: &Who, ask: RecoverAsk) -> Result<Recovered, Refusal> {
    let mut keys: BTreeSet<String> = ask.keys.iter().map(ToString::to_string).collect();
    if ask.all_keys {
        let all = strangers(state, &lost(state).await?).await?;
        keys.extend(all.into_iter().filter(|key| !key.denied).map(|key| key.key));
    }
    let keys = keys.iter().filter_map(|key| wire::hash::Hash::parse(key)).collect();
    let recovery = Box::new(Recovery { adopt: ask.adopt, keys });
    let wish = Wish::Recover { recovery, who: who.name(), why: ask.why };
    let granted = state.writer.wish(wish).await?;
    state.peers.refresh().await?;
    state.peers.strangers.forget();
    match granted {
        Ok(Granted::Recovered(done)) => {
            Ok(Recovered { nodes: done.nodes, rollouts: done.rollouts, keys: done.keys })
        }
        _ => Err(Refusal::later("busy", "ask again".to_owned(), 1)),
    }
}

/// What a node reported last.
fn told(row: &AheadRow) -> Told {
    let checkin = row.checkin.as_deref().and_then(|text| serde_json::from_str::<CheckIn>(text).ok());
    checkin.map(|checkin| Told::of(&checkin)).unwrap_or_default()
}

/// The rollouts that nodes name: those that would be raised, and those that are not known here.
async fn rollouts_of(state: &HubState, all: &[Told]) -> Result<(Vec<RaisedItem>, Vec<UnknownItem>), Refusal> {
    let (mut plans, mut unknown) = (BTreeSet::new(), Vec::new());
    let mut named: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for (id, version) in all.iter().flat_map(|told| &told.accepted) {
        let (highest, nodes) = named.entry(id).or_default();
        (*highest, *nodes) = ((*highest).max(*version), *nodes + 1);
    }
    for (id, (version, nodes)) in named {
        match store::read_plan_of(&state.readers, id).await? {
            Some(plan) => drop(plans.insert(plan)),
            // Other documents for many nodes were made by hand, and are nobody's rollout.
            None if PlanId::parse(id).is_some() => {
                unknown.push(UnknownItem { id: id.to_owned(), version, nodes });
            }
            None => {}
        }
    }
    let mut raised = Vec::new();
    for id in plans {
        let Some(row) = rollouts::get(&state.readers, &id).await? else { continue };
        let (Ok(plan), Ok(before)) =
            (text::read(row.plan.as_bytes()), serde_json::from_str::<Rollout>(&row.state))
        else {
            continue;
        };
        let (named, nodes) = conflict::named(&documents::of(&plan), &before.released, all);
        if nodes == 0 {
            continue;
        }
        let event = Event::Adopted { named, who: String::new(), why: String::new() };
        let (after, _) = step(&plan, before.clone(), event, state.now_ms());
        raised.push(RaisedItem {
            id,
            what: plan.what.iter().map(|target| format!("{}:{}", target.model, target.release)).collect(),
            nodes,
            phase: before.phase.as_str().to_owned(),
            wave: before.wave,
            phase_after: after.phase.as_str().to_owned(),
            wave_after: after.wave,
        });
    }
    Ok((raised, unknown))
}

/// What nodes follow that are not ahead by any number: this hub has gone on since, and does not know it all the same.
async fn strange(
    state: &HubState,
    ahead: &[AheadRow],
    unknown: &mut Vec<UnknownItem>,
) -> Result<(), Refusal> {
    let ahead: BTreeSet<&str> = ahead.iter().map(|row| row.node.as_str()).collect();
    for (node, all) in store::read_noted(&state.readers).await? {
        if ahead.contains(node.as_str()) {
            continue;
        }
        for one in all {
            match unknown.iter_mut().find(|item| item.id == one.id) {
                Some(item) => (item.version, item.nodes) = (item.version.max(one.version), item.nodes + 1),
                None => unknown.push(UnknownItem { id: one.id, version: one.version, nodes: 1 }),
            }
        }
    }
    Ok(())
}

/// What the published log had and the database had not.
async fn lost(state: &HubState) -> Result<LostActs, Refusal> {
    let Some((from, to)) = store::lost(&state.readers).await? else { return Ok(LostActs::default()) };
    let filter = AuditFilter { before: Some(to + 1), ..AuditFilter::default() };
    let rows = audit::list(&state.readers, &filter, SHOWN_MAX as i64).await?;
    let acts = rows.into_iter().filter(|row| row.id > from).map(|row| LostAct {
        id: row.id as u64,
        at_ms: row.at_ms,
        who: row.who,
        act: row.act,
        on: row.about,
    });
    Ok(LostActs { count: (to - from).max(0) as u64, acts: acts.collect() })
}

/// Keys that knock. Who was denied since the backup is marked.
async fn strangers(state: &HubState, lost: &LostActs) -> Result<Vec<StrangerItem>, Refusal> {
    let mut denied = BTreeSet::new();
    for act in lost.acts.iter().rev() {
        match act.act.as_str() {
            "deny" => drop(denied.insert(act.on.as_str())),
            "pardon" => drop(denied.remove(act.on.as_str())),
            _ => {}
        }
    }
    let rows = store::strangers(&state.readers, KEYS_MAX).await?;
    let shown = rows.into_iter().map(|row| {
        let key = row.key.to_string();
        let denied = denied.contains(key.as_str()) || denied.contains(row.name.as_str());
        let (node, serial, not_after_ms, seen_ms) = (row.name, row.serial, row.not_after_ms, row.seen_ms);
        StrangerItem { key, node, serial, not_after_ms, seen_ms, denied }
    });
    Ok(shown.collect())
}
