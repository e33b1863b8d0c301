//! From what was stored to what somebody should know: decisions of nodes, forked journals, lost records and silent
//! nodes become alerts. Pure: each function says what to raise or clear; the writer does it.

use wire::batch::Batch;
use wire::body::{Decision, RuleState};
use wire::id::NodeId;
use wire::record::Gap;
use wire::world::WallMs;

use crate::store::alerts::{AlertKey, Origin, Raise};

/// The hub's rule for a node that does not come.
pub const NODE_SILENT: &str = "node-silent";
/// The hub's rule for a journal that does not continue its own past.
pub const JOURNAL_FORKED: &str = "journal-forked";
/// The hub's rule for records that were dropped before the hub had them.
pub const RECORDS_LOST: &str = "records-lost";

/// The hub's rule for an audit log that is not the one that nodes saw.
pub const LOG_FORKED: &str = "log-forked";

/// A loss is news for this long; afterwards it stands in the list of gaps.
pub const LOSS_NEWS_MS: i64 = 3_600_000;

/// The least time after which a node counts as silent.
pub const SILENT_MIN_MS: i64 = 60_000;

/// The most characters of a text that is copied from a record into an alert; the record keeps all of it.
const TEXT_MAX: usize = 500;

/// Times beyond this (the year 275760) cannot be shown by a browser.
pub const TIME_MAX_MS: i64 = 8_640_000_000_000_000;

/// What follows from a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// Raise this alert.
    Raise(Raise),
    /// Clear that one.
    Clear {
        /// Which.
        key: AlertKey,
        /// When the condition had failed for long enough.
        at_ms: WallMs,
    },
}

/// What follows from the body of a `decision` record, the record's number in the store being `record`.
/// Nothing, if it is not the body of a decision.
pub fn decision(body: &str, record: i64) -> Option<Finding> {
    let decision: Decision = serde_json::from_str(body).ok()?;
    let key = AlertKey {
        origin: Origin::Node,
        rule: decision.rule.as_str().to_owned(),
        source: decision.source.as_str().to_owned(),
    };
    let at_ms = plausible(decision.at_ms);
    Some(match decision.state {
        RuleState::Cleared => Finding::Clear { key, at_ms },
        RuleState::Firing => Finding::Raise(Raise {
            key,
            severity: decision.severity.as_str(),
            since_ms: plausible(decision.since_ms),
            fired_ms: at_ms,
            condition: clipped(&decision.when),
            why: clipped(&decision.why),
            value: decision.value.is_finite().then_some(decision.value),
            confidence: decision.confidence.filter(|p| p.is_finite()),
            model: decision.model.map(|model| clipped(&format!("{} ({})", model.name, model.variant))),
            count: 1,
            record: Some(record),
        }),
    })
}

/// What follows from a batch that does not continue its stream.
pub fn forked(batch: &Batch, watermark_seq: u64, now_ms: WallMs) -> Raise {
    let (stream, journal) = (&batch.stream, batch.journal);
    let why = format!(
        "stream {stream} of journal {journal} does not continue what the hub holds up to record {watermark_seq}: \
         the journal was altered, or restored from a copy"
    );
    Raise { severity: "critical", ..Raise::by_hub(JOURNAL_FORKED, &journal.to_string(), why, now_ms) }
}

/// What follows from a gap.
pub fn lost(stream: &str, gap: &Gap, reason: &str, now_ms: WallMs) -> Raise {
    let count = i64::try_from(gap.count()).unwrap_or(i64::MAX);
    let range = if gap.first == gap.last {
        format!("record {}", gap.first)
    } else {
        format!("records {} to {}", gap.first, gap.last)
    };
    let why =
        format!("{range} of stream {stream} were dropped on the node before the hub had them ({reason})");
    let why = if gap.first == gap.last { why.replace("were dropped", "was dropped") } else { why };
    Raise { count, ..Raise::by_hub(RECORDS_LOST, stream, why, now_ms) }
}

/// What follows from a node's silence.
pub fn silent(last_seen_ms: WallMs, now_ms: WallMs) -> Raise {
    let seconds = now_ms.saturating_sub(last_seen_ms) / 1000;
    let why = format!("not heard of for {seconds} s; it may be off, or its link may be cut");
    Raise { since_ms: last_seen_ms, ..Raise::by_hub(NODE_SILENT, "", why, now_ms) }
}

/// A node saw another audit log than the one that is published.
pub fn log_forked(node: &NodeId, seen: &str, now_ms: WallMs) -> Raise {
    let why = format!(
        "node {node} saw {seen} of this hub's audit log, and that is not the log that is published: it was set back or \
         rewritten; `selvedge audit verify --node` checks it without the hub"
    );
    Raise { severity: "critical", ..Raise::by_hub(LOG_FORKED, "", why, now_ms) }
}

/// The key of [`silent`]'s alert.
pub fn silent_key() -> AlertKey {
    AlertKey { origin: Origin::Hub, rule: NODE_SILENT.to_owned(), source: String::new() }
}

/// Whether a node counts as silent: three invitations missed, and at least a minute. Time before `watching_since_ms`
/// does not count, because then the hub itself was not there to hear it.
pub fn is_silent(last_seen_ms: WallMs, next_ms: i64, watching_since_ms: WallMs, now_ms: WallMs) -> bool {
    let patience_ms = next_ms.saturating_mul(3).max(SILENT_MIN_MS);
    now_ms.saturating_sub(last_seen_ms.max(watching_since_ms)) > patience_ms
}

/// A time that can be shown.
pub fn plausible(ms: WallMs) -> WallMs {
    ms.clamp(-TIME_MAX_MS, TIME_MAX_MS)
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRING: &str = r#"{"rule":"hot","state":"firing","severity":"critical","source":"pump","since_ms":1000,
        "at_ms":3000,"when":"t > 90","value":95.5,"input":"0000000000000000000000000000000000000000000000000000000000000000",
        "ran":"rule","why":"held for 2 s","latency_us":12}"#;

    #[test]
    fn decisions_raise_and_clear() {
        let Some(Finding::Raise(raise)) = decision(FIRING, 7) else { panic!("nothing raised") };
        assert_eq!((raise.key.rule.as_str(), raise.key.source.as_str()), ("hot", "pump"));
        assert_eq!(
            (raise.since_ms, raise.fired_ms, raise.value, raise.record),
            (1000, 3000, Some(95.5), Some(7))
        );
        let cleared = decision(&FIRING.replace("firing", "cleared"), 8).unwrap();
        assert_eq!(cleared, Finding::Clear { key: raise.key, at_ms: 3000 });
    }

    #[test]
    fn hostile_decisions() {
        assert_eq!(decision("[1,2]", 1), None);
        assert_eq!(decision(&"[".repeat(10_000), 1), None);
        let far = FIRING.replace("3000", "9223372036854775807").replace("95.5", "null");
        let Some(Finding::Raise(raise)) = decision(&far, 1) else { panic!("nothing raised") };
        assert_eq!((raise.fired_ms, raise.value), (TIME_MAX_MS, None));
        let long = FIRING.replace("held for 2 s", &"é".repeat(10_000));
        let Some(Finding::Raise(raise)) = decision(&long, 1) else { panic!("nothing raised") };
        assert_eq!(raise.why.chars().count(), TEXT_MAX + 1);
    }

    #[test]
    fn silence() {
        #[track_caller]
        fn check(last_seen_ms: i64, next_ms: i64, since_ms: i64, now_ms: i64, expected: bool) {
            assert_eq!(is_silent(last_seen_ms, next_ms, since_ms, now_ms), expected);
        }
        check(0, 10_000, 0, 60_000, false);
        check(0, 10_000, 0, 60_001, true);
        check(0, 50_000, 0, 150_000, false);
        check(0, 50_000, 0, 150_001, true);
        // The hub was away for a day: the node gets its patience again.
        check(0, 10_000, 86_400_000, 86_400_000, false);
        check(0, 10_000, 86_400_000, 86_460_001, true);
        // The clock was set back.
        check(100_000, 10_000, 0, 0, false);
        check(i64::MIN, i64::MAX, i64::MIN, i64::MAX, false);
    }
}
