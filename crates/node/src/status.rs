//! How the node is, for whoever asks: the local API, the command line, the check-in at the hub.

use serde::Serialize;
use wire::checkin::{SlotState, TrustFacts};
use wire::class::Class;
use wire::hash::Hash;
use wire::id::{NodeId, PartName, StreamName};
use wire::world::{ClockQuality, WallMs};

use crate::latency::LatencySummary;

/// The whole node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Its name.
    pub node: NodeId,
    /// The program's version.
    pub version: &'static str,
    /// How long this run has lasted.
    pub uptime_ms: u64,
    /// The digest of the flow that is running.
    pub flow: Hash,
    /// Why a newer flow was not taken, if one was not.
    pub flow_problem: Option<String>,
    /// How far it trusts its clock.
    pub clock: ClockQuality,
    /// Memory of the process, where it can be measured.
    pub rss_bytes: Option<u64>,
    /// Its sources, in the order of the flow.
    pub sources: Vec<SourceStatus>,
    /// Its models, in the order of the flow.
    pub models: Vec<ModelStatus>,
    /// Its rules, in the order of the flow.
    pub rules: Vec<RuleStatus>,
    /// Its sinks, in the order of the flow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<SinkStatus>,
    /// Its language models that come as packages, by name.
    pub slots: Vec<SlotState>,
    /// Whom it believes about them; absent if it takes none.
    pub trust: Option<TrustFacts>,
    /// Its journal.
    pub journal: JournalStatus,
    /// From the arrival of a reading to its decision in the journal, since the process began.
    pub decided: LatencySummary,
    /// Its way up; absent if it has none.
    pub uplink: Option<UplinkStatus>,
    /// Its door for the nodes behind it; absent if it is no relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayStatus>,
    /// What it has given up to keep on.
    pub health: Health,
}

/// What a node has given up to keep on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `ready`, `caches_dropped`, `models_unloaded`, `spares_answer` or `answers_refused`.
    pub memory: &'static str,
    /// The disk has less free space than the node wants to leave.
    pub disk_short: bool,
    /// Heat slows the processor down.
    pub hot: bool,
    /// Threads that get nowhere.
    pub stuck: Vec<String>,
    /// What this run does without, and why.
    pub left_out: Vec<String>,
    /// Whether a watchdog is fed.
    pub watchdog: bool,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            memory: "ready",
            disk_short: false,
            hot: false,
            stuck: Vec::new(),
            left_out: Vec::new(),
            watchdog: false,
        }
    }
}

impl Health {
    /// Whether the machine is short of nothing that a model would take.
    #[cfg_attr(not(feature = "packages"), expect(dead_code, reason = "it is the slots that ask"))]
    pub(crate) fn is_calm(&self) -> bool {
        self.memory == "ready" && !self.disk_short && !self.hot
    }

    /// In a line, for people.
    pub fn line(&self) -> String {
        let mut words: Vec<String> = self.stuck.clone();
        match self.memory {
            "ready" => {}
            given_up => words.push(format!("memory is short: {}", given_up.replace('_', " "))),
        }
        if self.disk_short {
            words.push("the disk is nearly full".to_owned());
        }
        if self.hot {
            words.push("heat slows the processor down".to_owned());
        }
        words.extend(self.left_out.iter().map(|part| format!("left out {part}")));
        if words.is_empty() { "all is well".to_owned() } else { words.join("; ") }
    }
}

/// One sink.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SinkStatus {
    /// Its name.
    pub sink: PartName,
    /// `waiting` for something to pass on, `running` or `failed`.
    pub state: String,
    /// Why.
    pub reason: String,
}

impl SinkStatus {
    /// One that has had nothing to pass on.
    pub fn waiting(sink: &PartName) -> SinkStatus {
        let (state, reason) = ("waiting".to_owned(), "nothing was passed on yet".to_owned());
        SinkStatus { sink: sink.clone(), state, reason }
    }
}

/// One source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceStatus {
    /// Its name.
    pub source: PartName,
    /// `waiting`, `running`, `failed` or `ended`.
    pub state: &'static str,
    /// Why.
    pub reason: String,
    /// Readings taken since the process began.
    pub readings: u64,
    /// Readings or cells refused since then.
    pub refused: u64,
    /// The time of the last reading.
    pub last_ms: Option<WallMs>,
    /// The last reading, by channel; `null` where there was no value.
    pub values: serde_json::Map<String, serde_json::Value>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelStatus {
    /// Its name.
    pub model: PartName,
    /// The source it watches.
    pub source: PartName,
    /// `waiting` for its source, `learning`, `ready` or `failed`.
    pub state: &'static str,
    /// Readings it has seen in its life.
    pub readings: u64,
    /// Readings it learns from.
    pub learn: u64,
    /// The score of the last reading; 1 is its threshold. `null` while it learns.
    #[serde(with = "wire::number")]
    pub score: f64,
    /// The probability that goes with it.
    #[serde(with = "wire::number")]
    pub probability: f64,
    /// When the anomaly that is going on began.
    pub anomaly_since_ms: Option<WallMs>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleStatus {
    /// Its name.
    pub rule: PartName,
    /// Its condition.
    pub when: String,
    /// `quiet`, `pending` or `firing`.
    pub state: &'static str,
    /// Since when it is pending or firing.
    pub since_ms: Option<WallMs>,
    /// The last value it was judged on.
    #[serde(with = "wire::number")]
    pub value: f64,
    /// How bad it is when it fires.
    pub severity: &'static str,
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct JournalStatus {
    /// Bytes in use.
    pub bytes: u64,
    /// Records written since the process began.
    pub records: u64,
    /// Records refused since then.
    pub refused: u64,
    /// Records dropped since then that the hub had not.
    pub lost: u64,
    /// Why it does not take records, if it does not.
    pub trouble: Option<String>,
    /// Its streams, as the uplink last saw them.
    pub streams: Vec<StreamStatus>,
}

/// One stream of the journal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamStatus {
    /// Its name.
    pub stream: StreamName,
    /// Its class.
    pub class: Class,
    /// The last sequence number written.
    pub last: u64,
    /// The last one the hub is known to have.
    pub acked: u64,
}

/// The way up.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct UplinkStatus {
    /// The hub.
    pub hub: String,
    /// When the hub last answered, by this node's wall clock.
    pub answered_ms: Option<WallMs>,
    /// What is in the way, if anything.
    pub trouble: Option<String>,
    /// What the hub last said of its assignments: the number changes when they do.
    pub assignments: Option<u64>,
}

/// The door for the nodes behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelayStatus {
    /// Where it listens.
    pub listen: String,
    /// The hub that it leads to, and the only one.
    pub hub: String,
    /// Connections now.
    pub connections: usize,
    /// The most that there may be.
    pub connections_max: usize,
    /// Whether the hub could be reached the last time that somebody wanted to, so that something came back; `null`: nobody did.
    pub hub_up: Option<bool>,
    /// What there was in all.
    pub moved: MovedStatus,
    /// Who is behind it, or was, by address.
    pub behind: Vec<BehindStatus>,
    /// How often somebody was refused.
    pub refused: RefusedStatus,
    /// What it keeps; absent if it keeps nothing.
    pub cache: Option<CacheStatus>,
    /// Why it could not reach the hub for what it keeps, if it could not the last time.
    pub trouble: Option<String>,
}

/// What there was at the relay in all, since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MovedStatus {
    /// Connections that were let in.
    pub connections: u64,
    /// Tunnels that opened.
    pub tunnels: u64,
    /// Bytes through tunnels towards the hub.
    pub up_bytes: u64,
    /// Bytes through tunnels back.
    pub down_bytes: u64,
    /// Bytes that the cache gave.
    pub cache_bytes: u64,
}

/// Whoever comes to the relay from one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BehindStatus {
    /// The address.
    pub address: String,
    /// Its connections now.
    pub connections: usize,
    /// What it sent through tunnels towards the hub.
    pub up_bytes: u64,
    /// What came back through them.
    pub down_bytes: u64,
    /// What it got from the cache.
    pub cache_bytes: u64,
    /// For how long nothing was heard of it.
    pub quiet_ms: u64,
}

/// How often the relay refused somebody, since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RefusedStatus {
    /// All connections were taken.
    pub full: u64,
    /// Its address had its share of them.
    pub share: u64,
    /// It showed no token, or another.
    pub token: u64,
    /// It wanted to go elsewhere, or what is not given.
    pub target: u64,
    /// The hub could not be reached.
    pub no_hub: u64,
}

/// What the relay keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CacheStatus {
    /// Blobs of packages, those on their way among them.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The most bytes.
    pub quota_bytes: u64,
    /// Signed documents.
    pub documents: usize,
    /// Blobs that were asked for and were here, or on their way, since the process began.
    pub hits: u64,
    /// Blobs that had to be brought.
    pub misses: u64,
    /// Bytes that came over the line for all of it.
    pub brought_bytes: u64,
    /// What came of the questions to the hub.
    pub fetches: FetchStatus,
}

/// What came of the relay's own questions to the hub, since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FetchStatus {
    /// It answered with what was asked for, or that there is none.
    pub answered: u64,
    /// It answered something else.
    pub refused: u64,
    /// It could not be reached.
    pub failed: u64,
    /// Of those that were answered: the answer broke off.
    pub broken: u64,
}

/// Resident memory of this process, where the system tells.
pub fn rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
