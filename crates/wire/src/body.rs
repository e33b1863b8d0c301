//! What the records of each kind say. A reader ignores fields it does not know; the stored text keeps them.

pub mod act;
pub mod report;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::class::Class;
use crate::hash::Hash;
use crate::id::{PartName, StreamName};
use crate::record::Draft;
use crate::world::WallMs;

/// A body that knows its kind, so that it can become a record.
pub trait Body: Serialize {
    /// The word that stands beside the body in its record.
    const KIND: &'static str;

    /// Makes a draft for `stream`.
    fn draft(&self, stream: &StreamName, class: Class) -> Draft {
        // Plain structs of numbers, strings and lists always serialise, and the kinds below are good names.
        let text = serde_json::to_string(self).expect("a body is plain data");
        let body = RawValue::from_string(text).expect("serde_json writes JSON");
        let kind = PartName::new(Self::KIND).expect("a kind is a good name");
        Draft { stream: stream.clone(), class, kind, body }
    }
}

/// The node process began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The program's version.
    pub version: String,
    /// The digest of the flow it runs.
    pub flow: Hash,
    /// Whether the run before ended by itself, rather than by a crash or a power cut. `None` on the first.
    pub clean: Option<bool>,
}

impl Body for Start {
    const KIND: &'static str = "start";
}

/// A run of readings of one source, as they came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Readings {
    /// The source.
    pub source: PartName,
    /// Its channels.
    pub channels: Vec<String>,
    /// When each reading was taken, by the source's clock. Shape: `[readings]`.
    pub t_ms: Vec<WallMs>,
    /// Shape: `[channels][readings]`, in each sensor's own unit; `null` where there was no value.
    pub values: Vec<Values>,
}

/// One channel's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Values(#[serde(with = "crate::number::list")] pub Vec<f64>);

impl Body for Readings {
    const KIND: &'static str = "readings";
}

/// What a chart needs of a stretch of readings, without the readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The source.
    pub source: PartName,
    /// The time of the first reading.
    pub from_ms: WallMs,
    /// The time of the last reading.
    pub to_ms: WallMs,
    /// How many readings.
    pub count: u64,
    /// Per channel.
    pub channels: Vec<ChannelSummary>,
    /// What each model that watches this source made of the stretch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelSummary>,
}

/// One channel of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelSummary {
    /// The channel.
    pub channel: String,
    /// The smallest value; `null` where there was none.
    #[serde(with = "crate::number")]
    pub min: f64,
    /// The mean of the values that were there.
    #[serde(with = "crate::number")]
    pub mean: f64,
    /// The largest value.
    #[serde(with = "crate::number")]
    pub max: f64,
    /// How many readings had no value, or none that could be believed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// In how many of the readings the channel's sensor was not believed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub isolated: u64,
}

/// One model's view of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// The model.
    pub model: PartName,
    /// The highest score; 1 is the model's threshold.
    pub score: f64,
    /// The highest probability of an anomaly; absent while the model is learning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
}

impl Body for Summary {
    const KIND: &'static str = "summary";
}

/// A model raised or lowered its alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inference {
    /// The model.
    pub model: ModelRef,
    /// The source it watches.
    pub source: PartName,
    /// Whether an anomaly begins or ends here.
    pub state: Episode,
    /// When the anomaly began, by the source's clock.
    pub since_ms: WallMs,
    /// The time of the reading that changed the state.
    pub at_ms: WallMs,
    /// The highest score since it began; 1 is the model's threshold.
    pub score: f64,
    /// The probability that goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Which channels drove it: shares that sum to 1, the largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Share>,
    /// The digest of the window it was made from.
    pub input: Hash,
    /// From the arrival of the reading to here, in microseconds.
    pub latency_us: u64,
}

impl Body for Inference {
    const KIND: &'static str = "inference";
}

/// What a network made of a window: said when one of its words is another than before, and when it looks for the first time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The network.
    pub model: ModelRef,
    /// The source it looks at.
    pub source: PartName,
    /// The time of the last reading it looked at.
    pub at_ms: WallMs,
    /// What it gives, by the names of its fields.
    pub fields: BTreeMap<String, Said>,
    /// The digest of the window it was made from.
    pub input: Hash,
    /// From the arrival of the last reading to here, in microseconds.
    pub latency_us: u64,
}

impl Body for Answer {
    const KIND: &'static str = "answer";
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Said {
    /// A number.
    Number(f64),
    /// A word.
    Word(String),
}

/// The two ends of an anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Episode {
    /// It begins.
    Begins,
    /// It ends.
    Ends,
}

/// A channel's part in an anomaly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The channel.
    pub channel: String,
    /// Its share, `0.0..=1.0`.
    pub share: f64,
}

/// Which model, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRef {
    /// Its name in the flow.
    pub name: PartName,
    /// Which build of it: for a detector its type and settings, `subspace lag=10`.
    pub variant: String,
    /// The digest of what was loaded or learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Hash>,
}

/// A rule changed its mind. The record that explains every alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The rule.
    pub rule: PartName,
    /// What it now says.
    pub state: RuleState,
    /// How bad it is.
    pub severity: Severity,
    /// Where the readings came from.
    pub source: PartName,
    /// When the condition began to hold (or to fail), by the source's clock.
    pub since_ms: WallMs,
    /// The time of the reading that changed the state.
    pub at_ms: WallMs,
    /// The rule's condition, as written.
    pub when: String,
    /// The value it was judged on.
    #[serde(with = "crate::number")]
    pub value: f64,
    /// The model behind the value, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// The digest of the window it was made from.
    pub input: Hash,
    /// Where it was decided.
    pub ran: Ran,
    /// Why there and so, in words.
    pub why: String,
    /// The calibrated probability that the decision is right; absent when nothing was calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// From the arrival of the reading to here, in microseconds.
    pub latency_us: u64,
    /// The energy it took, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// The rule's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Body for Decision {
    const KIND: &'static str = "decision";
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleState {
    /// The condition has held for as long as the rule asks.
    Firing,
    /// It has failed for as long as the rule asks.
    Cleared,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth looking at soon.
    #[default]
    Warning,
    /// Worth waking somebody.
    Critical,
}

impl Severity {
    /// The word used in encodings and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// Where something was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ran {
    /// By a model on this node.
    Local,
    /// By a bigger model elsewhere.
    Expert,
    /// By a rule alone.
    Rule,
}

/// A source changed its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceChange {
    /// The source.
    pub source: PartName,
    /// `running`, `waiting`, `failed` or `ended`.
    pub state: String,
    /// Why, in words.
    pub reason: String,
    /// Readings taken since the process began.
    pub readings: u64,
    /// Readings or cells refused since the process began.
    pub refused: u64,
}

impl Body for SourceChange {
    const KIND: &'static str = "source";
}

/// A model, a rule, or a part of the node itself changed its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartChange {
    /// The part: `model.pump_health`, `rule.overheat`, `pipeline`, `journal`, `uplink`.
    pub part: String,
    /// `learning`, `ready` or `failed`; of a rule: `unable` or `ready`; of a channel, `source.pump.pressure`: `faulty`, `suspect` or
    /// `well`; of a model that comes as a release, `release.smollm2`: `spare` while its smaller variant answers, or `ready`.
    pub state: String,
    /// Why, in words.
    pub reason: String,
}

impl Body for PartChange {
    const KIND: &'static str = "part";
}

/// What became of a release of a model on this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Install {
    /// Whoever gets it twice takes it once.
    pub id: String,
    /// The model.
    pub model: String,
    /// Its release.
    pub release: u64,
    /// The variant, if one was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The digest of the release's index.
    pub index: Hash,
    /// The digest of the variant's manifest, if one was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Hash>,
    /// `committed`, `refused`, `missed`, `superseded`, `unfit`, `fell_back`, `rolled_back`, `safe`; a newer node may have others.
    pub outcome: String,
    /// How far it was: `staging`, `staged`, `proving`, `shadow`, `trial`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why, in words; empty where there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// How often it was proven.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// From its file to its first answer, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ms: Option<u32>,
    /// 95 of 100 answers took at most this, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<u32>,
    /// The most memory that it took, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// The energy of an answer, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// The rollout that ordered it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// Whether the machine ran on since the release last began to run here; absent where that is not known. Two cuts of power
    /// look like a model that brings machines down, and this tells a person of the difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_same: Option<bool>,
}

impl Body for Install {
    const KIND: &'static str = "install";
}

/// How a model behaved for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Behaviour {
    /// Whoever gets it twice takes it once.
    pub id: String,
    /// The model.
    pub model: String,
    /// The digest of the manifest of the variant that answered.
    pub manifest: Hash,
    /// The rollout that ordered it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// When the while began, by the node's clock.
    pub from_ms: WallMs,
    /// When it ended.
    pub to_ms: WallMs,
    /// How many answers it gave.
    pub answered: u64,
    /// How many requests it failed.
    pub failed: u64,
    /// How many of the answers said that it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abstained: Option<u64>,
    /// What answers took; absent below 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Quantiles>,
    /// Memory of the process that answers, where it can be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// The energy of an answer, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// How far inputs are from those that the model was made for, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<f64>,
    /// How often it stopped without being told.
    #[serde(default)]
    pub restarts: u64,
    /// How it compares with the release that answers; absent if nothing was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

impl Body for Behaviour {
    const KIND: &'static str = "behaviour";
}

/// What a token of an answer took, in milliseconds; as [`Install::p95_ms`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half of them took at most this.
    pub p50: u32,
    /// 95 of 100 took at most this.
    pub p95: u32,
    /// Of so many.
    pub n: u64,
}

/// A candidate's answers beside those that people got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// How many were compared.
    pub compared: u64,
    /// How many agreed.
    pub agreed: u64,
    /// How many were chosen and not compared: the budget was spent, or the one before was not answered yet.
    pub skipped: u64,
    /// The experiment that ordered it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    /// The digest of the manifest of the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Hash>,
    /// How long it answered, in milliseconds, on one thread.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub busy_ms: u64,
    /// What the machine used meanwhile, in joules, where that can be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<u64>,
    /// Some that parted the earliest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst: Vec<Parted>,
}

/// Two answers that part. What was asked and answered is here as digests with a key that no node tells: the same question has
/// the same digest while a node's process runs, and nobody finds it by trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parted {
    /// Of what was asked.
    pub input: Hash,
    /// Of what people got.
    pub ours: Hash,
    /// Of what the candidate said.
    pub theirs: Hash,
    /// After so many tokens that are the same.
    pub at: u32,
}

/// A candidate that answers beside the current release said something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    /// The model.
    pub model: String,
    /// The digest of the manifest of the variant that answered.
    pub manifest: Hash,
    /// The digest of the manifest of the candidate.
    pub candidate: Hash,
    /// The experiment that ordered it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    /// What parts, and where.
    #[serde(flatten)]
    pub parted: Parted,
}

impl Body for Disagreement {
    const KIND: &'static str = "disagreement";
}

fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PartName {
        PartName::new(text).unwrap()
    }

    /// Changing these texts breaks journals in the field: add optional fields only.
    #[test]
    fn the_encodings_are_golden() {
        let summary = Summary {
            source: name("pump"),
            from_ms: 1_000,
            to_ms: 1_900,
            count: 10,
            channels: vec![ChannelSummary {
                channel: "pressure".into(),
                min: 1.0,
                mean: f64::NAN,
                max: 2.5,
                missing: 1,
                isolated: 0,
            }],
            models: vec![ModelSummary { model: name("health"), score: 0.25, probability: None }],
        };
        insta::assert_snapshot!("summary", serde_json::to_string(&summary).unwrap());
        let decision = Decision {
            rule: name("anomaly"),
            state: RuleState::Firing,
            severity: Severity::Critical,
            source: name("pump"),
            since_ms: 1_000,
            at_ms: 3_000,
            when: "health.p > 0.99".into(),
            value: 0.995,
            model: Some(ModelRef { name: name("health"), variant: "subspace lag=10".into(), digest: None }),
            input: Hash::GENESIS,
            ran: Ran::Local,
            why: "held for 2 s".into(),
            confidence: Some(0.995),
            latency_us: 120,
            joules: None,
            labels: BTreeMap::new(),
        };
        insta::assert_snapshot!("decision", serde_json::to_string(&decision).unwrap());
        let readings = Readings {
            source: name("pump"),
            channels: vec!["a".into()],
            t_ms: vec![1, 2],
            values: vec![Values(vec![1.0, f64::NAN])],
        };
        insta::assert_snapshot!("readings", serde_json::to_string(&readings).unwrap());
        let install = Install {
            id: "00000000000000000000000000000001-3-smollm2".into(),
            model: "smollm2".into(),
            release: 7,
            variant: Some("q4_k_m".into()),
            index: Hash::GENESIS,
            manifest: None,
            outcome: "refused".into(),
            phase: Some("proving".into()),
            why: "golden case 0: the answer parts at token 2".into(),
            attempt: 1,
            load_ms: Some(900),
            p95_ms: None,
            rss_bytes: None,
            joules: None,
            rollout: Some("9f3c".into()),
            kernel_same: Some(true),
        };
        insta::assert_snapshot!("install", serde_json::to_string(&install).unwrap());
        let behaviour = Behaviour {
            id: "00000000000000000000000000000001-b-3".into(),
            model: "smollm2".into(),
            manifest: Hash::GENESIS,
            rollout: None,
            from_ms: 1_000,
            to_ms: 601_000,
            answered: 812,
            failed: 3,
            abstained: None,
            latency_ms: Some(Quantiles { p50: 18, p95: 41, n: 812 }),
            rss_bytes: Some(910_000_000),
            joules: None,
            drift: None,
            restarts: 0,
            shadow: Some(Shadow { compared: 400, agreed: 391, skipped: 12, ..Shadow::default() }),
        };
        insta::assert_snapshot!("behaviour", serde_json::to_string(&behaviour).unwrap());
        let parted = Parted { input: Hash::GENESIS, ours: Hash::GENESIS, theirs: Hash::GENESIS, at: 7 };
        let disagreement = Disagreement {
            model: "smollm2".into(),
            manifest: Hash::GENESIS,
            candidate: Hash::GENESIS,
            experiment: Some("9f3c".into()),
            parted,
        };
        insta::assert_snapshot!("disagreement", serde_json::to_string(&disagreement).unwrap());
    }

    #[test]
    fn a_draft_carries_its_kind() {
        let start = Start { version: "0.1.0".into(), flow: Hash::GENESIS, clean: Some(true) };
        let draft = start.draft(&StreamName::new("audit").unwrap(), Class::Audit);
        assert_eq!(draft.kind.as_str(), "start");
        assert_eq!(serde_json::from_str::<Start>(draft.body.get()).unwrap(), start);
    }
}
