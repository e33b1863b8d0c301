//! The check-in: one idempotent call by which a node says how it is and where it stands, and the hub answers where
//! the hub stands and when to come again. Fields that a reader does not know are kept in `extra`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::batch::Watermark;
use crate::class::Class;
use crate::hash::Hash;
use crate::id::{BootId, JournalId, NodeId, PartName, StreamName};
use crate::world::{ClockQuality, WallMs};

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckIn {
    /// The protocol version of the node.
    pub v: u32,
    /// Who it is.
    pub node: NodeId,
    /// The life of its journal.
    pub journal: JournalId,
    /// The run of its process.
    pub boot: BootId,
    /// The program's version.
    pub version: String,
    /// How long this run has lasted.
    pub uptime_ms: u64,
    /// Its wall clock.
    pub wall_ms: WallMs,
    /// How far it trusts that clock.
    pub clock: ClockQuality,
    /// The digest of the flow that is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Hash>,
    /// Its sources.
    #[serde(default)]
    pub sources: Vec<SourceState>,
    /// Its streams that may leave it.
    #[serde(default)]
    pub streams: Vec<StreamState>,
    /// Memory of the process, where it can be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// Bytes in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_bytes: Option<u64>,
    /// Its models that come as packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<SlotState>,
    /// Whom it believes about them; absent if it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustFacts>,
    /// What a newer node said.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How one source is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceState {
    /// Its name in the flow.
    pub source: PartName,
    /// `running`, `waiting`, `failed` or `ended`.
    pub state: String,
    /// Why, when it is not running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Readings taken since the process began.
    pub readings: u64,
    /// Readings or cells refused since the process began.
    pub refused: u64,
    /// What a newer node said.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How far one stream is, seen from the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// Its name.
    pub stream: StreamName,
    /// Its class.
    pub class: Class,
    /// The last sequence number written; 0 before the first.
    pub last: u64,
    /// The last sequence number the hub is known to have.
    pub acked: u64,
    /// What a newer node said.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What stands in the slots of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotState {
    /// The model.
    pub model: String,
    /// What serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<CurrentState>,
    /// The release that served before, and would again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<u64>,
    /// What may serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateState>,
    /// Why no model is loaded, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe: Option<String>,
    /// What a newer node said.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentState {
    /// The release.
    pub release: u64,
    /// The variant of it that this node has.
    pub variant: String,
    /// The digest of the variant's manifest.
    pub manifest: Hash,
    /// What a newer node said.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What may serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateState {
    /// The release.
    pub release: u64,
    /// How far it is: `staging`, `staged`, `proving`, `shadow` or `trial`; a newer node may have others.
    pub phase: String,
    /// How often it, or the node under it, stopped without a result. The second time refuses it.
    pub misses: u32,
    /// What a newer node said.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a node trusts, by the versions of the metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustFacts {
    /// Of root; absent if the trust is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<u64>,
    /// Of the timestamp, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// Of the top-level targets, if it has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<u64>,
    /// How far past its expiry the oldest of it is; 0: all is fresh.
    #[serde(default)]
    pub stale_ms: i64,
    /// Why nothing new is accepted until a person resets the trust, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// What a newer node said.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What the hub answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckInAnswer {
    /// The protocol version of the hub.
    pub v: u32,
    /// The hub's wall clock.
    pub hub_ms: WallMs,
    /// When to come again, in milliseconds from now; the node adds jitter.
    pub next_ms: u64,
    /// Where the hub stands in each stream of this journal.
    #[serde(default)]
    pub watermarks: Vec<Watermark>,
    /// Changes whenever the hub has another assignment: ask for them again. Absent from a hub that has never had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignments: Option<u64>,
    /// What a newer hub said.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Simulated;

    fn sample() -> CheckIn {
        let mut world = Simulated::new(5);
        CheckIn {
            v: 1,
            node: NodeId::new("pump-1").unwrap(),
            journal: JournalId::random(&mut world),
            boot: BootId::random(&mut world),
            version: "0.1.0".into(),
            uptime_ms: 61_000,
            wall_ms: 1_767_225_600_000,
            clock: ClockQuality::Unchecked,
            flow: Some(Hash::of(b"flow")),
            sources: vec![SourceState {
                source: PartName::new("pump").unwrap(),
                state: "running".into(),
                reason: None,
                readings: 610,
                refused: 2,
                extra: Map::new(),
            }],
            streams: vec![StreamState {
                stream: StreamName::new("decisions").unwrap(),
                class: Class::Audit,
                last: 12,
                acked: 10,
                extra: Map::new(),
            }],
            rss_bytes: Some(8_000_000),
            journal_bytes: None,
            slots: vec![SlotState {
                model: "smollm2".into(),
                current: Some(CurrentState {
                    release: 6,
                    variant: "q4_k_m".into(),
                    manifest: Hash::of(b"manifest"),
                    extra: Map::new(),
                }),
                previous: Some(5),
                candidate: Some(CandidateState {
                    release: 7,
                    phase: "trial".into(),
                    misses: 1,
                    extra: Map::new(),
                }),
                safe: None,
                extra: Map::new(),
            }],
            trust: Some(TrustFacts {
                root: Some(1),
                timestamp: Some(40),
                targets: Some(3),
                ..TrustFacts::default()
            }),
            extra: Map::new(),
        }
    }

    /// Changing this text breaks nodes in the field: add optional fields only.
    #[test]
    fn the_encoding_is_golden() {
        insta::assert_snapshot!("checkin", serde_json::to_string_pretty(&sample()).unwrap());
        let answer = CheckInAnswer {
            v: 1,
            hub_ms: 1_767_225_601_000,
            next_ms: 60_000,
            watermarks: vec![Watermark {
                stream: StreamName::new("decisions").unwrap(),
                seq: 10,
                hash: Hash::of(b"ten"),
            }],
            assignments: Some(31),
            extra: Map::new(),
        };
        insta::assert_snapshot!("checkin_answer", serde_json::to_string_pretty(&answer).unwrap());
    }

    #[test]
    fn unknown_fields_survive() {
        let mut value = serde_json::to_value(sample()).unwrap();
        value["gpu"] = serde_json::json!({"name": "orin", "temp_c": 51.5});
        value["sources"][0]["rate_hz"] = 10.into();
        value["slots"][0]["current"]["joules"] = 0.25.into();
        let read: CheckIn = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), value);
    }

    #[test]
    fn an_old_node_and_an_old_hub_are_understood() {
        let old = r#"{"v":1,"node":"a","journal":"00000000000000000000000000000001",
            "boot":"00000000000000000000000000000002","version":"0.0.9","uptime_ms":1,"wall_ms":0,"clock":"unchecked"}"#;
        let read: CheckIn = serde_json::from_str(old).unwrap();
        assert!(read.sources.is_empty() && read.streams.is_empty() && read.flow.is_none());
        assert!(read.slots.is_empty() && read.trust.is_none());
        let old = r#"{"v":1,"hub_ms":0,"next_ms":1}"#;
        assert_eq!(serde_json::from_str::<CheckInAnswer>(old).unwrap().assignments, None);
    }
}
