//! The releases that a plan names: whether somebody approved them, and their indexes.

use package::digest::Digest;
use package::index::Release;
use package::name::ModelName;
use package::trust::Policy;
use package::trust::search::find;
use package::trust::trusted::Trusted;
use wire::hash::Hash;
use wire::world::WallMs;

use crate::api::refusal::Refusal;
use crate::depot::Key;
use crate::rollout::plan::{Plan, Target};
use crate::state::HubState;
use crate::store::rollouts as store;
use crate::tuf::publish;

/// The most bytes of a release's index.
const INDEX_MAX_BYTES: u64 = 4 << 20;

/// Why a plan of these releases that was made then, and whose documents end then, cannot go about: what nodes would refuse, said
/// before anybody signs it.
pub(super) async fn problems_of(
    state: &HubState,
    asked: u64,
    created_ms: WallMs,
    expires_ms: WallMs,
    targets: &[&Target],
) -> Result<Vec<String>, Refusal> {
    let trusted = publish::published(state).await?;
    let version =
        trusted.as_ref().and_then(|trusted| trusted.targets.as_ref()).map(|it| it.body.head.version);
    let (Some(trusted), Some(version)) = (trusted, version) else {
        return Ok(vec!["no targets are published: nobody has approved a release".to_owned()]);
    };
    let mut problems = Vec::new();
    if version < asked {
        problems.push(format!("the plan asks for targets version {asked}, published is version {version}"));
    }
    if created_ms > state.now_ms() {
        problems.push("the plan was made in the future, by the hub's clock".to_owned());
    }
    if expires_ms <= state.now_ms() {
        problems.push("the plan's documents have expired already".to_owned());
    }
    for target in targets {
        if !is_listed(state, &trusted, target) {
            problems.push(format!(
                "no published targets list {} release {} with this index",
                target.model, target.release
            ));
        }
    }
    Ok(problems)
}

/// A release as published targets list it; `None` if nobody has approved it.
pub(super) fn listed(state: &HubState, trusted: &Trusted, model: &ModelName, release: u64) -> Option<Target> {
    let path = format!("models/{model}/{release}");
    let kinds = state.config.tuf.kinds();
    let file = find(trusted, &path, &kinds, state.now_ms(), Policy::default().max_stale_ms)?;
    let index = Hash::from_slice(&file.hashes.sha256?)?;
    Some(Target { model: model.clone(), release, index, size: file.length, variant: None })
}

/// Whether it is listed with this very index.
fn is_listed(state: &HubState, trusted: &Trusted, target: &Target) -> bool {
    let found = listed(state, trusted, &target.model, target.release);
    found.is_some_and(|found| found.index == target.index && found.size == target.size)
}

/// The release of a plan's first target, if it was pushed here.
pub(super) async fn release(state: &HubState, plan: &Plan) -> Result<Option<Release>, Refusal> {
    let Some(target) = plan.what.first() else { return Ok(None) };
    let key = Key::blob(&Digest::from(target.index));
    let bytes = state.depot.read(&key, INDEX_MAX_BYTES).await?;
    Ok(bytes.and_then(|bytes| Release::read(&bytes).ok()))
}

/// Keeps the indexes of a plan's releases, as far as the depot has them: how much a node fetches follows from them.
pub(super) async fn keep_indexes(state: &HubState, targets: &[Target]) -> Result<(), Refusal> {
    for target in targets {
        let digest = target.index;
        let bytes = state.depot.read(&Key::blob(&Digest::from(digest)), INDEX_MAX_BYTES).await?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        if let Some(text) = text.filter(|text| !text.contains('\0')) {
            let kept = state.writer.within(move |writer| {
                Box::pin(async move { store::put_index(writer, &digest, &text).await })
            });
            kept.await?;
        }
    }
    Ok(())
}
