//! What rules said before a restart, from the journal's own decisions: a second file could disagree with them.
//!
//! A rule that was firing goes on firing, so the same alert is not raised twice. One that is no longer in the flow, or
//! has another condition, is cleared, so that an alert does not stay for ever. Only the newest decisions are looked
//! at; a rule whose last one lies before them counts as quiet, and fires again if its condition holds.

use std::collections::BTreeMap;
use std::path::Path;

use wire::body::{Body, Decision, Ran, RuleState};
use wire::hash::Hash;
use wire::id::{PartName, StreamName};
use wire::world::WallMs;

use crate::journal::DatabaseError;
use crate::journal::reader::Reader;
use crate::pipeline::{Pipeline, Product};

/// The most decisions looked at, newest first.
const LOOK_BACK: u64 = 10_000;
/// Decisions in memory at a time.
const PAGE: u64 = 200;

/// Restores the rules of `pipeline`; appends what must be told.
pub(super) fn rules(
    data: &Path,
    pipeline: &mut Pipeline,
    out: &mut Vec<Product>,
) -> Result<(), DatabaseError> {
    for (rule, Last { decision, fired_ms }) in last_decisions(data)? {
        if let (Some(known), Some(fired_ms)) =
            (pipeline.rules_mut().iter_mut().find(|known| known.config().name == rule), fired_ms)
        {
            known.restore_told(fired_ms);
        }
        if decision.state != RuleState::Firing {
            continue;
        }
        let known = pipeline.rules_mut().iter_mut().find(|known| known.config().name == rule);
        let why = match known {
            Some(known) if known.config().when.text() == decision.when => {
                known.restore_firing(decision.since_ms);
                continue;
            }
            Some(_) => "the rule's condition was changed",
            None => "the rule is no longer in the flow",
        };
        out.push(Product::Decision(Decision {
            state: RuleState::Cleared,
            since_ms: decision.at_ms,
            value: f64::NAN,
            input: Hash::GENESIS,
            ran: Ran::Rule,
            why: why.to_owned(),
            confidence: None,
            latency_us: 0,
            joules: None,
            ..decision
        }));
    }
    Ok(())
}

/// What a rule said last.
struct Last {
    decision: Decision,
    /// When it was told last that it fires.
    fired_ms: Option<WallMs>,
}

/// The last decision of each rule.
fn last_decisions(data: &Path) -> Result<BTreeMap<PartName, Last>, DatabaseError> {
    let reader = Reader::open(data)?;
    let stream = StreamName::new("decisions").expect("a good name");
    let mut decisions: BTreeMap<PartName, Last> = BTreeMap::new();
    let newest = reader.latest(&stream, 1)?.last().map_or(0, |(record, _)| record.seq);
    let oldest = newest.saturating_sub(LOOK_BACK);
    let mut until = newest;
    while until > oldest {
        let after = until.saturating_sub(PAGE).max(oldest);
        let page = reader.records(&stream, after, (until - after) as usize)?;
        for (record, _) in page.iter().rev().filter(|(record, _)| record.kind.as_str() == Decision::KIND) {
            // A decision of a newer version that cannot be read tells nothing about its rule.
            if let Ok(decision) = serde_json::from_str::<Decision>(record.body.get()) {
                let fired_ms = (decision.state == RuleState::Firing).then_some(decision.at_ms);
                // The newest comes first.
                let last = decisions.entry(decision.rule.clone()).or_insert(Last { decision, fired_ms });
                last.fired_ms = last.fired_ms.or(fired_ms);
            }
        }
        until = after;
    }
    Ok(decisions)
}
