//! Assignments: whose word counts, for whom, when, and that nobody gets what was not approved.

use std::collections::BTreeMap;

use package::name::ModelName;
use package::trust::assignment::{Accepted, NodeFacts, Refused, Subject, accept, prefer, standing};
use package::trust::canonical::Value;
use package::trust::key::ML_DSA_FIELD;
use package::trust::time::format_utc;
use package::trust::update::{Outcome, Want};
use wire::hash::Hash;

use crate::simulator::{Client, DAY_MS, Key, NOW_MS, Repo, at, object, sign};

const INDEX: &[u8] = b"the index of release 7";
const OLDER: &[u8] = b"the index of release 6";

/// A repository with two releases of a model and a role that assigns, and a client that is up to date.
fn house() -> (Repo, Client) {
    let mut repo = Repo::new();
    repo.delegate("targets", "assignments", &["assignments/*"], true);
    repo.delegate("targets", "team-a", &["models/smollm2/*"], false);
    repo.add_target("team-a", "models/smollm2/7", INDEX);
    repo.add_target("team-a", "models/smollm2/6", OLDER);
    repo.publish(&["assignments", "team-a", "targets", "snapshot", "timestamp"]);
    let mut client = Client::of(&repo);
    let outcome = client.run(&mut repo, Want::Target("models/smollm2/7".into()));
    assert!(matches!(outcome, Outcome::Target(_)), "{outcome:?}");
    (repo, client)
}

/// What an assigner writes: release 7 to pump-1, for a week.
fn document() -> Value {
    let model = object(&[
        ("model", "smollm2".into()),
        ("release", 7u64.into()),
        ("index", format!("sha256:{}", Hash::of(INDEX)).into()),
        ("size", (INDEX.len() as u64).into()),
        ("variant", Value::Null),
        ("allow_rollback", false.into()),
        ("forgive", false.into()),
    ]);
    object(&[
        ("_type", "assignment".into()),
        ("spec_version", "1.0.31".into()),
        ("id", "00112233445566778899aabbccddeeff".into()),
        ("version", 12u64.into()),
        ("subject", object(&[("node", "pump-1".into())])),
        ("issued", format_utc(NOW_MS - DAY_MS).into()),
        ("not_before", format_utc(NOW_MS).into()),
        ("expires", format_utc(NOW_MS + 7 * DAY_MS).into()),
        ("rollout", Value::Null),
        ("models", Value::List(vec![model])),
        ("targets_version", 2u64.into()),
    ])
}

fn assigner(repo: &Repo) -> Vec<Key> {
    repo.signers["assignments"].clone()
}

fn offer(client: &Client, bytes: &[u8]) -> Result<Accepted, Refused> {
    let labels: BTreeMap<String, String> = [("site".into(), "oslo".into())].into();
    let node = NodeFacts { name: "pump-1", labels: &labels };
    accept(&client.trusted, &client.policy, bytes, node, client.clock_ms)
}

/// Offers the document with one field changed.
fn changed(path: &[&str], value: Value) -> Result<Accepted, Refused> {
    let (repo, client) = house();
    let mut document = document();
    *at(&mut document, path) = value;
    offer(&client, &sign(&document, &assigner(&repo)))
}

/// Offers the document with one field of its model changed.
fn of_model(field: &str, value: Value) -> Result<Accepted, Refused> {
    let mut document = document();
    let Value::List(models) = at(&mut document, &["models"]) else { unreachable!() };
    *at(&mut models[0], &[field]) = value;
    let models = Value::List(models.clone());
    changed(&["models"], models)
}

#[test]
fn an_assignment_that_holds() {
    let (repo, mut client) = house();
    let bytes = sign(&document(), &assigner(&repo));
    let accepted = offer(&client, &bytes).unwrap();
    assert_eq!(accepted.assignment.models[0].target(), "models/smollm2/7");
    assert_eq!(accepted.trusted.assignments["node"].version, 12);
    client.trusted = accepted.trusted;
    assert_eq!(offer(&client, &bytes).unwrap_err(), Refused::Known);
    // It stands while it would be accepted: not after its time, not when its model went on.
    let stands = |client: &Client, clock_ms: i64| {
        let node = NodeFacts { name: "pump-1", labels: &BTreeMap::new() };
        standing(&client.trusted, &client.policy, node, clock_ms).len()
    };
    assert_eq!((stands(&client, NOW_MS), stands(&client, NOW_MS + 7 * DAY_MS)), (1, 0));
    client.trusted.releases.insert(ModelName::new("smollm2").unwrap(), 8);
    assert_eq!(stands(&client, NOW_MS), 0);
}

#[test]
fn for_another_node_or_another_part_of_the_ring() {
    assert_eq!(changed(&["subject"], object(&[("node", "pump-2".into())])).unwrap_err(), Refused::OtherNode);
    let selector = |site: &str, from: u64, to: u64| {
        let ring = object(&[("salt", "00112233".into()), ("from", from.into()), ("to", to.into())]);
        let labels = object(&[("site", site.into())]);
        object(&[("selector", object(&[("labels", labels), ("ring", ring)]))])
    };
    assert!(changed(&["subject"], selector("oslo", 0, 2048)).is_ok());
    assert_eq!(changed(&["subject"], selector("bergen", 0, 2048)).unwrap_err(), Refused::OtherNode);
    assert_eq!(changed(&["subject"], selector("oslo", 0, 0)).unwrap_err(), Refused::OtherNode);
    assert!(matches!(changed(&["subject"], selector("oslo", 0, 2049)).unwrap_err(), Refused::Form(_)));
    let both = object(&[("node", "pump-1".into()), ("selector", Value::Null)]);
    assert!(matches!(changed(&["subject"], both).unwrap_err(), Refused::Form(_)));
}

#[test]
fn only_the_assigner_signs() {
    let (mut repo, client) = house();
    for signers in [vec![], repo.signers["targets"].clone(), repo.signers["team-a"].clone(), vec![repo.key()]]
    {
        let refused = offer(&client, &sign(&document(), &signers)).unwrap_err();
        assert!(matches!(refused, Refused::Verify(_)), "{refused}");
    }
    // One half of the signature is another's: one algorithm broken is not enough.
    for field in ["sig", ML_DSA_FIELD] {
        let bytes = sign(&document(), &assigner(&repo));
        let mut envelope = package::trust::canonical::parse(&bytes).unwrap();
        let stranger = repo.key().sign(b"x").unwrap();
        let Value::List(signatures) = at(&mut envelope, &["signatures"]) else { unreachable!() };
        *at(&mut signatures[0], &[field]) = stranger.get(field).unwrap().clone();
        let refused = offer(&client, &package::trust::canonical::to_json(&envelope)).unwrap_err();
        assert!(matches!(refused, Refused::Verify(_)), "{field}: {refused}");
    }
}

#[test]
fn an_older_one_replayed() {
    let (repo, mut client) = house();
    let old = sign(&document(), &assigner(&repo));
    let mut newer = document();
    *at(&mut newer, &["version"]) = 13u64.into();
    // Another id does not begin another line of versions for a node.
    *at(&mut newer, &["id"]) = "ff".repeat(16).into();
    client.trusted = offer(&client, &sign(&newer, &assigner(&repo))).unwrap().trusted;
    assert_eq!(offer(&client, &old).unwrap_err(), Refused::NotNewer { accepted: 13, found: 12 });
    *at(&mut newer, &["rollout"]) = "other".into();
    let same = offer(&client, &sign(&newer, &assigner(&repo))).unwrap_err();
    assert_eq!(same, Refused::NotNewer { accepted: 13, found: 13 });
}

#[test]
fn only_in_its_time() {
    let in_future = format_utc(NOW_MS + DAY_MS);
    assert_eq!(changed(&["not_before"], in_future.into()).unwrap_err(), Refused::NotYet { in_ms: DAY_MS });
    let now = format_utc(NOW_MS);
    assert_eq!(changed(&["expires"], now.into()).unwrap_err(), Refused::Expired { by_ms: 0 });
    let (repo, mut client) = house();
    let bytes = sign(&document(), &assigner(&repo));
    client.clock_ms = NOW_MS + 31 * DAY_MS;
    assert!(
        matches!(offer(&client, &bytes).unwrap_err(), Refused::Stale(_)),
        "expired metadata accepts nothing"
    );
    client.clock_ms = 0;
    client.trusted.floor.raise_offline(NOW_MS + 8 * DAY_MS);
    assert!(matches!(offer(&client, &bytes).unwrap_err(), Refused::Expired { .. }), "the floor judges");
}

#[test]
fn only_what_is_listed_as_it_is_assigned() {
    let refused = |result: Result<Accepted, Refused>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Refused::NotListed { .. }), "{error}");
    };
    refused(of_model("release", 8u64.into()));
    refused(of_model("model", "other".into()));
    refused(of_model("index", format!("sha256:{}", Hash::of(OLDER)).into()));
    refused(of_model("size", 1u64.into()));
    assert!(matches!(of_model("model", "../etc".into()).unwrap_err(), Refused::Name(_)));
    assert!(matches!(of_model("index", "sha512:00".into()).unwrap_err(), Refused::Form(_)));
    let error = changed(&["targets_version"], 3u64.into()).unwrap_err();
    assert_eq!(error, Refused::OldTargets { needed: 3, trusted: 2 });
}

#[test]
fn back_to_an_older_release_only_if_it_says_so() {
    let (repo, mut client) = house();
    client.trusted.releases.insert(ModelName::new("smollm2").unwrap(), 7);
    let mut document = document();
    let Value::List(models) = at(&mut document, &["models"]) else { unreachable!() };
    *at(&mut models[0], &["release"]) = 6u64.into();
    *at(&mut models[0], &["index"]) = format!("sha256:{}", Hash::of(OLDER)).into();
    *at(&mut models[0], &["size"]) = (OLDER.len() as u64).into();
    let error = offer(&client, &sign(&document, &assigner(&repo))).unwrap_err();
    assert!(matches!(error, Refused::Rollback { committed: 7, found: 6, .. }), "{error}");
    let Value::List(models) = at(&mut document, &["models"]) else { unreachable!() };
    *at(&mut models[0], &["allow_rollback"]) = true.into();
    offer(&client, &sign(&document, &assigner(&repo))).unwrap();
}

#[test]
fn an_assigner_cannot_age_a_node_for_ever() {
    let far = format_utc(NOW_MS + 9000 * DAY_MS);
    let accepted = changed(&["issued"], far.into()).unwrap();
    assert_eq!(accepted.trusted.floor.offline_ms, NOW_MS + 30 * DAY_MS, "heard as far as the targets reach");
}

#[test]
fn a_nodes_own_goes_before_a_selectors() {
    let own = changed(&["rollout"], "a".into()).unwrap().assignment;
    let mut of_all = own.clone();
    of_all.subject =
        Subject::Selector(package::trust::assignment::Selector { labels: BTreeMap::new(), ring: None });
    of_all.issued_ms += 1;
    assert_eq!(prefer(&own, &of_all), &own);
    assert_eq!(prefer(&of_all, &own), &own);
    let mut later = own.clone();
    later.issued_ms += 1;
    assert_eq!(prefer(&own, &later), &later);
}
