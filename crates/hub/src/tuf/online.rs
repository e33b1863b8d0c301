//! Says for the authors that nothing newer is hidden: signs a new timestamp when a third of its life is over and after each
//! publication, and a snapshot, too, if the hub holds its key. Then offline-signed targets are all that authors have to put.
//!
//! Several hubs may share a depot and the keys. Each looks, signs the next version, checks it as a client would, and puts it only
//! in the place of what it has seen; who was beaten looks again. So versions only grow, whoever stops at whatever instant.
//!
//! The clock: a hub whose clock is behind what is signed already signs nothing, since it would replace what is fresh by what
//! is not; neither does one for which root has expired. Both are told, and mend themselves with the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use package::digest::DigestError;
use package::form::decimal;
use package::trust::author::{AuthorError, Repository};
use package::trust::envelope::{Envelope, Signed, verify};
use package::trust::metadata::{
    Delegated, Delegations, FileName, Head, Paths, Role, RoleName, Snapshot, Targets,
};
use package::trust::trusted::Trusted;
use tokio::runtime::Handle;
use wire::world::WallMs;

use crate::config::TufConfig;
use crate::depot::{Depot, DepotError, Key};
use crate::state::{HubState, stopped};
use crate::tuf::keys::{KeyError, OnlineKeys};
use crate::tuf::publish::{PublishError, TIMESTAMP, View};

const DAY_MS: i64 = 86_400_000;

/// How far apart the clocks of those who sign may be.
const SKEW_MS: i64 = 5 * 60 * 1000;

/// What somebody signed without saying when is taken to hold so long.
const LIFE_MS: i64 = 7 * DAY_MS;

/// How often a hub that was beaten by another looks again at once.
const TRIES: usize = 8;

/// How long between two looks, at most and at least. Others may publish into the depot, and clocks may jump.
const REST_MAX: Duration = Duration::from_secs(10 * 60);
const REST_MIN: Duration = Duration::from_secs(1);

/// The most metadata files of a depot.
const FILES_MAX: usize = 100_000;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum OnlineError {
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The clock is behind.
    #[error(
        "{role} was signed {ahead_ms} ms from now, by this hub's clock: set the clock, or wait if another's was wrong"
    )]
    ClockBehind {
        /// The role that was signed latest.
        role: RoleName,
        /// How far ahead.
        ahead_ms: i64,
    },
    /// Nobody would believe what is signed now.
    #[error(
        "root has expired {by_ms} ms ago: renew it with `selvedge trust refresh --renew root`, or set the clock"
    )]
    RootExpired {
        /// How long ago.
        by_ms: i64,
    },
    /// A client would not come to the new state.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The next version cannot be made.
    #[error("the next version cannot be made")]
    Author(#[from] AuthorError),
    /// Other hubs were faster every time.
    #[error("other hubs have published {TRIES} times meanwhile")]
    Beaten,
}

impl From<DepotError> for OnlineError {
    fn from(error: DepotError) -> OnlineError {
        OnlineError::Publish(error.into())
    }
}

impl From<DigestError> for OnlineError {
    fn from(error: DigestError) -> OnlineError {
        OnlineError::Publish(error.into())
    }
}

/// Until when a role's word holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The role.
    pub role: RoleName,
    /// Until when.
    pub at_ms: WallMs,
    /// For how long it was made.
    pub life_ms: i64,
}

impl Expiry {
    fn of(role: RoleName, head: &Head) -> Expiry {
        Expiry { role, at_ms: head.expires_ms, life_ms: life_ms(head) }
    }

    /// Whether less than a quarter of its life is left: what signs by itself has signed by then.
    fn is_near(&self, now_ms: WallMs) -> bool {
        self.at_ms.saturating_sub(now_ms) < self.life_ms / 4
    }
}

/// What came of a look.
#[derive(Debug)]
pub struct Looked {
    /// The files that were signed, or why none could be.
    pub signed: Result<Vec<String>, OnlineError>,
    /// Until when what is published holds.
    pub expiries: Vec<Expiry>,
}

/// Looks at what is published, and signs what is due with the keys at hand.
pub async fn look(
    depot: &Depot,
    config: &TufConfig,
    keys: Option<&OnlineKeys>,
    now_ms: WallMs,
) -> Result<Looked, OnlineError> {
    let view = View::of(depot, config, now_ms)?;
    let signed = match keys {
        Some(keys) => sign(&view, keys, now_ms).await,
        None => Ok(Vec::new()),
    };
    let expiries = match view.trusted().await? {
        Some(trusted) => expiries(&view, &trusted).await?,
        None => Vec::new(),
    };
    Ok(Looked { signed, expiries })
}

/// Whether the keys may sign what is published. Before there is a root, any may.
pub async fn check(depot: &Depot, config: &TufConfig, keys: &OnlineKeys) -> Result<(), OnlineError> {
    let trusted = View::of(depot, config, 0)?.trusted().await?;
    Ok(trusted.map_or(Ok(()), |trusted| keys.check(&trusted.root.body))?)
}

/// Looks as often as it takes, until the hub stops.
pub async fn tend(state: Arc<HubState>) {
    let mut stopping = state.stopping.clone();
    let mut told = BTreeMap::new();
    loop {
        let (handle, hub) = (Handle::current(), state.clone());
        // Signatures take milliseconds that would stand in everybody's way.
        let looked = tokio::task::spawn_blocking(move || handle.block_on(go(&hub))).await;
        let rest = looked.map_or(REST_MAX, |looked| tell(looked.as_ref(), &mut told, state.now_ms()));
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = stopped(&mut stopping) => return,
        }
    }
}

/// Looks once, and notes until when things hold. `None` if the depot cannot be read, which is logged.
pub async fn go(state: &HubState) -> Option<Looked> {
    let _turn = state.publishing.lock().await;
    match look(&state.depot, &state.config.tuf, state.online.as_ref(), state.now_ms()).await {
        Ok(looked) => {
            match &looked.signed {
                Ok(files) if files.is_empty() => {}
                Ok(files) => tracing::info!(files = files.join(", "), "signed and published"),
                Err(error) => tracing::warn!(why = chain(error), "the hub's keys have signed nothing"),
            }
            let expiries =
                looked.expiries.iter().map(|expiry| (expiry.role.to_string(), expiry.at_ms / 1000));
            state.metrics.expires(expiries.collect());
            Some(looked)
        }
        Err(error) => {
            tracing::error!(why = chain(&error), "what is published cannot be looked at");
            None
        }
    }
}

fn chain(error: &OnlineError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Warns of what expires soon, once a day each; how long to rest.
fn tell(looked: Option<&Looked>, told: &mut BTreeMap<RoleName, WallMs>, now_ms: WallMs) -> Duration {
    let Some(looked) = looked else { return REST_MAX };
    for expiry in looked.expiries.iter().filter(|expiry| expiry.is_near(now_ms)) {
        let last_ms = told.get(&expiry.role).copied().unwrap_or(WallMs::MIN);
        if now_ms.saturating_sub(last_ms) < DAY_MS && now_ms >= last_ms {
            continue;
        }
        told.insert(expiry.role.clone(), now_ms);
        let (role, hours) = (&expiry.role, (expiry.at_ms - now_ms) / (DAY_MS / 24));
        match expiry.at_ms > now_ms {
            true => tracing::warn!(%role, hours, "expires soon: nodes will take nothing new"),
            false => tracing::error!(%role, hours, "has expired: nodes take nothing new"),
        }
    }
    // What is overdue after a look is not for this hub to sign.
    let timestamp = looked.expiries.iter().find(|expiry| expiry.role == RoleName::timestamp());
    let until_ms = timestamp.map(|timestamp| due_ms(timestamp).saturating_sub(now_ms)).filter(|ms| *ms > 0);
    let until = until_ms.map_or(REST_MAX, |ms| Duration::from_millis(ms.unsigned_abs()));
    until.clamp(REST_MIN, REST_MAX)
}

/// When a third of its life is over.
fn due_ms(expiry: &Expiry) -> WallMs {
    expiry.at_ms.saturating_sub(expiry.life_ms - expiry.life_ms / 3)
}

fn life_ms(head: &Head) -> i64 {
    head.signed_at_ms.map_or(LIFE_MS, |signed_ms| head.expires_ms.saturating_sub(signed_ms))
}

/// Signs what is due; the names of the files that are new.
async fn sign(view: &View<'_>, keys: &OnlineKeys, now_ms: WallMs) -> Result<Vec<String>, OnlineError> {
    for _ in 0..TRIES {
        if let Some(files) = try_to_sign(view, keys, now_ms).await? {
            return Ok(files);
        }
    }
    Err(OnlineError::Beaten)
}

/// `None` if another hub was faster.
async fn try_to_sign(
    view: &View<'_>,
    keys: &OnlineKeys,
    now_ms: WallMs,
) -> Result<Option<Vec<String>>, OnlineError> {
    // What stands there now is what may be replaced, whatever is found after it.
    let seen = view.file(TIMESTAMP, view.policy.limits.timestamp_bytes).await?;
    let Some(trusted) = view.trusted().await? else { return Ok(Some(Vec::new())) };
    keys.check(&trusted.root.body)?;
    check_clock(&trusted, now_ms)?;
    let found = Found::gather(view, &trusted, keys, seen.as_deref()).await?;
    let (is_newer, has_snapshot) = (found.is_newer, found.published.contains_key(&RoleName::snapshot()));
    let mut repository = Repository::of(found.published, found.staged);
    let files = match keys.sign_snapshots() {
        true => repository.publish(&keys.signers(), now_ms)?.files,
        false if has_snapshot => vec![repository.stamp(&keys.signers(), now_ms)?],
        false => Vec::new(),
    };
    let timestamp = trusted.timestamp.as_ref().map(|it| Expiry::of(RoleName::timestamp(), &it.body.head));
    let is_due = timestamp.is_none_or(|timestamp| now_ms >= due_ms(&timestamp));
    let Some(((_, timestamp), others)) =
        files.split_last().filter(|(_, others)| is_due || is_newer || !others.is_empty())
    else {
        return Ok(Some(Vec::new()));
    };
    for (file, bytes) in others {
        if !put_beside(view, &trusted, file, bytes).await? {
            return Ok(None);
        }
    }
    let timestamp = Bytes::from(timestamp.clone());
    match view.with(TIMESTAMP, &timestamp).check_timestamp().await {
        // Another's is there by now.
        Err(PublishError::NotNewer | PublishError::Update(_)) if moved(view, seen.as_ref()).await? => {
            return Ok(None);
        }
        checked => checked?,
    }
    let is_put = view.depot.replace(&Key::tuf(TIMESTAMP), seen.as_ref(), timestamp).await?;
    Ok(is_put.then(|| files.iter().map(|(file, _)| file.to_string()).collect()))
}

/// Whether another timestamp is there than was seen.
async fn moved(view: &View<'_>, seen: Option<&Bytes>) -> Result<bool, OnlineError> {
    Ok(view.file(TIMESTAMP, view.policy.limits.timestamp_bytes).await?.as_ref() != seen)
}

/// Puts a file that the timestamp will name, unless it is there already. False if another hub has signed this version of it; what
/// nobody could believe makes way.
async fn put_beside(
    view: &View<'_>,
    trusted: &Trusted,
    file: &FileName,
    bytes: &[u8],
) -> Result<bool, OnlineError> {
    let (key, bytes) = (Key::tuf(file.as_str()), Bytes::copy_from_slice(bytes));
    if view.depot.put_if_absent(&key, bytes.clone()).await? {
        return Ok(true);
    }
    let there = view.depot.read(&key, view.policy.limits.targets_bytes).await?;
    match there {
        Some(there) if there == bytes => Ok(true),
        Some(there) if trusted.verify_snapshot(&there, &view.policy.kinds).is_err() => {
            Ok(view.depot.replace(&key, Some(&there), bytes).await?)
        }
        _ => Ok(false),
    }
}

/// Nothing is signed by a clock that is behind what was signed, or when nobody would believe it.
fn check_clock(trusted: &Trusted, now_ms: WallMs) -> Result<(), OnlineError> {
    let heads = [
        (RoleName::root(), Some(&trusted.root.body.head)),
        (RoleName::timestamp(), trusted.timestamp.as_ref().map(|it| &it.body.head)),
        (RoleName::snapshot(), trusted.snapshot.as_ref().map(|it| &it.body.head)),
        (RoleName::targets(), trusted.targets.as_ref().map(|it| &it.body.head)),
    ];
    let signed = heads.into_iter().filter_map(|(role, head)| Some((head?.signed_at_ms?, role)));
    if let Some((signed_ms, role)) = signed.max().filter(|(signed_ms, _)| signed_ms - SKEW_MS > now_ms) {
        return Err(OnlineError::ClockBehind { role, ahead_ms: signed_ms - now_ms });
    }
    let by_ms = now_ms.saturating_sub(trusted.root.body.head.expires_ms);
    if by_ms >= 0 { Err(OnlineError::RootExpired { by_ms }) } else { Ok(()) }
}

/// What an author needs to make the next version.
struct Found {
    published: BTreeMap<RoleName, Vec<u8>>,
    staged: BTreeMap<RoleName, Vec<u8>>,
    /// Whether the snapshot is newer than the one that the timestamp names.
    is_newer: bool,
}

impl Found {
    /// The newest that lies in the depot and that its role's keys have signed; `timestamp` is the one that stands there.
    async fn gather(
        view: &View<'_>,
        trusted: &Trusted,
        keys: &OnlineKeys,
        timestamp: Option<&[u8]>,
    ) -> Result<Found, OnlineError> {
        let versions = Versions::list(view.depot).await?;
        let mut published = BTreeMap::from([(RoleName::root(), trusted.root.bytes.to_vec())]);
        // Even one that other keys have signed has a version, from which the next one grows.
        if let Some(timestamp) = timestamp.filter(|bytes| Envelope::read(bytes).is_ok()) {
            published.insert(RoleName::timestamp(), timestamp.to_vec());
        }
        let named = trusted.snapshot.as_ref().map_or(0, |snapshot| snapshot.body.head.version);
        let mut is_newer = false;
        let mut listed = BTreeMap::new();
        if let Some((snapshot, bytes)) = newest_snapshot(view, trusted, &versions).await? {
            is_newer = snapshot.head.version > named;
            for (name, meta) in &snapshot.meta {
                let Some(role) = role_of(name) else { continue };
                let file = FileName::of(&role, Some(meta.version)).to_string();
                let bytes = view.file(&file, view.policy.limits.targets_bytes).await?;
                let bytes = bytes.ok_or(PublishError::Missing { file })?;
                published.insert(role.clone(), bytes.to_vec());
                listed.insert(role, meta.version);
            }
            published.insert(RoleName::snapshot(), bytes.to_vec());
        }
        let mut staged = BTreeMap::new();
        if keys.sign_snapshots() {
            let newer = Newer { view, versions: &versions, published: &published, listed: &listed };
            staged = newer.gather(trusted).await?;
        }
        Ok(Found { published, staged, is_newer })
    }
}

fn role_of(name: &str) -> Option<RoleName> {
    match name.strip_suffix(".json")? {
        "targets" => Some(RoleName::targets()),
        name => RoleName::delegated(name),
    }
}

/// The newest snapshot that its keys have signed and all of which is here. If the keys are new, the newest that there is:
/// from its version the next one grows.
async fn newest_snapshot(
    view: &View<'_>,
    trusted: &Trusted,
    versions: &Versions,
) -> Result<Option<(Snapshot, Bytes)>, OnlineError> {
    let mut signed_by_others = None;
    for version in versions.of(&RoleName::snapshot()) {
        let file = FileName::of(&RoleName::snapshot(), Some(version));
        let Some(bytes) = view.file(file.as_str(), view.policy.limits.snapshot_bytes).await? else {
            continue;
        };
        match trusted.verify_snapshot(&bytes, &view.policy.kinds) {
            Ok(signed) if signed.body.head.version == version => {
                let is_named =
                    trusted.snapshot.as_ref().is_some_and(|named| named.body.head.version == version);
                if is_named || is_whole(view, &signed.body).await? {
                    return Ok(Some((signed.body, bytes)));
                }
            }
            Ok(_) => {}
            Err(_) => {
                let body =
                    Envelope::read(&bytes).ok().and_then(|envelope| Snapshot::read(&envelope.signed).ok());
                let body = body.filter(|body| body.head.version == version);
                signed_by_others = signed_by_others.or(body.map(|body| (body, bytes)));
            }
        }
    }
    Ok(signed_by_others)
}

/// Whether all that a snapshot lists is here.
async fn is_whole(view: &View<'_>, snapshot: &Snapshot) -> Result<bool, OnlineError> {
    for (name, meta) in &snapshot.meta {
        let Some(role) = role_of(name) else { return Ok(false) };
        let file = FileName::of(&role, Some(meta.version));
        let bytes = view.file(file.as_str(), view.policy.limits.targets_bytes).await?;
        if bytes.is_none_or(|bytes| meta.check(&bytes).is_err()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Targets roles that are newer than the snapshot lists them.
struct Newer<'a> {
    view: &'a View<'a>,
    versions: &'a Versions,
    published: &'a BTreeMap<RoleName, Vec<u8>>,
    listed: &'a BTreeMap<RoleName, u64>,
}

impl Newer<'_> {
    /// From the top-level targets down, each role signed by whom the newest version of its delegator names.
    async fn gather(&self, trusted: &Trusted) -> Result<BTreeMap<RoleName, Vec<u8>>, OnlineError> {
        let root = &trusted.root.body;
        let top = Delegations {
            keys: root.keys.clone(),
            roles: vec![Delegated {
                name: RoleName::targets(),
                keys: root.targets.clone(),
                terminating: false,
                paths: Paths::Patterns(Vec::new()),
            }],
        };
        let (mut staged, mut seen) = (BTreeMap::new(), BTreeSet::new());
        let mut waiting = vec![top];
        while let Some(from) = waiting.pop() {
            for edge in &from.roles {
                if !seen.insert(edge.name.clone()) {
                    continue;
                }
                let newest = self.newest(&edge.name, |bytes| {
                    verify::<Targets>(bytes, &from.keys, &edge.keys, &self.view.policy.kinds).ok()
                });
                let targets = match newest.await? {
                    Some((bytes, targets)) => {
                        staged.insert(edge.name.clone(), bytes.to_vec());
                        Some(targets)
                    }
                    None => {
                        let bytes = self.published.get(&edge.name);
                        let envelope = bytes.and_then(|bytes| Envelope::read(bytes).ok());
                        envelope.and_then(|envelope| Targets::read(&envelope.signed).ok())
                    }
                };
                waiting.extend(targets.map(|targets| targets.delegations));
            }
        }
        Ok(staged)
    }

    /// The newest version above the listed one that passes.
    async fn newest(
        &self,
        role: &RoleName,
        passes: impl Fn(&[u8]) -> Option<Signed<Targets>>,
    ) -> Result<Option<(Bytes, Targets)>, OnlineError> {
        let listed = self.listed.get(role).copied().unwrap_or_default();
        for version in self.versions.of(role).take_while(|version| *version > listed) {
            let file = FileName::of(role, Some(version));
            let max_bytes = self.view.policy.limits.targets_bytes;
            let Some(bytes) = self.view.file(file.as_str(), max_bytes).await? else { continue };
            let signed = passes(&bytes).filter(|signed| signed.body.head.version == version);
            if let Some(signed) = signed {
                return Ok(Some((bytes, signed.body)));
            }
        }
        Ok(None)
    }
}

/// Which versions of which roles lie in a depot.
struct Versions {
    names: Vec<String>,
}

impl Versions {
    async fn list(depot: &Depot) -> Result<Versions, DepotError> {
        Ok(Versions { names: depot.names(&Key::tuf_files(), None, FILES_MAX).await?.names })
    }

    /// The newest first.
    fn of(&self, role: &RoleName) -> impl Iterator<Item = u64> {
        let key = Key::tuf(FileName::of(role, None).as_str());
        let end = format!(".{}", key.name());
        let versions = self.names.iter().filter_map(|name| decimal(name.strip_suffix(&end)?));
        let versions: BTreeSet<u64> = versions.collect();
        versions.into_iter().rev()
    }
}

/// Until when each role's word holds.
async fn expiries(view: &View<'_>, trusted: &Trusted) -> Result<Vec<Expiry>, OnlineError> {
    let mut all = vec![Expiry::of(RoleName::root(), &trusted.root.body.head)];
    all.extend(trusted.timestamp.as_ref().map(|it| Expiry::of(RoleName::timestamp(), &it.body.head)));
    let Some(snapshot) = &trusted.snapshot else { return Ok(all) };
    all.push(Expiry::of(RoleName::snapshot(), &snapshot.body.head));
    for (name, meta) in &snapshot.body.meta {
        let Some(role) = role_of(name) else { continue };
        let file = FileName::of(&role, Some(meta.version));
        let Some(bytes) = view.file(file.as_str(), view.policy.limits.targets_bytes).await? else { continue };
        let targets = Envelope::read(&bytes).ok().and_then(|envelope| Targets::read(&envelope.signed).ok());
        all.extend(targets.map(|targets| Expiry::of(role, &targets.head)));
    }
    Ok(all)
}
