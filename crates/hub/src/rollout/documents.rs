//! Every assignment that a plan can ever hand out. They follow from the plan, byte for byte, so somebody's key can sign
//! them all before anything moves, on a machine that never sees this hub.
//!
//! One a wave, whose ring grows; one way back for each; one that stays. All carry the plan's id, so a node keeps one line
//! of versions for them: who went back never takes a wave's document again. A way back has no expression: what it would
//! ask for (`model.x == 6`) is no longer true of a node that must go back. It holds where any version of the id was
//! accepted before.

use std::fmt;

use package::trust::assignment::Assignment;
use package::trust::canonical::Value;
use package::trust::shadow::Limits;
use package::trust::time::format_utc;
use wire::world::WallMs;

use crate::rollout::plan::{Kind, Plan, PlanId, RING, Target};
use crate::rollout::text::{canary_id, id};

/// How long the standing document holds: a node that comes back after a year must find one.
pub const STANDING_MS: i64 = 400 * 24 * 3_600_000;
/// The specification of TUF that assignments follow.
const SPEC: &str = "1.0.31";

/// A document that follows from a plan. `K`: which documents such a plan has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned<K = Kind> {
    /// The plan's id, or that of its canaries.
    pub id: PlanId,
    /// Its version.
    pub version: u32,
    /// Which one it is.
    pub kind: K,
    /// When it ends.
    pub expires_ms: WallMs,
    /// What is signed.
    pub value: Value,
}

/// A document that no line of this plan leads to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPlanned<K: fmt::Debug + fmt::Display = Kind> {
    /// Another plan, or another version.
    #[error("the plan has no document {id} version {version}")]
    Unknown {
        /// Its id.
        id: String,
        /// Its version.
        version: u64,
    },
    /// It says something else than the plan.
    #[error("the document of {kind} does not say what follows from the plan: {field} differs")]
    Differs {
        /// Which one it claims to be.
        kind: K,
        /// The first field that differs.
        field: String,
    },
}

/// All documents of a plan, in the order in which they may be needed: canaries, then each wave and its way back, then the
/// one that stays.
pub fn of(plan: &Plan) -> Vec<Planned> {
    let id = id(plan);
    let mut kinds = Vec::new();
    if !plan.canary.is_empty() {
        kinds.extend(plan.needed(0));
    }
    for wave in 1..=plan.last_wave() {
        kinds.extend(plan.needed(wave));
    }
    kinds.push(Kind::Standing);
    let canaries = canary_id(id, plan);
    kinds.into_iter().map(|kind| planned(plan, id, canaries, kind)).collect()
}

/// Which planned document this is, if what is signed in it says exactly that. Signatures are somebody else's to check.
pub fn check<'a, K: Copy + fmt::Debug + fmt::Display>(
    all: &'a [Planned<K>],
    signed: &Value,
) -> Result<&'a Planned<K>, NotPlanned<K>> {
    let id = signed.get("id").and_then(Value::as_text).unwrap_or_default();
    let version = signed.get("version").and_then(Value::as_u64).unwrap_or_default();
    let same = |one: &&Planned<K>| u64::from(one.version) == version && one.id.to_string() == id;
    let planned = all
        .iter()
        .find(same)
        .ok_or_else(|| NotPlanned::Unknown { id: id.chars().take(32).collect(), version })?;
    if planned.value == *signed {
        return Ok(planned);
    }
    Err(NotPlanned::Differs { kind: planned.kind, field: differing(&planned.value, signed) })
}

/// The first field of two objects that is not the same.
fn differing(ours: &Value, theirs: &Value) -> String {
    let (ours, theirs) = (ours.as_object(), theirs.as_object());
    let field = ours.zip(theirs).and_then(|(ours, theirs)| {
        let mut names = ours.keys().chain(theirs.keys());
        names.find(|name| ours.get(*name) != theirs.get(*name)).cloned()
    });
    field.unwrap_or_default()
}

/// Which document an assignment is by its id and version, whatever else it says: what a node names in its check-in.
pub fn kind_of(all: &[Planned], assignment: &Assignment) -> Option<Kind> {
    let same = |one: &&Planned| {
        u64::from(one.version) == assignment.head.version && one.id.to_string() == assignment.id
    };
    all.iter().find(same).map(|one| one.kind)
}

fn planned(plan: &Plan, id: PlanId, canaries: PlanId, kind: Kind) -> Planned {
    let is_canary = matches!(kind, Kind::Canary | Kind::CanaryRevert);
    let id_of = if is_canary { canaries } else { id };
    let expires_ms = match kind {
        Kind::Standing => plan.created_ms + STANDING_MS,
        _ => plan.expires_ms(),
    };
    let (targets, rollback) =
        if kind.is_revert() { (&plan.revert, true) } else { (&plan.what, plan.allow_rollback) };
    let words = Words {
        id: id_of,
        rollout: id,
        version: kind.version(),
        created_ms: plan.created_ms,
        expires_ms,
        targets,
        shadow: None,
        rollback,
        selector: selector(plan, kind),
        targets_version: plan.targets_version,
    };
    let mut value = assignment(&words);
    if let (Some(when), false, Some(fields)) = (&plan.when, kind.is_revert(), value.as_object_mut()) {
        fields.insert("when".to_owned(), when.to_value());
    }
    Planned { id: id_of, version: kind.version(), kind, expires_ms, value }
}

/// What an assignment says that follows from a plan.
#[derive(Debug)]
pub struct Words<'a> {
    /// Its id.
    pub id: PlanId,
    /// The plan's id.
    pub rollout: PlanId,
    /// Its version.
    pub version: u32,
    /// When the plan was made.
    pub created_ms: WallMs,
    /// When it ends.
    pub expires_ms: WallMs,
    /// What to run.
    pub targets: &'a [Target],
    /// Within which limits it answers beside what runs, if it shall not run instead.
    pub shadow: Option<&'a Limits>,
    /// Whether the releases may be older than what nodes have committed.
    pub rollback: bool,
    /// Whom it is for.
    pub selector: Value,
    /// The version of the top-level targets that lists the releases.
    pub targets_version: u64,
}

/// The assignment that says so, as it is signed.
pub fn assignment(words: &Words<'_>) -> Value {
    let model = |target: &Target| {
        let mut model = Value::object([
            ("allow_rollback", words.rollback.into()),
            ("forgive", false.into()),
            ("index", format!("sha256:{}", target.index).into()),
            ("model", target.model.as_str().into()),
            ("release", target.release.into()),
            ("size", target.size.into()),
            ("variant", target.variant.as_deref().map_or(Value::Null, Value::from)),
        ]);
        if let (Some(limits), Some(fields)) = (words.shadow, model.as_object_mut()) {
            fields.insert("shadow".to_owned(), limits.to_value());
        }
        model
    };
    Value::object([
        ("_type", "assignment".into()),
        ("expires", format_utc(words.expires_ms).into()),
        ("id", words.id.to_string().into()),
        ("issued", format_utc(words.created_ms).into()),
        ("models", Value::List(words.targets.iter().map(model).collect())),
        ("not_before", format_utc(words.created_ms).into()),
        ("rollout", words.rollout.to_string().into()),
        ("spec_version", SPEC.into()),
        ("subject", Value::object([("selector", words.selector.clone())])),
        ("targets_version", words.targets_version.into()),
        ("version", u64::from(words.version).into()),
    ])
}

fn selector(plan: &Plan, kind: Kind) -> Value {
    let labels = ("labels", Value::object([]));
    let after = ("after", Value::from(1u64));
    let ring = |to: u16| {
        let salt = package::trust::hex::to_hex(&plan.salt);
        ("ring", Value::object([("from", 0u64.into()), ("salt", salt.into()), ("to", u64::from(to).into())]))
    };
    let nodes = || ("nodes", Value::List(plan.canary.iter().map(|node| node.as_str().into()).collect()));
    let expr = || ("expr", plan.group.as_str().into());
    match kind {
        Kind::Canary => Value::object([labels, nodes()]),
        Kind::CanaryRevert => Value::object([labels, nodes(), after]),
        Kind::Wave(wave) => Value::object([labels, expr(), ring(plan.ring_to(wave))]),
        Kind::Revert(wave) => Value::object([labels, ring(plan.ring_to(wave)), after]),
        Kind::Standing => Value::object([labels, expr(), ring(RING)]),
    }
}
