//! The check-in: one idempotent call by which a node says how it is and where it stands, and the hub answers where
//! the hub stands and when to come again. Fields that a reader does not know are kept in `extra`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
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
    /// The hub that it follows, by its id; absent before any hub said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// The highest [`Desired::revision`] that it has, durably.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// 16 hexadecimal digits that the answer's [`SignedTime`] repeats: else an old answer could be told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// What it is, or what changed of that. If nothing did, it is empty, and `seq` is `base`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
    /// The versions of documents that it accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<AcceptedVersion>,
    /// What became of the commands of earlier answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acks: Vec<Ack>,
    /// The largest checkpoint of the hub's log that it saw: `<size> <base64 root>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// How its models behave, since the process began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelFigures>,
    /// What a newer node said.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a node is, as facts: names and values, by difference from what the hub acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// The number of the state that this leads to; it grows within a run of the process.
    pub seq: u64,
    /// The number of the state that this changes; 0: none, `set` is all there is.
    #[serde(default)]
    pub base: u64,
    /// The facts that are new or other: text, number, list of texts, or truth.
    #[serde(default)]
    pub set: BTreeMap<String, Value>,
    /// The facts that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
    /// What a newer node said.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A document that a node accepted: the last version of its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedVersion {
    /// The id of the assignment.
    pub id: String,
    /// Its version.
    pub version: u64,
    /// The rollout or experiment whose document it is; absent: somebody made it by hand, or an older node does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// [`Command::id`].
    pub id: u64,
    /// Whether it was carried out.
    pub done: bool,
    /// Why not; empty if it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// How a model behaves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFigures {
    /// The model.
    pub model: String,
    /// The digest of the manifest of the variant that answers; absent if none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Hash>,
    /// How many answers it gave.
    pub answered: u64,
    /// How many requests it failed.
    pub failed: u64,
    /// 95 of 100 answers took at most this; absent below 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<u32>,
    /// Memory of the process that answers, where it can be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
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
    /// The chain's hash at `last`: what the hub keeps of it, nobody can rewrite later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Hash>,
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
    /// What serves instead of `current` when memory is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare: Option<SpareState>,
    /// Why no model is loaded, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe: Option<String>,
    /// Why a release that was ordered is not begun yet, if that is so: `window: …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
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

/// A smaller variant of what serves, for the time when memory is short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpareState {
    /// The variant.
    pub variant: String,
    /// The digest of its manifest.
    pub manifest: Hash,
    /// How far it is: `staging`, `staged`, `proving` or `ready`; a newer node may have others.
    pub phase: String,
    /// Whether it answers now, instead of what serves.
    #[serde(default)]
    pub answers: bool,
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// The hub's id: another one is another hub, or one that was set up anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
    /// What the hub has for this node; absent if it has nothing to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Desired>,
    /// The node shall say all facts the next time: the hub does not hold what they were reckoned from.
    #[serde(default, skip_serializing_if = "is_false")]
    pub full: bool,
    /// The labels that the hub has set, all of them; absent if none were ever set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<HubLabels>,
    /// What the node shall do once. None of it changes what runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Command>,
    /// The classes of records that shall wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quiet: Vec<Quiet>,
    /// How long the node may hold a call that waits for news; 0: it may not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub poll_ms: u64,
    /// The hub's time, signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<SignedTime>,
    /// The newest checkpoint of the hub's log, a signed note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Why this node gets nothing that changes it, if that is so: `hub-behind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// What a newer hub said.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The most documents in one answer, and the most bytes of all of them.
pub const DOCUMENTS_MAX: usize = 8;
/// See [`DOCUMENTS_MAX`].
pub const DOCUMENTS_MAX_BYTES: usize = 256 << 10;

/// The most bytes of one answer, as a node reads it: documents, and a thousand watermarks of at most 256 bytes.
pub const ANSWER_MAX_BYTES: usize = 1 << 20;

/// What the hub has for a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Grows whenever the hub has something else for this node.
    pub revision: u64,
    /// Signed documents, the same ones until the node says that it accepted them; at most [`DOCUMENTS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<Document>,
}

/// A signed document, byte for byte as the hub holds it. The hub cannot make one: only signatures are believed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(pub Box<RawValue>);

impl Document {
    /// Its bytes; `None` if they are no JSON.
    pub fn from_bytes(bytes: &[u8]) -> Option<Document> {
        serde_json::from_slice(bytes).ok().map(Document)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.get().as_bytes()
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Document) -> bool {
        self.bytes() == other.bytes()
    }
}

/// Labels that were set at the hub. Those of the node's own settings win.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubLabels {
    /// Grows with every change.
    pub rev: u64,
    /// All of them.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

/// Something to do once, and to acknowledge by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Its number at the hub.
    pub id: u64,
    /// `report_full`, `check_in`, `refresh_trust` or `renew`; a newer hub may have others.
    #[serde(rename = "do")]
    pub order: String,
    /// Nobody shall do it after this, by the hub's clock.
    pub until_ms: WallMs,
}

/// A class of records that shall wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// Which.
    pub class: Class,
    /// For so long, from now on.
    pub ms: u64,
}

/// A clock that a node can believe: Ed25519 over `selvedge-time/1`, the node, the nonce and the time, each ending its line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTime {
    /// The hub's wall clock.
    pub ms: WallMs,
    /// [`CheckIn::nonce`].
    pub nonce: String,
    /// 128 hexadecimal digits.
    pub sig: String,
}

fn is_false(truth: &bool) -> bool {
    !truth
}

fn is_zero(count: &u64) -> bool {
    *count == 0
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
                head: Some(Hash::of(b"twelve")),
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
                spare: Some(SpareState {
                    variant: "q4_0".into(),
                    manifest: Hash::of(b"spare"),
                    phase: "ready".into(),
                    answers: true,
                    extra: Map::new(),
                }),
                safe: None,
                waits: Some("window: it opens in 2 h".into()),
                extra: Map::new(),
            }],
            trust: Some(TrustFacts {
                root: Some(1),
                timestamp: Some(40),
                targets: Some(3),
                ..TrustFacts::default()
            }),
            hub: Some("7c1d".into()),
            revision: Some(8812),
            nonce: Some("00112233445566ff".into()),
            inventory: Some(Inventory {
                seq: 4,
                base: 3,
                set: facts(r#"{"disk": 51200000000, "isa": ["avx2"], "site": "oslo", "relay": true}"#),
                drop: vec!["accelerator".into()],
                extra: Map::new(),
            }),
            accepted: vec![AcceptedVersion { id: "9f3c".into(), version: 2, rollout: None }],
            acks: vec![
                Ack { id: 71, done: true, why: String::new() },
                Ack { id: 72, done: false, why: "this node does not know \"dance\"".into() },
            ],
            checkpoint: Some("18 AAAA".into()),
            models: vec![ModelFigures {
                model: "smollm2".into(),
                manifest: Some(Hash::of(b"manifest")),
                answered: 812,
                failed: 1,
                p95_ms: Some(41),
                rss_bytes: None,
                extra: Map::new(),
            }],
            extra: Map::new(),
        }
    }

    fn facts(text: &str) -> BTreeMap<String, Value> {
        serde_json::from_str(text).unwrap()
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
            hub: Some("7c1d".into()),
            desired: Some(Desired {
                revision: 8813,
                documents: vec![
                    Document::from_bytes(br#"{"signed":{"b":1,"a":2},"signatures":[]}"#).unwrap(),
                ],
            }),
            full: true,
            labels: Some(HubLabels { rev: 3, set: [("line".into(), "2".into())].into() }),
            commands: vec![Command { id: 72, order: "report_full".into(), until_ms: 1_767_225_700_000 }],
            quiet: vec![Quiet { class: Class::Metric, ms: 45_000 }],
            poll_ms: 240_000,
            time: Some(SignedTime {
                ms: 1_767_225_601_000,
                nonce: "00112233445566ff".into(),
                sig: "00".repeat(64),
            }),
            checkpoint: Some("selvedge/7c1d\n18\nAAAA\n".into()),
            paused: Some("hub-behind".into()),
            extra: Map::new(),
        };
        let text = serde_json::to_string(&answer).unwrap();
        let again: CheckInAnswer = serde_json::from_str(&text).unwrap();
        assert_eq!(again, answer, "documents lie in it byte for byte");
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
        let read = serde_json::from_str::<CheckInAnswer>(old).unwrap();
        assert_eq!(read, CheckInAnswer { v: 1, next_ms: 1, ..CheckInAnswer::default() });
        assert_eq!(
            serde_json::to_string(&read).unwrap(),
            r#"{"v":1,"hub_ms":0,"next_ms":1,"watermarks":[]}"#
        );
    }
}
