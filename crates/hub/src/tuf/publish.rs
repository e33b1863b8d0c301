//! Takes metadata only if a client would believe it: the client's own workflow, run over what lies in the depot.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::StatusCode;
use package::digest::{Digest, DigestError};
use package::form::decimal;
use package::trust::Policy;
use package::trust::envelope::{Envelope, VerifyError, verify};
use package::trust::metadata::{FileName, Mismatch, RoleName, Targets};
use package::trust::search::ROLES_MAX;
use package::trust::trusted::Trusted;
use package::trust::update::{Effect, Event, Outcome, Update, UpdateError, Want, step};
use wire::world::WallMs;

use crate::api::refusal::Refusal;
use crate::config::TufConfig;
use crate::depot::{Depot, DepotError, Key};
use crate::state::HubState;
use crate::tuf::keys::OnlineKeys;

/// What has no version in its name.
pub(super) const TIMESTAMP: &str = "timestamp.json";

/// Where trust begins.
const FIRST_ROOT: &str = "1.root.json";

/// Metadata that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No name of a metadata file.
    #[error("metadata files are called timestamp.json or <version>.<role>.json")]
    Name,
    /// Longer than a client reads.
    #[error("{file} has more than the {max_bytes} bytes that a client reads")]
    TooLong {
        /// Which file.
        file: String,
        /// The most that is read.
        max_bytes: u64,
    },
    /// The version is taken.
    #[error("{file} is published already, with other content: sign the change as a new version")]
    Differs {
        /// Which file.
        file: String,
    },
    /// The first root is not the one of the settings.
    #[error("1.root.json is not the root that [tuf] in the hub's config names")]
    OtherRoot,
    /// The settings name no root that can be.
    #[error(transparent)]
    Config(#[from] DigestError),
    /// Something that must come before is missing.
    #[error("{file} is missing: put it first")]
    Missing {
        /// Which file.
        file: String,
    },
    /// Older than what is published.
    #[error("the timestamp is not newer than the one that is published")]
    NotNewer,
    /// A client would not believe it.
    #[error("a client would not believe it")]
    Update(#[from] UpdateError),
    /// Not signed as it must be, or of a wrong form.
    #[error("{file} is not accepted")]
    Verify {
        /// Which file.
        file: String,
        /// Why.
        source: VerifyError,
    },
    /// Not what the snapshot describes.
    #[error("{file} is not the file that the snapshot describes")]
    Mismatch {
        /// Which file.
        file: String,
        /// Why.
        source: Mismatch,
    },
    /// The depot failed.
    #[error(transparent)]
    Depot(#[from] DepotError),
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Refusal {
        let mend = "publish with `selvedge trust`, and put roots and targets first, the timestamp last";
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        let refuse = |status, code| Refusal::new(status, code, message, mend);
        match error {
            PublishError::Depot(error) => error.into(),
            PublishError::TooLong { .. } => refuse(StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            PublishError::Differs { .. } | PublishError::NotNewer => {
                refuse(StatusCode::CONFLICT, "published-already")
            }
            _ => refuse(StatusCode::BAD_REQUEST, "not-believed"),
        }
    }
}

/// Takes a file; false if it is here already. One at a time.
pub async fn put(state: &HubState, file: &str, bytes: Bytes) -> Result<bool, PublishError> {
    let (version, role) = match file.strip_suffix(".json").and_then(|name| name.split_once('.')) {
        Some((version, role)) => (decimal(version), role),
        None => (None, ""),
    };
    let view = View::of(&state.depot, &state.config.tuf, state.now_ms())?;
    let limits = &view.policy.limits;
    let max_bytes = match role {
        "root" => limits.root_bytes,
        "snapshot" => limits.snapshot_bytes,
        _ if file == TIMESTAMP => limits.timestamp_bytes,
        _ => limits.targets_bytes,
    };
    if bytes.len() as u64 > max_bytes {
        return Err(PublishError::TooLong { file: file.to_owned(), max_bytes });
    }
    let _turn = state.publishing.lock().await;
    let key = Key::tuf(file);
    let there = state.depot.read(&key, max_bytes).await?;
    if there.as_ref() == Some(&bytes) {
        return Ok(false);
    }
    let differs = || PublishError::Differs { file: file.to_owned() };
    let view = view.with(file, &bytes);
    match (version, role) {
        _ if file == TIMESTAMP => view.check_timestamp().await?,
        (Some(_), "root") if there.is_some() => return Err(differs()),
        (Some(_), "root") => view.check_root().await?,
        (Some(version), role) if !role.is_empty() && role != "timestamp" => {
            let unread = |source| PublishError::Verify { file: file.to_owned(), source };
            Envelope::read(&bytes).map_err(unread)?;
            // What no published snapshot has named may still be mended; but where hubs sign snapshots, one is about to be named.
            let is_signed_here =
                role == "snapshot" && state.online.as_ref().is_some_and(OnlineKeys::sign_snapshots);
            if there.is_some() && (is_signed_here || view.is_published(version, role).await?) {
                return Err(differs());
            }
        }
        _ => return Err(PublishError::Name),
    }
    // Another hub may share the depot: who was first stays.
    match state.depot.replace(&key, there.as_ref(), bytes).await? {
        true => Ok(true),
        false if file == TIMESTAMP => Err(PublishError::NotNewer),
        false => Err(differs()),
    }
}

/// What a client trusts that has followed all that is published, whether it has expired or not, with the delegated roles as they
/// came; `None` without a root.
pub async fn published(state: &HubState) -> Result<Option<Trusted>, PublishError> {
    let view = View::of(&state.depot, &state.config.tuf, state.now_ms())?;
    let Some(mut trusted) = view.trusted().await? else { return Ok(None) };
    let Some(snapshot) = trusted.snapshot.clone() else { return Ok(Some(trusted)) };
    let roles =
        snapshot.body.meta.iter().filter_map(|(file, meta)| {
            Some((RoleName::delegated(file.strip_suffix(".json")?)?, meta.version))
        });
    // Whoever looks a target up enters no more of them.
    for (role, version) in roles.take(ROLES_MAX) {
        let file = FileName::of(&role, Some(version));
        if let Some(bytes) = view.file(file.as_str(), view.policy.limits.targets_bytes).await? {
            trusted.delegated.insert(role, Arc::from(bytes.as_ref()));
        }
    }
    Ok(Some(trusted))
}

/// What lies here as a client sees it, to whom one file more may be shown.
pub(super) struct View<'a> {
    pub(super) depot: &'a Depot,
    pub(super) policy: Policy,
    first_root: Option<Digest>,
    now_ms: WallMs,
    new: Option<(&'a str, &'a Bytes)>,
}

impl<'a> View<'a> {
    /// What lies here at `now_ms`, and nothing more.
    pub(super) fn of(depot: &'a Depot, config: &TufConfig, now_ms: WallMs) -> Result<View<'a>, DigestError> {
        let policy = Policy { kinds: config.kinds(), ..Policy::default() };
        Ok(View { depot, policy, first_root: config.first_root()?, now_ms, new: None })
    }

    /// As if this file lay here, too.
    pub(super) fn with<'b>(&self, file: &'b str, bytes: &'b Bytes) -> View<'b>
    where
        'a: 'b,
    {
        let View { depot, first_root, now_ms, .. } = *self;
        View { depot, policy: self.policy.clone(), first_root, now_ms, new: Some((file, bytes)) }
    }

    /// A file by its name.
    pub(super) async fn file(&self, file: &str, max_bytes: u64) -> Result<Option<Bytes>, DepotError> {
        match self.new {
            Some((name, bytes)) if name == file => Ok(Some(bytes.clone())),
            _ => self.depot.read(&Key::tuf(file), max_bytes).await,
        }
    }

    /// What a client trusts that has followed all that lies here, whether it has expired or not; `None` without a root.
    pub(super) async fn trusted(&self) -> Result<Option<Trusted>, PublishError> {
        match self.file(FIRST_ROOT, self.policy.limits.root_bytes).await? {
            Some(_) => self.published().await.map(Some),
            None => Ok(None),
        }
    }

    /// Follows the client's workflow to its end; with `roots_only` up to the newest root, be it expired or not.
    async fn follow(&self, trusted: Trusted, roots_only: bool) -> Result<Trusted, PublishError> {
        let update = Update::new(trusted, self.policy.clone());
        let (mut update, mut effects) = step(update, Event::Begin(Want::Refresh), self.now_ms);
        while let Some(effect) = effects.pop() {
            let event = match effect {
                Effect::Done(Outcome::Failed(UpdateError::Expired { role, .. }))
                    if roots_only && role == RoleName::root() =>
                {
                    break;
                }
                Effect::Done(Outcome::Failed(error)) => return Err(error.into()),
                Effect::Done(_) => break,
                Effect::Persist(_) => Event::Persisted,
                Effect::Fetch { file, .. } if roots_only && file.as_str() == TIMESTAMP => break,
                Effect::Fetch { file, max_bytes } => match self.file(file.as_str(), max_bytes).await? {
                    Some(bytes) => Event::Got { file, bytes: bytes.to_vec() },
                    None => Event::Absent { file },
                },
            };
            (update, effects) = step(update, event, self.now_ms);
        }
        Ok(update.trusted().clone())
    }

    /// The newest root that leads here from the first.
    async fn newest_root(&self) -> Result<Trusted, PublishError> {
        let missing = || PublishError::Missing { file: FIRST_ROOT.to_owned() };
        let first = self.file(FIRST_ROOT, self.policy.limits.root_bytes).await?.ok_or_else(missing)?;
        if self.first_root.is_some_and(|root| root != Digest::of(&first)) {
            return Err(PublishError::OtherRoot);
        }
        let refuse = |source| PublishError::Verify { file: FIRST_ROOT.to_owned(), source };
        self.follow(Trusted::of_root(&first, &self.policy.kinds).map_err(refuse)?, true).await
    }

    /// What is published, as far as the newest root's keys have signed it.
    async fn published(&self) -> Result<Trusted, PublishError> {
        let mut trusted = self.newest_root().await?;
        let (limits, kinds) = (&self.policy.limits, &self.policy.kinds);
        let Some(bytes) = self.depot.read(&Key::tuf(TIMESTAMP), limits.timestamp_bytes).await? else {
            return Ok(trusted);
        };
        let Ok(timestamp) = trusted.verify_timestamp(&bytes, kinds) else { return Ok(trusted) };
        let file = FileName::of(&RoleName::snapshot(), Some(timestamp.body.snapshot.version));
        trusted.set_timestamp(timestamp);
        let Some(bytes) = self.file(file.as_str(), limits.snapshot_bytes).await? else { return Ok(trusted) };
        let Ok(snapshot) = trusted.verify_snapshot(&bytes, kinds) else { return Ok(trusted) };
        let version = snapshot.body.of(&RoleName::targets()).map(|listed| listed.version);
        trusted.set_snapshot(snapshot);
        let file = FileName::of(&RoleName::targets(), version);
        let Some(bytes) = self.file(file.as_str(), limits.targets_bytes).await? else { return Ok(trusted) };
        if let Ok(targets) = trusted.verify_targets(&bytes, kinds) {
            trusted.set_targets(targets);
        }
        Ok(trusted)
    }

    fn is_new(&self, bytes: &[u8]) -> bool {
        self.new.is_some_and(|(_, new)| **new == *bytes)
    }

    /// The new root is the next one, and nobody's who was not trusted before.
    async fn check_root(&self) -> Result<(), PublishError> {
        let root = self.newest_root().await?.root;
        let version = root.body.head.version;
        match self.is_new(&root.bytes) {
            true => Ok(()),
            // It was not even asked for: one before it is missing.
            false => Err(PublishError::Missing { file: format!("{}.root.json", version.saturating_add(1)) }),
        }
    }

    /// With the new timestamp a client that trusts what is published comes to a new state, all of which is here.
    pub(super) async fn check_timestamp(&self) -> Result<(), PublishError> {
        let trusted = self.follow(self.published().await?, false).await?;
        if trusted.timestamp.as_ref().is_none_or(|timestamp| !self.is_new(&timestamp.bytes)) {
            return Err(PublishError::NotNewer);
        }
        self.check_delegated(&trusted).await
    }

    /// The roles that the targets delegate to are here as the snapshot lists them, signed by whom they delegate to.
    async fn check_delegated(&self, trusted: &Trusted) -> Result<(), PublishError> {
        let (Some(snapshot), Some(targets)) = (&trusted.snapshot, &trusted.targets) else { return Ok(()) };
        let mut waiting = vec![targets.body.delegations.clone()];
        let mut seen = BTreeSet::new();
        while let Some(from) = waiting.pop() {
            for role in &from.roles {
                // One that is not listed is not asked for.
                let Some(listed) = snapshot.body.of(&role.name) else { continue };
                if !seen.insert(role.name.clone()) {
                    continue;
                }
                let file = FileName::of(&role.name, Some(listed.version)).to_string();
                let found = self.file(&file, self.policy.limits.targets_bytes).await?;
                let bytes = found.ok_or_else(|| PublishError::Missing { file: file.clone() })?;
                let mismatch = |source| PublishError::Mismatch { file: file.clone(), source };
                listed.check(&bytes).map_err(mismatch)?;
                let refuse = |source| PublishError::Verify { file: file.clone(), source };
                let signed = verify::<Targets>(&bytes, &from.keys, &role.keys, &self.policy.kinds);
                waiting.push(signed.map_err(refuse)?.body.delegations);
            }
        }
        Ok(())
    }

    /// Whether the published timestamp or snapshot names this version of a role, or a later one.
    async fn is_published(&self, version: u64, role: &str) -> Result<bool, PublishError> {
        let Some(trusted) = self.trusted().await? else { return Ok(false) };
        let newest = match (role, &trusted.timestamp, &trusted.snapshot) {
            ("snapshot", Some(timestamp), _) => Some(timestamp.body.snapshot.version),
            (_, _, Some(snapshot)) => {
                let named = |name: &str| match name.strip_suffix(".json") {
                    Some("targets") => role == "targets",
                    Some(name) => RoleName::delegated(name).is_some_and(|name| {
                        FileName::of(&name, None).as_str().strip_suffix(".json") == Some(role)
                    }),
                    None => false,
                };
                let listed = snapshot.body.meta.iter().find(|(name, _)| named(name));
                listed.map(|(_, listed)| listed.version)
            }
            _ => None,
        };
        Ok(newest.is_some_and(|newest| version <= newest))
    }
}
