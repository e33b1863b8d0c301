//! Brings trust and assignments up to date, and finds the releases that trusted targets list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use package::digest::Digest;
use package::disk::system::System;
use package::name::ModelName;
use package::trust::Policy;
use package::trust::assignment::NodeFacts;
use package::trust::metadata::TargetFile;
use package::trust::search::find;
use package::trust::state::TrustState;
use package::trust::time::effective;
use package::trust::trusted::Trusted;
use package::trust::update::Want;
use serde::Deserialize;
use serde::de::IgnoredAny;
use wire::checkin::Document;
use wire::facts::Facts;
use wire::hash::Hash;
use wire::world::{WallMs, World};

use super::errand::Reach;
use super::view;
use super::word::{Brought, lock};
use crate::assignments::{self, BringError, Source};
use crate::config::packages::Metadata;
use crate::control::Ask;
use crate::identity::tls::HubTls;
use crate::install::state::Order;
use crate::transfer::blocking::blocking;
use crate::trust::{FILE_TIME, Refreshed, Repository, refresh};
use crate::why::why;

/// The size of the index that an order names, if trusted targets list it.
pub(super) fn index_bytes<W: World + Clone + 'static>(
    reach: &Reach<W>,
    trusted: &Trusted,
    model: &ModelName,
    order: &Order,
) -> Option<u64> {
    let policy = &reach.packages.trust.policy;
    let listed = listed(trusted, policy, model, order.release, reach.world.wall_ms())?;
    let is_it = listed.hashes.sha256.and_then(digest) == Some(order.index);
    is_it.then_some(listed.length)
}

/// A repository of metadata, and with it the place of assignments.
struct Place {
    repository: Repository,
    source: Option<Source>,
    is_relay: bool,
}

/// Where metadata and assignments are: what a person names comes first.
fn places<W: World + Clone + 'static>(reach: &Reach<W>, from: Option<&Path>) -> (Vec<Place>, Vec<String>) {
    let mut troubles = Vec::new();
    let mut places = Vec::new();
    let mut keep = |opened: Result<(Repository, Option<Source>), String>, is_relay| match opened {
        Ok((repository, source)) => places.push(Place { repository, source, is_relay }),
        Err(trouble) => troubles.push(trouble),
    };
    if let Some(from) = from {
        keep(on_disk(from), false);
    }
    let (token, tls) = (reach.token.as_deref(), reach.tls.as_ref());
    let hub = reach.hub.as_deref();
    // Relays keep what the hub signs and hands to everybody. They are asked first, and the hub after them: so one that holds
    // something back is found out.
    let via = reach.tls.as_ref().and_then(HubTls::via).filter(|_| reach.packages.trust.repository.is_none());
    for relay in via.iter().flat_map(|via| via.relays()) {
        let token = via.and_then(|via| via.token());
        let opened = Repository::at(&format!("{relay}/tuf/metadata"), token, FILE_TIME);
        let opened = opened.and_then(|opened| Ok((opened, Some(Source::at(&relay, token, FILE_TIME)?))));
        keep(opened.map_err(|error| why(&error)), true);
    }
    let repository = match (&reach.packages.trust.repository, hub) {
        (Some(Metadata::In(folder)), _) => on_disk(folder).map(|(repository, _)| repository),
        (Some(Metadata::At(url)), _) => {
            // The hub's token goes to the hub alone.
            let is_hub = hub.is_some_and(|hub| url.starts_with(&format!("{hub}/")));
            let (token, tls) = (token.filter(|_| is_hub), tls.filter(|_| is_hub));
            let opened = Repository::at(url, token, FILE_TIME);
            opened.and_then(|opened| opened.with_tls(tls)).map_err(|error| why(&error))
        }
        (None, Some(hub)) => {
            let url = format!("{hub}/tuf/metadata");
            let opened = Repository::at(&url, token, FILE_TIME);
            opened.and_then(|opened| opened.with_tls(tls)).map_err(|error| why(&error))
        }
        (None, None) => return (places, troubles),
    };
    let source = match hub {
        Some(hub) => {
            let opened = Source::at(hub, token, FILE_TIME).and_then(|opened| opened.with_tls(tls));
            opened.map(Some).map_err(|error| why(&error))
        }
        None => match &reach.packages.trust.repository {
            Some(Metadata::In(folder)) => on_disk(folder).map(|(_, source)| source),
            _ => Ok(None),
        },
    };
    keep(repository.and_then(|repository| Ok((repository, source?))), false);
    (places, troubles)
}

/// The name under which targets list a release.
fn target_of(model: &ModelName, release: u64) -> String {
    format!("models/{model}/{release}")
}

/// The digest of these 32 bytes.
fn digest(bytes: [u8; 32]) -> Option<Digest> {
    Hash::from_slice(&bytes).map(Digest::from)
}

/// Metadata and assignments in a folder or in an archive. In a folder, metadata lies in it or in `metadata`, assignments in
/// `assignments` below or beside it.
fn on_disk(path: &Path) -> Result<(Repository, Option<Source>), String> {
    let told = |error: crate::trust::RepositoryError| why(&error);
    if !path.is_dir() {
        let source = Source::in_folder(path).map_err(told)?;
        return Ok((Repository::in_folder(path).map_err(told)?, Some(source)));
    }
    let below = |folder: &Path, names: &[&str]| {
        names.iter().map(|name| folder.join(name)).find(|folder| folder.is_dir())
    };
    let metadata = below(path, &["trust/metadata", "metadata"]).unwrap_or_else(|| path.to_owned());
    let beside = metadata.parent().and_then(|folder| below(folder, &["assignments"]));
    let assignments = below(path, &["trust/assignments", "assignments"]).or(beside);
    let source = assignments.map(|folder| Source::in_folder(&folder)).transpose().map_err(told)?;
    Ok((Repository::in_folder(&metadata).map_err(told)?, source))
}

/// A release that a person wants.
#[derive(Debug, Clone)]
struct Wanted {
    model: ModelName,
    release: Option<u64>,
    allow_rollback: bool,
}

/// Bringing trust and assignments up to date: the trust state is held all the while, on a thread that may block.
struct Visit<W> {
    places: Vec<Place>,
    policy: Policy,
    node: String,
    labels: BTreeMap<String, String>,
    facts: Facts,
    world: W,
    wanted: Option<Wanted>,
    /// What the hub handed out; only these are taken if there are any.
    documents: Vec<Document>,
}

/// Brings trust and assignments up to date, from a stick first if a person named one, and finds the release that one wants.
pub(super) async fn bring<W: World + Clone + 'static>(
    reach: &Reach<W>,
    trust: Arc<Mutex<TrustState<System>>>,
    ask: Option<Ask>,
) -> Brought {
    let is_asked = ask.is_some();
    let (from, wanted) = match ask {
        Some(Ask::Refresh { from }) => (from, None),
        Some(Ask::Install { model, release, from, allow_rollback }) => {
            (from, Some(Wanted { model, release, allow_rollback }))
        }
        _ => (None, None),
    };
    if let Some(from) = &from {
        reach.remember(from);
    }
    let brought = visit(reach, trust, from.as_deref(), wanted, Vec::new()).await;
    Brought { is_asked, ..brought }
}

/// Takes those documents that hold, as the hub handed them out, and brings trust metadata only where they need it.
pub(super) async fn take<W: World + Clone + 'static>(
    reach: &Reach<W>,
    trust: Arc<Mutex<TrustState<System>>>,
    documents: Vec<Document>,
) -> Brought {
    visit(reach, trust, None, None, documents).await
}

async fn visit<W: World + Clone + 'static>(
    reach: &Reach<W>,
    trust: Arc<Mutex<TrustState<System>>>,
    from: Option<&Path>,
    wanted: Option<Wanted>,
    documents: Vec<Document>,
) -> Brought {
    let (places, troubles) = places(reach, from);
    let (labels, facts) = reach.shared.said();
    let visit = Visit {
        places,
        policy: reach.packages.trust.policy.clone(),
        node: reach.node.clone(),
        labels,
        facts,
        world: reach.world.clone(),
        wanted,
        documents,
    };
    let runtime = tokio::runtime::Handle::current();
    let mut brought = blocking(move || runtime.block_on(visit.go(&mut lock(&trust)))).await;
    brought.notes.splice(0..0, troubles);
    brought
}

impl<W: World + Clone> Visit<W> {
    async fn go(self, state: &mut TrustState<System>) -> Brought {
        let node = NodeFacts { name: &self.node, labels: &self.labels, facts: &self.facts };
        let mut brought = Brought::default();
        let mut of_relays = Vec::new();
        for Place { repository, source, is_relay } in &self.places {
            let notes = if *is_relay { &mut of_relays } else { &mut brought.notes };
            if !self.documents.is_empty() {
                let (documents, policy) = (&self.documents, &self.policy);
                let its = assignments::take(state, repository, documents, policy, node, &self.world).await;
                note(notes, its);
                continue;
            }
            let Some(source) = source else {
                let fresh = refresh(state, repository, Want::Refresh, &self.policy, &self.world).await;
                notes.extend(fresh.err().map(|error| why(&error)));
                continue;
            };
            let its = assignments::bring(state, repository, source, &self.policy, node, &self.world).await;
            note(notes, its);
        }
        // What a relay lacks is nobody's concern where the hub had no trouble after it.
        if !brought.notes.is_empty() {
            brought.notes.append(&mut of_relays);
        }
        if let Some(wanted) = &self.wanted {
            match self.order(state, wanted).await {
                Ok(order) => brought.orders.push((wanted.model.clone(), order)),
                Err(why) => brought.refusal = Some(why),
            }
        }
        brought.facts = Some(view::trust_of(state.trusted(), &self.policy, self.world.wall_ms()));
        brought.trusted = Some(state.trusted().clone());
        brought
    }

    /// The order that a person gives: only for what trusted targets list.
    async fn order(&self, state: &mut TrustState<System>, wanted: &Wanted) -> Result<Order, String> {
        let Wanted { model, release, allow_rollback } = wanted;
        // A search for what nobody lists asks every role that may list the model's releases.
        let target = target_of(model, release.unwrap_or(0));
        let mut trouble = None;
        for Place { repository, .. } in &self.places {
            let want = Want::Target(target.clone());
            match refresh(state, repository, want, &self.policy, &self.world).await {
                Ok(Refreshed::Target(_)) => break,
                Ok(_) => {}
                Err(error) => trouble = Some(why(&error)),
            }
        }
        let clock_ms = self.world.wall_ms();
        let missing = || {
            let told = trouble.as_ref().map_or(String::new(), |trouble| format!(" ({trouble})"));
            let what =
                release.map_or(format!("no release of {model}"), |release| format!("no {model} {release}"));
            format!("the trusted targets list {what}{told}; `selvedge trust add` approves one")
        };
        let release =
            release.or_else(|| newest(state.trusted(), &self.policy, model, clock_ms)).ok_or_else(missing)?;
        let listed = listed(state.trusted(), &self.policy, model, release, clock_ms).ok_or_else(missing)?;
        let index = listed.hashes.sha256.and_then(digest).ok_or("the release is listed without a SHA-256")?;
        let committed = state.trusted().releases.get(model).copied().unwrap_or_default();
        if release < committed && !allow_rollback {
            return Err(format!(
                "{model} {release} is older than {committed}, which ran here; --allow-rollback installs it all the same"
            ));
        }
        Ok(Order {
            release,
            index,
            variant: None,
            allow_rollback: *allow_rollback,
            forgive: None,
            rollout: None,
            beside: None,
            trust_sequence: state.sequence(),
        })
    }
}

/// Notes what is not followed, for people.
fn note(notes: &mut Vec<String>, its: Result<assignments::Brought, BringError>) {
    match its {
        Ok(its) => {
            notes.extend(its.fresh.err());
            notes.extend(its.refused.into_iter().map(|(id, why)| format!("assignment {id}: {why}")));
        }
        Err(error) => notes.push(why(&error)),
    }
}

/// A release as trusted targets list it.
pub(super) fn listed(
    trusted: &Trusted,
    policy: &Policy,
    model: &ModelName,
    release: u64,
    clock_ms: WallMs,
) -> Option<TargetFile> {
    let mut floor = trusted.floor;
    floor.raise_offline(policy.built_ms);
    let now_ms = effective(policy.floor.then_some(floor), clock_ms).now_ms;
    find(trusted, &target_of(model, release), &policy.kinds, now_ms, policy.max_stale_ms)
}

/// The highest release of a model that trusted targets list.
fn newest(trusted: &Trusted, policy: &Policy, model: &ModelName, clock_ms: WallMs) -> Option<u64> {
    /// What a role's file lists, by name.
    #[derive(Deserialize)]
    struct Role {
        signed: Signed,
    }
    #[derive(Deserialize)]
    struct Signed {
        targets: BTreeMap<String, IgnoredAny>,
    }
    let top = trusted.targets.iter().flat_map(|targets| targets.body.targets.keys().cloned());
    // Names only: whether a release is listed by who may is what `listed` says.
    let delegated = trusted.delegated.values().filter_map(|bytes| serde_json::from_slice::<Role>(bytes).ok());
    let names = top.chain(delegated.flat_map(|role| role.signed.targets.into_keys()));
    let prefix = format!("models/{model}/");
    let releases: BTreeSet<u64> = names.filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect();
    releases.into_iter().rev().find(|release| listed(trusted, policy, model, *release, clock_ms).is_some())
}
