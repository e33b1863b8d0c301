//! Who shall run what: signed documents that give a node, or all nodes of a kind, their models.
//!
//! Uptane's director, reduced: assignments are signed by the delegated role `assignments` of the top-level targets, so its
//! keys are rotated and revoked by TUF. An assignment gives nobody a model that targets do not list with the same hash:
//! who steals the assigner's key can choose among approved releases, and cannot go back to older ones.
//!
//! A node judges for itself whether it is meant. What it does not understand of the subject, of the window or of a release
//! refuses the whole document, since leaving it out could mean more nodes, another time, or more than was meant to be done.
//! [`draft`] and [`seal`] write what the others read.

use std::collections::{BTreeMap, BTreeSet};

use wire::facts::Facts;
use wire::hash::Hash;
use wire::select::Selector as Expression;
use wire::world::WallMs;

use crate::name::{ModelName, NameError};
use crate::trust::Policy;
use crate::trust::canonical::{Value, canonical, to_json};
use crate::trust::envelope::{Envelope, VerifyError};
use crate::trust::hex::{from_hex, to_hex};
use crate::trust::metadata::{FormError, Head, SIGNED_AT_FIELD, SPEC_VERSION, TargetFile, head, only, time};
use crate::trust::search::find;
use crate::trust::shadow::Limits;
use crate::trust::sign::{SignError, Signer};
use crate::trust::time::{effective, format_utc};
use crate::trust::trusted::{Assigned, Stale, Trusted, expired};
use crate::trust::window::When;

/// The delegated role whose keys sign assignments.
pub const ROLE: &str = "assignments";

/// The most bytes of an assignment.
pub const BYTES_MAX: usize = 256 << 10;
const MODELS_MAX: usize = 256;
const LABELS_MAX: usize = 64;
const NODES_MAX: usize = 1024;
/// The most bytes of an expression; `wire::select` reads no longer one.
const EXPR_MAX: usize = 4096;
/// Into how many parts a ring divides all nodes.
const RING: u64 = 2048;

/// Who shall run what, from when to when.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// Version and expiry.
    pub head: Head,
    /// 32 hexadecimal digits.
    pub id: String,
    /// Whom it is for.
    pub subject: Subject,
    /// When it was made.
    pub issued_ms: WallMs,
    /// From when on it holds.
    pub not_before_ms: WallMs,
    /// The rollout that it is part of.
    pub rollout: Option<String>,
    /// What to run.
    pub models: Vec<Ordered>,
    /// The least version of top-level targets that the node must trust.
    pub targets_version: u64,
    /// At which times the node may change; absent: at any. It is taken at any time, and waits.
    pub when: Option<When>,
}

/// Whom an assignment is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// One node, by name.
    Node(String),
    /// All nodes that it selects.
    Selector(Selector),
}

/// Nodes by what they are labelled, by lot, by what they say of themselves, and by name: those whom all of it means.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selector {
    /// All of these the node must have.
    pub labels: BTreeMap<String, String>,
    /// The part of all nodes that is meant.
    pub ring: Option<Ring>,
    /// What must hold of the node's facts when it accepts. It is not asked again: what was ordered changes facts.
    pub expr: Option<Expression>,
    /// One of these it must be.
    pub nodes: Option<BTreeSet<String>>,
    /// It must have accepted such a version, or a higher one, under the same id before.
    pub after: Option<u64>,
}

/// A part of all nodes, the same for everybody who knows the salt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// Makes another lot for every rollout.
    pub salt: Vec<u8>,
    /// The first place, of 2048.
    pub from: u64,
    /// The first place behind the last.
    pub to: u64,
}

/// A release that a node shall run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// The model.
    pub model: ModelName,
    /// Its release.
    pub release: u64,
    /// The release's index.
    pub index: Hash,
    /// The index's size in bytes.
    pub size: u64,
    /// The variant, if the node may not choose.
    pub variant: Option<String>,
    /// Whether it may be older than what was committed.
    pub allow_rollback: bool,
    /// Whether a variant that was refused is tried again.
    pub forgive: bool,
    /// It shall answer beside what runs, within these limits, and never instead of it.
    pub shadow: Option<Limits>,
}

impl Ordered {
    /// The target that must list it.
    pub fn target(&self) -> String {
        format!("models/{}/{}", self.model.as_str(), self.release)
    }
}

/// What a node knows of itself.
#[derive(Debug, Clone, Copy)]
pub struct NodeFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its labels: those of its settings, and those that its hub has set.
    pub labels: &'a BTreeMap<String, String>,
    /// What it says of itself, labels among it.
    pub facts: &'a Facts,
}

/// An assignment that holds for this node.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// What it says.
    pub assignment: Assignment,
    /// What is trusted with it; to be made durable before anything is done by it.
    pub trusted: Trusted,
}

/// Why an assignment does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too long.
    #[error("the assignment has {bytes} bytes, at most {BYTES_MAX} are read")]
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// Nothing may be accepted now.
    #[error("the trusted metadata does not allow anything new")]
    Stale(#[from] Stale),
    /// The targets name no role that assigns.
    #[error("the trusted targets delegate to no role {ROLE:?}: nobody may assign")]
    NoAssigner,
    /// Not signed by the assigner, or not readable.
    #[error("the assignment is not accepted")]
    Verify(#[from] VerifyError),
    /// A wrong form.
    #[error("the assignment has a wrong form")]
    Form(#[source] FormError),
    /// Something that this program does not know, without which more could be meant than was signed.
    #[error("the assignment says more than this node understands: {what}; a newer program may")]
    Unsupported {
        /// What.
        what: String,
    },
    /// A wrong name.
    #[error("the assignment names a model that cannot be")]
    Name(#[from] NameError),
    /// For somebody else.
    #[error("the assignment is not for this node")]
    OtherNode,
    /// Not yet.
    #[error("the assignment holds in {in_ms} ms")]
    NotYet {
        /// In how long.
        in_ms: i64,
    },
    /// Not any more.
    #[error("the assignment has expired {by_ms} ms ago")]
    Expired {
        /// How long ago.
        by_ms: i64,
    },
    /// The very one that was accepted last.
    #[error("the assignment is the one that holds already")]
    Known,
    /// An old one, replayed.
    #[error("the assignment is version {found}, version {accepted} was accepted already")]
    NotNewer {
        /// The version that was accepted.
        accepted: u64,
        /// The version that came.
        found: u64,
    },
    /// The node has older targets than the assigner had.
    #[error("the assignment needs version {needed} of targets, {trusted} is trusted: refresh first")]
    OldTargets {
        /// The version it needs.
        needed: u64,
        /// The version that is trusted.
        trusted: u64,
    },
    /// No trusted role lists the release, or not as it is assigned.
    #[error("{target} is not listed as it is assigned, so nobody has approved it")]
    NotListed {
        /// The target.
        target: String,
    },
    /// Older than what was committed.
    #[error(
        "{model} {found} is older than {committed}, which ran here; the assignment does not allow to go back"
    )]
    Rollback {
        /// The model.
        model: String,
        /// The release that was committed.
        committed: u64,
        /// The release that is assigned.
        found: u64,
    },
}

impl From<FormError> for Refused {
    fn from(error: FormError) -> Refused {
        match error {
            FormError::Unsupported { what } => Refused::Unsupported { what },
            error => Refused::Form(error),
        }
    }
}

/// Decides whether an assignment holds for this node. Delegated roles that list its releases must be at hand: whoever
/// carries this out first updates to [`Ordered::target`] of each.
pub fn accept(
    trusted: &Trusted,
    policy: &Policy,
    document: &[u8],
    node: NodeFacts<'_>,
    clock_ms: WallMs,
) -> Result<Accepted, Refused> {
    let now_ms = judged_ms(trusted, policy, clock_ms);
    trusted.fresh(now_ms, policy.max_stale_ms)?;
    let assignment = read_signed(trusted, policy, document)?;
    let (key, found) = (assignment.key(), assignment.head.version);
    let last = trusted.assignments.get(&key);
    let is_meant = assignment.subject.has(node, last.map_or(0, |last| last.version));
    assignment.holds(is_meant, now_ms)?;
    if let Some(last) = last {
        if found == last.version && *last.bytes == *document {
            return Err(Refused::Known);
        }
        if found <= last.version {
            return Err(Refused::NotNewer { accepted: last.version, found });
        }
    }
    assignment.is_approved(trusted, policy, now_ms)?;
    let mut trusted = trusted.clone();
    trusted.assignments.insert(key, Assigned { version: found, bytes: document.into() });
    // One key signs assignments: it is heard about the time only as far as the targets reach.
    let limit_ms = trusted.targets.as_ref().map_or(0, |targets| targets.body.head.expires_ms);
    trusted.floor.raise_offline(assignment.issued_ms.min(limit_ms));
    Ok(Accepted { assignment, trusted })
}

/// The assignments that were accepted before and would be again, whatever has become of the node's facts: that release 7 is
/// here does not undo the order to go from 6 to 7. They are to be followed at every start: a power cut may come after one
/// was accepted, and before anybody heard of it.
pub fn standing(
    trusted: &Trusted,
    policy: &Policy,
    node: NodeFacts<'_>,
    clock_ms: WallMs,
) -> Vec<Assignment> {
    let now_ms = judged_ms(trusted, policy, clock_ms);
    if trusted.fresh(now_ms, policy.max_stale_ms).is_err() {
        return Vec::new();
    }
    let holds = |bytes: &[u8]| {
        let assignment = read_signed(trusted, policy, bytes)?;
        assignment.holds(assignment.subject.keeps(node), now_ms)?;
        assignment.is_approved(trusted, policy, now_ms)?;
        Ok::<_, Refused>(assignment)
    };
    trusted.assignments.values().filter_map(|assigned| holds(&assigned.bytes).ok()).collect()
}

/// The time that assignments are judged by.
fn judged_ms(trusted: &Trusted, policy: &Policy, clock_ms: WallMs) -> WallMs {
    let mut floor = trusted.floor;
    floor.raise_offline(policy.built_ms);
    effective(policy.floor.then_some(floor), clock_ms).now_ms
}

/// Reads an assignment that the role has signed, whoever it is for and whenever it holds.
pub fn read_signed(trusted: &Trusted, policy: &Policy, document: &[u8]) -> Result<Assignment, Refused> {
    if document.len() > BYTES_MAX {
        return Err(Refused::TooLong { bytes: document.len() });
    }
    let delegations = trusted.targets.as_ref().map(|targets| &targets.body.delegations);
    let delegations = delegations.ok_or(Refused::NoAssigner)?;
    let role = delegations.roles.iter().find(|role| role.name.as_str() == ROLE).ok_or(Refused::NoAssigner)?;
    let envelope = Envelope::read(document)?;
    envelope.check(&delegations.keys, &role.keys, &policy.kinds)?;
    Assignment::read(&envelope.signed)
}

/// Of two assignments that hold, the one to follow: a node's own before a selector's, then the one issued later.
pub fn prefer<'a>(a: &'a Assignment, b: &'a Assignment) -> &'a Assignment {
    let rank = |it: &Assignment| (matches!(it.subject, Subject::Node(_)), it.issued_ms, it.head.version);
    if rank(b) > rank(a) { b } else { a }
}

impl Subject {
    /// Whether it means this node, which has `accepted` this version of the id before; 0: none.
    pub fn has(&self, node: NodeFacts<'_>, accepted: u64) -> bool {
        let now = match self {
            Subject::Node(_) => true,
            Subject::Selector(selector) => {
                let follows = selector.after.is_none_or(|after| accepted >= after);
                follows && selector.expr.as_ref().is_none_or(|expr| expr.has(node.facts))
            }
        };
        now && self.keeps(node)
    }

    /// Whether it goes on to mean this node once it was accepted.
    pub fn keeps(&self, node: NodeFacts<'_>) -> bool {
        match self {
            Subject::Node(name) => name == node.name,
            Subject::Selector(selector) => {
                let labels = selector.labels.iter().all(|(name, value)| node.labels.get(name) == Some(value));
                let named = selector.nodes.as_ref().is_none_or(|nodes| nodes.contains(node.name));
                labels && named && selector.ring.as_ref().is_none_or(|ring| ring.has(node.name))
            }
        }
    }

    fn to_value(&self) -> Value {
        let selector = match self {
            Subject::Node(name) => return Value::object([("node", name.as_str().into())]),
            Subject::Selector(selector) => selector,
        };
        let text = |text: &String| text.as_str().into();
        let labels = selector.labels.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let ring = selector.ring.as_ref().map(|ring| {
            let Ring { ref salt, from, to } = *ring;
            Value::object([("from", from.into()), ("salt", to_hex(salt).into()), ("to", to.into())])
        });
        let members = [
            ("labels", Some(Value::Object(labels))),
            ("ring", ring),
            ("expr", selector.expr.as_ref().map(|expr| expr.text().into())),
            ("nodes", selector.nodes.as_ref().map(|nodes| Value::List(nodes.iter().map(text).collect()))),
            ("after", selector.after.map(Value::from)),
        ];
        let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::object([("selector", Value::Object(members.collect()))])
    }
}

impl Ring {
    /// Whether a node's place, the first 11 bits of SHA-256 over salt and name, is in it.
    pub fn has(&self, node: &str) -> bool {
        let hash = Hash::of(&[&self.salt, node.as_bytes()].concat());
        let [first, second, ..] = *hash.as_bytes();
        let place = u64::from(u16::from_be_bytes([first, second]) >> 5);
        (self.from..self.to).contains(&place)
    }
}

impl Assignment {
    /// Under what its version is remembered. All assignments of one node are one line of versions, whatever their ids:
    /// else an older one that still holds could be replayed beside a newer.
    pub fn key(&self) -> String {
        match self.subject {
            Subject::Node(_) => "node".to_owned(),
            Subject::Selector(_) => format!("selector:{}", self.id),
        }
    }

    /// Whether it is for this node, and for now.
    fn holds(&self, is_meant: bool, now_ms: WallMs) -> Result<(), Refused> {
        if !is_meant {
            return Err(Refused::OtherNode);
        }
        if let Some(by_ms) = expired(self.head.expires_ms, now_ms, 0) {
            return Err(Refused::Expired { by_ms });
        }
        if now_ms < self.not_before_ms {
            return Err(Refused::NotYet { in_ms: self.not_before_ms.saturating_sub(now_ms) });
        }
        Ok(())
    }

    /// Whether each of its releases is listed, and none goes back unsaid.
    fn is_approved(&self, trusted: &Trusted, policy: &Policy, now_ms: WallMs) -> Result<(), Refused> {
        let version = trusted.targets.as_ref().map_or(0, |targets| targets.body.head.version);
        if version < self.targets_version {
            return Err(Refused::OldTargets { needed: self.targets_version, trusted: version });
        }
        for ordered in &self.models {
            let listed = find(trusted, &ordered.target(), &policy.kinds, now_ms, policy.max_stale_ms);
            let is_it = |file: &TargetFile| {
                file.hashes.sha256 == Some(*ordered.index.as_bytes()) && file.length == ordered.size
            };
            if !listed.as_ref().is_some_and(is_it) {
                return Err(Refused::NotListed { target: ordered.target() });
            }
            let committed = trusted.releases.get(&ordered.model).copied().unwrap_or_default();
            if ordered.release < committed && !ordered.allow_rollback {
                let model = ordered.model.as_str().to_owned();
                return Err(Refused::Rollback { model, committed, found: ordered.release });
            }
        }
        Ok(())
    }

    /// Reads what is signed.
    pub fn read(signed: &Value) -> Result<Assignment, Refused> {
        let head = head(signed, "assignment")?;
        let id = text(signed, "id", 32)?;
        if from_hex(&id).is_none_or(|bytes| bytes.len() != 16) {
            return Err(wrong("id", "32 hexadecimal digits").into());
        }
        let models = signed.get("models").and_then(Value::as_list);
        let models = models.filter(|models| models.len() <= MODELS_MAX);
        let models = models.ok_or_else(|| wrong("models", "a list of at most 256"))?;
        let subject = signed.get("subject").ok_or_else(|| wrong("subject", "there"))?;
        let must = |field| time(signed, field)?.ok_or_else(|| wrong(field, "a time"));
        Ok(Assignment {
            head,
            id,
            subject: read_subject(subject)?,
            issued_ms: must("issued")?,
            not_before_ms: must("not_before")?,
            rollout: optional(signed, "rollout", 128)?,
            models: models.iter().map(read_ordered).collect::<Result<_, _>>()?,
            targets_version: number(signed, "targets_version")?,
            when: signed.get("when").map(When::read).transpose()?,
        })
    }
}

/// What is signed of an assignment: always the same bytes for the same content, and what [`Assignment::read`] reads.
pub fn draft(assignment: &Assignment) -> Value {
    let Assignment { head, id, subject, issued_ms, not_before_ms, rollout, models, targets_version, when } =
        assignment;
    let models = models.iter().map(|ordered| {
        let mut model = Value::object([
            ("model", ordered.model.as_str().into()),
            ("release", ordered.release.into()),
            ("index", format!("sha256:{}", ordered.index).into()),
            ("size", ordered.size.into()),
            ("variant", ordered.variant.as_deref().map_or(Value::Null, Value::from)),
            ("allow_rollback", ordered.allow_rollback.into()),
            ("forgive", ordered.forgive.into()),
        ]);
        if let (Some(limits), Some(fields)) = (&ordered.shadow, model.as_object_mut()) {
            fields.insert("shadow".to_owned(), limits.to_value());
        }
        model
    });
    let mut signed = Value::object([
        ("_type", "assignment".into()),
        ("spec_version", SPEC_VERSION.into()),
        ("id", id.as_str().into()),
        ("version", head.version.into()),
        ("subject", subject.to_value()),
        ("issued", format_utc(*issued_ms).into()),
        ("not_before", format_utc(*not_before_ms).into()),
        ("expires", format_utc(head.expires_ms).into()),
        ("rollout", rollout.as_deref().map_or(Value::Null, Value::from)),
        ("models", Value::List(models.collect())),
        ("targets_version", (*targets_version).into()),
    ]);
    if let Some(fields) = signed.as_object_mut() {
        let when = when.as_ref().map(|when| ("when".to_owned(), when.to_value()));
        let signed_at = head.signed_at_ms.map(|ms| (SIGNED_AT_FIELD.to_owned(), format_utc(ms).into()));
        fields.extend(when.into_iter().chain(signed_at));
    }
    signed
}

/// A document: what is signed, and a signature of each signer.
pub fn seal(signed: Value, signers: &[&dyn Signer]) -> Result<Vec<u8>, SignError> {
    let message = canonical(&signed);
    let signatures = signers.iter().map(|signer| signer.sign(&message)).collect::<Result<_, _>>()?;
    Ok(to_json(&Value::object([("signed", signed), ("signatures", Value::List(signatures))])))
}

/// The same document with one signature more; an older one of the same key goes.
pub fn countersign(document: Envelope, signer: &dyn Signer) -> Result<Vec<u8>, SignError> {
    let signature = signer.sign(&canonical(&document.signed))?;
    let key = signature.get("keyid").cloned();
    let others = document.signatures().filter(|other| other.get("keyid") != key.as_ref());
    let signatures = Value::List(others.cloned().chain([signature.clone()]).collect());
    Ok(to_json(&Value::object([("signed", document.signed), ("signatures", signatures)])))
}

fn read_subject(subject: &Value) -> Result<Subject, FormError> {
    only(subject, "subject", &["node", "selector"])?;
    match (subject.get("node"), subject.get("selector")) {
        (Some(_), None) => Ok(Subject::Node(text(subject, "node", 256)?)),
        (None, Some(selector)) => {
            only(selector, "selector", &["labels", "ring", "expr", "nodes", "after"])?;
            let labels = match selector.get("labels") {
                Some(labels) => labels.as_object().filter(|labels| labels.len() <= LABELS_MAX),
                None => None,
            };
            let labels = labels.ok_or_else(|| wrong("labels", "an object of at most 64 strings"))?;
            let labels = labels.iter().map(|(name, value)| Some((name.clone(), value.as_text()?.to_owned())));
            let labels = labels.collect::<Option<_>>().ok_or_else(|| wrong("labels", "strings"))?;
            let ring = match selector.get("ring") {
                None | Some(Value::Null) => None,
                Some(ring) => Some(read_ring(ring)?),
            };
            let expr = optional(selector, "expr", EXPR_MAX)?;
            Ok(Subject::Selector(Selector {
                labels,
                ring,
                expr: expr.as_deref().map(read_expr).transpose()?,
                nodes: selector.get("nodes").map(read_nodes).transpose()?,
                after: selector.get("after").map(|_| number(selector, "after")).transpose()?,
            }))
        }
        _ => Err(wrong("subject", "either a node or a selector")),
    }
}

/// An expression that this program cannot read may be one of a newer language; one that asks what only the hub knows
/// cannot be judged by a node.
fn read_expr(text: &str) -> Result<Expression, FormError> {
    let unsupported = |why: String| {
        let text: String = text.chars().take(200).collect();
        FormError::Unsupported { what: format!("the expression {text:?}: {why}") }
    };
    let expr = Expression::parse(text).map_err(|error| unsupported(error.to_string()))?;
    match expr.names().iter().find(|name| name.is_hubs()) {
        Some(name) => Err(unsupported(format!("only the hub knows {name}"))),
        None => Ok(expr),
    }
}

fn read_nodes(nodes: &Value) -> Result<BTreeSet<String>, FormError> {
    let nodes = nodes.as_list().filter(|nodes| nodes.len() <= NODES_MAX);
    let name = |node: &Value| node.as_text().filter(|name| name.len() <= 256).map(str::to_owned);
    let nodes = nodes.and_then(|nodes| nodes.iter().map(name).collect());
    nodes.ok_or_else(|| wrong("nodes", "a list of at most 1024 names"))
}

fn read_ring(ring: &Value) -> Result<Ring, FormError> {
    only(ring, "ring", &["salt", "from", "to"])?;
    let salt = from_hex(&text(ring, "salt", 64)?).ok_or_else(|| wrong("salt", "hexadecimal digits"))?;
    let (from, to) = (number(ring, "from")?, number(ring, "to")?);
    if from > to || to > RING {
        return Err(wrong("ring", "from and to, of 0 to 2048"));
    }
    Ok(Ring { salt, from, to })
}

fn read_ordered(value: &Value) -> Result<Ordered, Refused> {
    let known = ["model", "release", "index", "size", "variant", "allow_rollback", "forgive", "shadow"];
    only(value, "models", &known)?;
    let index = text(value, "index", 71)?;
    let index = index.strip_prefix("sha256:").and_then(Hash::parse);
    Ok(Ordered {
        model: ModelName::new(&text(value, "model", 128)?)?,
        release: number(value, "release")?,
        index: index.ok_or_else(|| wrong("index", "sha256: and 64 hexadecimal digits"))?,
        size: number(value, "size")?,
        variant: optional(value, "variant", 128)?,
        allow_rollback: truth(value, "allow_rollback")?,
        forgive: truth(value, "forgive")?,
        shadow: value.get("shadow").map(Limits::read).transpose()?,
    })
}

fn wrong(field: &str, expected: &'static str) -> FormError {
    FormError::Field { field: field.to_owned(), expected }
}

fn text(value: &Value, field: &str, max: usize) -> Result<String, FormError> {
    optional(value, field, max)?.ok_or_else(|| wrong(field, "a string"))
}

/// A string, if the field is there and not `null`.
fn optional(value: &Value, field: &str, max: usize) -> Result<Option<String>, FormError> {
    match value.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) if text.len() <= max => Ok(Some(text.clone())),
        Some(_) => Err(wrong(field, "a string that is not too long")),
    }
}

fn number(value: &Value, field: &str) -> Result<u64, FormError> {
    value.get(field).and_then(Value::as_u64).ok_or_else(|| wrong(field, "a number from 0 up"))
}

/// Absent is false.
fn truth(value: &Value, field: &str) -> Result<bool, FormError> {
    match value.get(field) {
        None => Ok(false),
        Some(truth) => truth.as_bool().ok_or_else(|| wrong(field, "true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_a_share_of_all_nodes() {
        let ring = |from, to| Ring { salt: vec![1; 16], from, to };
        let nodes = (0..4000).map(|n| format!("pump-{n}"));
        let (mut few, mut rest) = (0, 0);
        for node in nodes {
            let (first, second) = (ring(0, 256).has(&node), ring(256, 2048).has(&node));
            assert!(first != second, "each node stands in one part");
            (few, rest) = (few + u32::from(first), rest + u32::from(second));
        }
        assert!((400..600).contains(&few), "an eighth of 4000: {few} {rest}");
        assert!(!ring(0, 0).has("pump-1"));
    }

    #[test]
    fn a_node_is_meant_by_all_labels_or_not_at_all() {
        let labels: BTreeMap<String, String> = [("site".into(), "oslo".into())].into();
        let node = NodeFacts { name: "pump-1", labels: &labels, facts: &Facts::default() };
        let selector = |pairs: &[(&str, &str)]| {
            let labels = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            Subject::Selector(Selector { labels, ..Selector::default() })
        };
        assert!(Subject::Node("pump-1".into()).has(node, 0));
        assert!(!Subject::Node("pump-10".into()).has(node, 0));
        assert!(selector(&[]).has(node, 0));
        assert!(selector(&[("site", "oslo")]).has(node, 0));
        assert!(!selector(&[("site", "oslo"), ("line", "2")]).has(node, 0));
        assert!(!selector(&[("site", "bergen")]).has(node, 0));
    }
}
