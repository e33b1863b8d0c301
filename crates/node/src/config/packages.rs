//! `[packages]` and `[trust]` of `node.toml`: releases that come signed, are proven, and can be sent back.
//!
//! ```toml
//! [trust]
//! root = "root.json"          # the first root, handed over with the node
//!
//! [packages]
//! trial = "10m"               # so long, and so many answers, until a release may stay
//! trial_answers = 20
//! shadow = 0.1                # it answers this share of what is asked beside the current model first; 0: none
//! beside = false              # nothing that somebody orders to answer beside the current one; or the table below
//! spare = true                # a smaller variant of what serves is brought too, and answers while memory is short
//! flow = "line"               # the flow, too, is a release: of the model that is called so; until one comes, `flow` of `[node]`
//! from = [{ folder = "/mnt/stick" }, { oci = "https://registry.example/models" }]
//!
//! [packages.beside]           # what such a release may use here, whatever its order allows; the tighter holds
//! share = 0.1
//! core = 0.05
//! joules = 60
//! memory = "2GiB"
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use package::disk::room::KEEP_FREE_BYTES;
use package::golden::Budget;
use package::name::ModelName;
use package::registry::RepoName;
use package::trust::Policy;
use package::trust::key::{KeyKind, KindSet};
use serde::Deserialize;
use wire::world::WallMs;

use crate::config::part::{Nested, Part, Placed};
use crate::config::quantity::{duration_ms, size_bytes};
use crate::device::Leave;
use crate::install::cap::Cap;
use crate::install::event::Rules;
use crate::install::trial::{Extent, TrialRules};

/// This program is younger than that: a clock that stands before it is wrong.
const BUILT_MS: WallMs = 1_795_219_200_000;

/// Where releases come from, and what is asked of them.
#[derive(Debug, Clone)]
pub struct PackagesConfig {
    /// The most bytes of all releases together; absent: what the disk has.
    pub quota_bytes: Option<u64>,
    /// What stays free for others.
    pub leave: Leave,
    /// At most so many bytes a second come from afar.
    pub bytes_per_s: Option<u64>,
    /// How often trust and assignments are asked for when nobody says that there are new ones.
    pub every: Duration,
    /// What is asked of a candidate.
    pub rules: Rules,
    /// The longest that a proof may take.
    pub proof: Duration,
    /// How far a candidate is compared with the current model, if it is.
    pub shadow: Extent,
    /// Places beside the hub, in the order of the file.
    pub from: Vec<Place>,
    /// The model whose releases are the node's flow; absent: the flow is a file.
    pub flow: Option<ModelName>,
    /// Who is believed.
    pub trust: TrustConfig,
}

/// Where blobs may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The repository of a model is below this path of a registry.
    Registry {
        /// `https://host:port`.
        url: String,
        /// What stands before the model's name.
        path: Option<RepoName>,
        /// The file whose first line is the token to show.
        token_file: Option<PathBuf>,
    },
    /// A folder with packages, or a package.
    Folder(PathBuf),
}

/// Who may say that a release is genuine.
#[derive(Debug, Clone)]
pub struct TrustConfig {
    /// The file with the first root.
    pub root: PathBuf,
    /// Where its successors and the rest are: an address, or a folder; absent: the hub's.
    pub repository: Option<Metadata>,
    /// What is asked of signers and of time.
    pub policy: Policy,
}

/// Where trust metadata is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metadata {
    /// The files below an address.
    At(String),
    /// The files in a folder.
    In(PathBuf),
}

/// An entry of `from`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
struct From {
    oci: Option<String>,
    folder: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

/// Reads `[trust]`; `None` if something in it is wrong, which is noted.
pub(super) fn read_trust(folder: &Path, mut part: Part<'_, '_>) -> Option<TrustConfig> {
    let root = part.require::<PathBuf>("root", "\"root.json\"");
    let repository = part.take_text("repository", |text| match text.split_once("://") {
        Some(("http" | "https", host)) if !host.is_empty() => {
            Ok(Metadata::At(text.trim_end_matches('/').to_owned()))
        }
        Some(_) => {
            Err(format!("{text:?} is neither an address such as \"https://hub/tuf/metadata\" nor a folder"))
        }
        None => Ok(Metadata::In(folder.join(text))),
    });
    let accept = part.take_or("accept", vec!["hybrid".to_owned()], "[\"hybrid\"]");
    let mut kinds = Vec::new();
    for word in &accept.value {
        match kind(word) {
            Some(kind) => kinds.push(kind),
            None => {
                let message = format!("there is no kind of key {word:?}");
                part.problem(accept.span.clone(), message, "write hybrid, ed25519, ecdsa or rsa");
            }
        }
    }
    let stale = part.take_text_or("max_stale", "0", duration_ms).value;
    part.finish();
    let kinds = KindSet::from_iter(kinds);
    let policy = Policy { kinds, built_ms: BUILT_MS, max_stale_ms: stale, ..Policy::default() };
    let repository = repository.map(|placed| placed.value);
    Some(TrustConfig { root: folder.join(root?.value), repository, policy })
}

fn kind(word: &str) -> Option<KeyKind> {
    Some(match word {
        "hybrid" => KeyKind::Hybrid,
        "ed25519" => KeyKind::Ed25519,
        "ecdsa" => KeyKind::EcdsaP256,
        "rsa" => KeyKind::RsaPss,
        _ => return None,
    })
}

/// Reads `[packages]`; the trust is filled in by whoever has read it.
pub(super) fn read(folder: &Path, mut part: Part<'_, '_>) -> Settings {
    let quota_bytes = part.take_text("quota", size_bytes).map(|placed| placed.value);
    let keep_free = part.take_text_or("keep_free", &format!("{KEEP_FREE_BYTES}B"), size_bytes).value;
    let keep_memory = part.take_text_or("keep_memory", "256MiB", size_bytes).value;
    let bytes_per_s = part.take_text("rate", |text| {
        size_bytes(text.trim().trim_end_matches("/s")).and_then(|rate| match rate {
            0 => Err("at a rate of 0 nothing ever comes".to_owned()),
            rate => Ok(rate),
        })
    });
    let every = part.take_text_or("every", "5m", at_least_a_second).value;
    let default = TrialRules::default();
    let least = part.take_text_or("trial", "10m", span).value;
    let answers = part.take_or("trial_answers", default.answers, &default.answers.to_string()).value;
    let most = part.take_text_or("trial_at_most", "1d", span);
    if most.value < least {
        part.problem(most.span, "`trial_at_most` is shorter than `trial`", "leave it out: it is a day then");
    }
    let rules = Rules::default();
    let share = part.take_or("shadow", rules.shadow, "0.0");
    let agreement = part.take_or("agreement", rules.agreement, &rules.agreement.to_string());
    for (key, placed) in [("shadow", &share), ("agreement", &agreement)] {
        if !(0.0..=1.0).contains(&placed.value) {
            let message = format!("`{key}` is a share, from 0 to 1");
            part.problem(placed.span.clone(), message, "0.1 is one of ten");
        }
    }
    let extent = Extent::default();
    let compared = part.take_or("shadow_answers", extent.answers, &extent.answers.to_string());
    if compared.value == 0 {
        part.problem(compared.span, "`shadow_answers` of 0 compares nothing", "write `shadow = 0.0` instead");
    }
    let at_most = part.take_text_or("shadow_at_most", "1h", at_least_a_second).value;
    let beside = match part.nested("beside") {
        Nested::Absent | Nested::Wrong => Some(Cap::default()),
        Nested::Off => None,
        Nested::Table(part) => Some(cap(part)),
    };
    let p95_ms = part.take::<u32>("p95_ms").map(|placed| placed.value);
    let rss_bytes = part.take_text("rss", size_bytes).map(|placed| placed.value);
    let flow = part.take_text("flow", |text| ModelName::new(text).map_err(|error| error.to_string()));
    let spare = part.take_or("spare", rules.spare, "false").value;
    let proof = part.take_text_or("proof", "10m", at_least_a_second).value;
    let from = part.take::<Vec<From>>("from").map_or_else(Vec::new, |Placed { value, span }| {
        let places = value.into_iter().map(|from| place(folder, from));
        let read: Result<Vec<Place>, String> = places.collect();
        read.unwrap_or_else(|message| {
            let help = "write { oci = \"https://registry.example/models\" } or { folder = \"/mnt/stick\" }";
            part.problem(span, message, help);
            Vec::new()
        })
    });
    part.finish();
    let budget = Budget { p95_ms: p95_ms.map(f64::from), rss_bytes, ..Budget::default() };
    let trial = TrialRules { least, answers, most: most.value, p95_ms };
    Settings {
        quota_bytes,
        leave: Leave { memory_bytes: keep_memory, disk_bytes: keep_free, budget },
        bytes_per_s: bytes_per_s.map(|placed| placed.value),
        every,
        rules: Rules { budget, shadow: share.value, agreement: agreement.value, beside, trial, spare },
        proof,
        shadow: Extent { answers: compared.value, at_most },
        from,
        flow: flow.map(|placed| placed.value),
    }
}

/// Reads `[packages.beside]`.
fn cap(mut part: Part<'_, '_>) -> Cap {
    let share = |key: &'static str, part: &mut Part<'_, '_>| {
        let share = part.take_or(key, 1.0_f64, "1.0");
        if !(share.value > 0.0 && share.value <= 1.0) {
            let help = "0.1 is one of ten; `beside = false` in `[packages]` lets none answer";
            part.problem(share.span, format!("`{key}` is a share above 0, up to 1"), help);
            return 1;
        }
        // Less than one in a million is one.
        ((share.value * 1e6) as u32).max(1)
    };
    let (share_ppm, core_ppm) = (share("share", &mut part), share("core", &mut part));
    let joules = part.take::<u32>("joules");
    let memory = part.take_text("memory", size_bytes);
    let nothing = joules.as_ref().filter(|placed| placed.value == 0).map(|placed| placed.span.clone());
    let nothing =
        nothing.or(memory.as_ref().filter(|placed| placed.value == 0).map(|placed| placed.span.clone()));
    if let Some(span) = nothing {
        part.problem(span, "with 0 nothing could ever answer", "`beside = false` in `[packages]` says that");
    }
    part.finish();
    let (joules, memory_bytes) = (joules.map(|placed| placed.value), memory.map(|placed| placed.value));
    Cap { share_ppm, core_ppm, joules, memory_bytes }
}

/// `[packages]` without the trust that it needs.
pub(super) struct Settings {
    quota_bytes: Option<u64>,
    leave: Leave,
    bytes_per_s: Option<u64>,
    every: Duration,
    rules: Rules,
    proof: Duration,
    shadow: Extent,
    from: Vec<Place>,
    flow: Option<ModelName>,
}

impl Settings {
    pub(super) fn wants_spares(&self) -> bool {
        self.rules.spare
    }

    pub(super) fn with(self, trust: TrustConfig) -> PackagesConfig {
        let Settings { quota_bytes, leave, bytes_per_s, every, rules, proof, shadow, from, flow } = self;
        PackagesConfig { quota_bytes, leave, bytes_per_s, every, rules, proof, shadow, from, flow, trust }
    }
}

fn span(text: &str) -> Result<Duration, String> {
    Ok(Duration::from_millis(duration_ms(text)?.unsigned_abs()))
}

fn at_least_a_second(text: &str) -> Result<Duration, String> {
    match span(text)? {
        span if span < Duration::from_secs(1) => Err(format!("{text:?} is less than a second")),
        span => Ok(span),
    }
}

fn place(folder: &Path, from: From) -> Result<Place, String> {
    match from {
        From { oci: Some(address), folder: None, token_file } => {
            let bad = || format!("{address:?} is no registry's address");
            let (scheme, rest) = address.split_once("://").ok_or_else(bad)?;
            let (host, path) = rest.trim_end_matches('/').split_once('/').unwrap_or((rest, ""));
            let host = host.trim_end_matches('/');
            if !matches!(scheme, "http" | "https") || host.is_empty() {
                return Err(bad());
            }
            let path = if path.is_empty() { None } else { Some(RepoName::new(path).map_err(|_| bad())?) };
            let token_file = token_file.map(|file| folder.join(file));
            Ok(Place::Registry { url: format!("{scheme}://{host}"), path, token_file })
        }
        From { oci: None, folder: Some(path), token_file: None } => Ok(Place::Folder(folder.join(path))),
        _ => Err("an entry of `from` has either `oci` or `folder`".to_owned()),
    }
}
