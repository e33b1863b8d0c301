//! Assignments: whose word counts, for whom, when, and that nobody gets what was not approved.

use std::collections::BTreeMap;

use package::name::ModelName;
use package::trust::assignment::{
    Accepted, Assignment, NodeFacts, Refused, Selector, Subject, accept, countersign, draft, prefer, seal,
    standing,
};
use package::trust::canonical::{Value, canonical, parse};
use package::trust::envelope::Envelope;
use package::trust::key::ML_DSA_FIELD;
use package::trust::sign::Signer;
use package::trust::time::format_utc;
use package::trust::update::{Outcome, Want};
use wire::facts::{Fact, FactName, Facts};
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
    let node = NodeFacts { name: "pump-1", labels: &labels, facts: &runs(6) };
    accept(&client.trusted, &client.policy, bytes, node, client.clock_ms)
}

/// What a node says that runs this release.
fn runs(release: u32) -> Facts {
    let mut facts = Facts::default();
    let known = [
        ("ram", Fact::Number(4e9)),
        ("label.site", "oslo".into()),
        ("model.smollm2", f64::from(release).into()),
    ];
    for (name, fact) in known {
        facts.set(FactName::new(name).unwrap(), fact).unwrap();
    }
    facts
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
        let node = NodeFacts { name: "pump-1", labels: &BTreeMap::new(), facts: &Facts::default() };
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
    of_all.subject = Subject::Selector(Selector::default());
    of_all.issued_ms += 1;
    assert_eq!(prefer(&own, &of_all), &own);
    assert_eq!(prefer(&of_all, &own), &own);
    let mut later = own.clone();
    later.issued_ms += 1;
    assert_eq!(prefer(&own, &later), &later);
}

/// A subject with these members of its selector beside empty labels.
fn selected(members: &[(&str, Value)]) -> Value {
    let mut all = vec![("labels", object(&[]))];
    all.extend_from_slice(members);
    object(&[("selector", object(&all))])
}

#[test]
fn what_a_node_says_of_itself_decides_once() {
    for (expr, is_meant) in [
        ("site == \"oslo\" && ram >= 2GB && model.smollm2 == 6", true),
        ("all", true),
        ("site == \"bergen\"", false),
        ("ram >= 8GB", false),
        ("accelerator has \"cuda\"", false),
    ] {
        let result = changed(&["subject"], selected(&[("expr", expr.into())]));
        assert_eq!(result.map(drop), if is_meant { Ok(()) } else { Err(Refused::OtherNode) }, "{expr}");
    }
    // It goes on to hold when the release that it ordered has changed the fact.
    let (repo, mut client) = house();
    let mut document = document();
    *at(&mut document, &["subject"]) = selected(&[("expr", "model.smollm2 == 6".into())]);
    client.trusted = offer(&client, &sign(&document, &assigner(&repo))).unwrap().trusted;
    let stands = |facts: &Facts| {
        let node = NodeFacts { name: "pump-1", labels: &BTreeMap::new(), facts };
        standing(&client.trusted, &client.policy, node, NOW_MS).len()
    };
    assert_eq!((stands(&runs(6)), stands(&runs(7)), stands(&Facts::default())), (1, 1, 1));
}

#[test]
fn only_nodes_that_are_named() {
    let named = |names: &[&str]| {
        let names = Value::List(names.iter().map(|name| (*name).into()).collect());
        changed(&["subject"], selected(&[("nodes", names)])).map(drop)
    };
    assert_eq!(named(&["pump-1", "pump-7"]), Ok(()));
    assert_eq!(named(&["pump-10", "pump-7"]), Err(Refused::OtherNode));
    assert_eq!(named(&[]), Err(Refused::OtherNode));
    let wrong = changed(&["subject"], selected(&[("nodes", "pump-1".into())])).unwrap_err();
    assert!(matches!(wrong, Refused::Form(_)), "{wrong}");
}

#[test]
fn what_is_not_understood_is_never_left_out() {
    let ring = |member: &str| {
        let ring =
            [("salt", "00".into()), ("from", 0u64.into()), ("to", 2048u64.into()), (member, true.into())];
        selected(&[("ring", object(&ring))])
    };
    let both = object(&[("node", "pump-1".into()), ("but_not", "pump-1".into())]);
    let window = [("days", Value::List(vec![1u64.into()])), ("from", "22:00".into()), ("to", "05:00".into())];
    let holidays = object(&[&window[..], &[("but_not", "2026-12-24".into())]].concat());
    for (field, value) in [
        ("subject", selected(&[("but_not", "pump-1".into())])),
        ("subject", ring("odd_only")),
        ("subject", both),
        ("subject", selected(&[("expr", "ram >= 2GB except oslo".into())])),
        ("subject", selected(&[("expr", "!group.frail".into())])),
        ("when", holidays),
    ] {
        let mut document = document();
        document.as_object_mut().unwrap().insert(field.into(), value);
        let (repo, client) = house();
        let refused = offer(&client, &sign(&document, &assigner(&repo))).unwrap_err();
        assert!(matches!(refused, Refused::Unsupported { .. }), "{field}: {refused}");
    }
    // A node of before `shadow` refused it as one of today refuses these: it does not install what it shall only compare.
    let shadow = [("share_ppm", 1u64.into()), ("core_ppm", 1u64.into()), ("answers", 1u64.into())];
    let at_night = object(&[&shadow[..], &[("at_night", true.into())]].concat());
    for (word, value) in [("only_at_night", true.into()), ("shadow", at_night)] {
        let mut document = document();
        let Value::List(models) = at(&mut document, &["models"]) else { unreachable!() };
        models[0].as_object_mut().unwrap().insert(word.into(), value);
        let refused = changed(&["models"], Value::List(models.clone())).unwrap_err();
        assert!(matches!(refused, Refused::Unsupported { .. }), "{word}: {refused}");
    }
}

/// A document of a rollout: this version, for these members, of this release.
fn of_rollout(id: u8, version: u64, members: &[(&str, Value)], release: u64, index: &[u8]) -> Value {
    let mut document = document();
    *at(&mut document, &["id"]) = format!("{id:02x}").repeat(16).into();
    *at(&mut document, &["version"]) = version.into();
    *at(&mut document, &["subject"]) = selected(members);
    let Value::List(models) = at(&mut document, &["models"]) else { unreachable!() };
    *at(&mut models[0], &["release"]) = release.into();
    *at(&mut models[0], &["index"]) = format!("sha256:{}", Hash::of(index)).into();
    *at(&mut models[0], &["size"]) = (index.len() as u64).into();
    *at(&mut models[0], &["allow_rollback"]) = (release < 7).into();
    document
}

#[test]
fn the_way_back_is_for_those_who_took_the_wave_and_leads_nowhere_else() {
    let (repo, mut client) = house();
    let wave = sign(&of_rollout(1, 1, &[("expr", "model.smollm2 == 6".into())], 7, INDEX), &assigner(&repo));
    let revert = sign(&of_rollout(1, 501, &[("after", 1u64.into())], 6, OLDER), &assigner(&repo));
    let next = sign(&of_rollout(1, 2, &[], 7, INDEX), &assigner(&repo));
    // Another rollout's way back is not this one's, and nobody goes back who never went.
    let other = sign(&of_rollout(2, 501, &[("after", 1u64.into())], 6, OLDER), &assigner(&repo));
    assert_eq!(offer(&client, &revert).unwrap_err(), Refused::OtherNode);
    client.trusted = offer(&client, &wave).unwrap().trusted;
    client.trusted.releases.insert(ModelName::new("smollm2").unwrap(), 7);
    assert_eq!(offer(&client, &other).unwrap_err(), Refused::OtherNode);
    let back = offer(&client, &revert).unwrap();
    client.trusted = back.trusted;
    let node = NodeFacts { name: "pump-1", labels: &BTreeMap::new(), facts: &runs(7) };
    let stand = standing(&client.trusted, &client.policy, node, NOW_MS);
    assert_eq!((stand.len(), stand[0].head.version), (1, 501), "it is taken in the wave's place, and stands");
    for replayed in [&wave, &next] {
        let refused = offer(&client, replayed).unwrap_err();
        assert!(matches!(refused, Refused::NotNewer { accepted: 501, .. }), "{refused}");
    }
    assert_eq!(offer(&client, &revert).unwrap_err(), Refused::Known);
}

#[test]
fn two_people_where_two_must_sign() {
    let (mut repo, _) = house();
    let second = repo.key();
    let id = second.id().to_string();
    *repo.field("targets", &["delegations", "keys", &id]) = second.key().clone();
    let Value::List(roles) = repo.field("targets", &["delegations", "roles"]) else { unreachable!() };
    let role = roles.iter_mut().find(|role| role.get("name") == Some(&"assignments".into())).unwrap();
    *at(role, &["threshold"]) = 2u64.into();
    let Value::List(ids) = at(role, &["keyids"]) else { unreachable!() };
    ids.push(id.into());
    repo.publish(&["targets", "snapshot", "timestamp"]);
    let mut client = Client::of(&repo);
    client.run(&mut repo, Want::Target("models/smollm2/7".into()));
    let first = assigner(&repo);
    let one = seal(document(), &[&*first[0]]).unwrap();
    let refused = offer(&client, &one).unwrap_err();
    assert!(refused.to_string().contains("not accepted"), "{refused}");
    // The same person twice is one.
    let twice = countersign(Envelope::read(&one).unwrap(), &*first[0]).unwrap();
    assert!(matches!(offer(&client, &twice).unwrap_err(), Refused::Verify(_)));
    let both = countersign(Envelope::read(&one).unwrap(), &*second).unwrap();
    offer(&client, &both).unwrap();
    offer(&client, &seal(document(), &[&*first[0], &*second as &dyn Signer]).unwrap()).unwrap();
}

#[test]
fn what_is_drafted_is_read_again() {
    let ring = object(&[("salt", "0011".into()), ("from", 0u64.into()), ("to", 21u64.into())]);
    let nodes = Value::List(vec!["pump-1".into(), "pump-2".into()]);
    let when = parse(br#"{"by":"2026-12-24T00:00:00Z","days":[1,5],"from":"22:00","to":"05:00"}"#).unwrap();
    let full = selected(&[
        ("ring", ring),
        ("expr", "site == \"oslo\"".into()),
        ("nodes", nodes),
        ("after", 1u64.into()),
    ]);
    let mut rich = document();
    *at(&mut rich, &["subject"]) = full;
    *at(&mut rich, &["rollout"]) = "9f3c".into();
    rich.as_object_mut().unwrap().insert("when".into(), when);
    for document in [document(), rich] {
        let assignment = Assignment::read(&document).unwrap();
        assert_eq!(canonical(&draft(&assignment)), canonical(&document), "the very bytes that are signed");
    }
}
