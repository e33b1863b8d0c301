//! What authors write is what clients read: from an empty folder through rotations, delegations and refreshes.

use package::trust::Policy;
use package::trust::author::{AuthorError, Delegation, Holders, Plan, Published, Repository};
use package::trust::key::KindSet;
use package::trust::metadata::{FileName, RoleName};
use package::trust::sign::{HybridSigner, Signer};
use package::trust::trusted::Trusted;
use package::trust::update::{Outcome, Want};
use wire::hash::Hash;

use crate::simulator::{Client, DAY_MS, NOW_MS, Repo};

fn key(seed: u8) -> HybridSigner {
    HybridSigner::from_seed(&[seed; 64]).unwrap()
}

fn holders(seeds: &[u8], threshold: u64, days: i64) -> Holders {
    let keys = seeds.iter().map(|seed| key(*seed).key().clone()).collect();
    Holders { keys, threshold, life_ms: days * DAY_MS }
}

fn plan() -> Plan {
    Plan {
        root: holders(&[1, 2, 3], 2, 365),
        targets: holders(&[4], 1, 365),
        snapshot: holders(&[5], 1, 30),
        timestamp: holders(&[6], 1, 7),
    }
}

/// Authors with their folder, which a client reads.
struct House {
    repository: Repository,
    served: Repo,
    now_ms: i64,
}

impl House {
    fn new() -> House {
        let mut served = Repo::new();
        served.files.clear();
        let mut house =
            House { repository: Repository::init(&plan(), NOW_MS).unwrap(), served, now_ms: NOW_MS };
        house.sign("root", &[1, 2]);
        house.sign("targets", &[4]);
        assert_eq!(house.publish().waiting, []);
        house
    }

    fn role(name: &str) -> RoleName {
        match name {
            "root" => RoleName::root(),
            "timestamp" => RoleName::timestamp(),
            "snapshot" => RoleName::snapshot(),
            "targets" => RoleName::targets(),
            _ => RoleName::delegated(name).unwrap(),
        }
    }

    fn sign(&mut self, role: &str, seeds: &[u8]) {
        for seed in seeds {
            self.repository.sign(&House::role(role), &key(*seed)).unwrap();
        }
    }

    fn publish(&mut self) -> Published {
        let published = self.repository.publish(&[&key(5), &key(6)], self.now_ms).unwrap();
        for (file, bytes) in &published.files {
            self.served.files.insert(file.as_str().to_owned(), bytes.clone());
        }
        published
    }

    fn names(published: &Published) -> Vec<&str> {
        published.files.iter().map(|(file, _)| file.as_str()).collect()
    }

    fn client(&self) -> Client {
        let kinds = KindSet::hybrid();
        let trusted = Trusted::of_root(&self.served.files["1.root.json"], &kinds).unwrap();
        Client { trusted, policy: Policy::default(), clock_ms: self.now_ms }
    }
}

#[test]
fn a_new_repository() {
    let mut house = House::new();
    let mut client = house.client();
    client.refresh(&mut house.served).unwrap();
    assert_eq!(client.versions(), [1, 1, 1, 1]);
    assert_eq!(
        house.served.files.keys().collect::<Vec<_>>(),
        ["1.root.json", "1.snapshot.json", "1.targets.json", "timestamp.json"]
    );
}

#[test]
fn targets_and_delegations() {
    let mut house = House::new();
    let mut client = house.client();
    let delegation = Delegation {
        name: "team-a".into(),
        holders: holders(&[7, 8], 2, 90),
        paths: vec!["models/a/*".into()],
        terminating: true,
    };
    house.repository.delegate(&RoleName::targets(), &delegation, NOW_MS).unwrap();
    let team = House::role("team-a");
    let target = (3, Hash::of(b"one"));
    house.repository.add_target(&team, "models/a/1", target, None, NOW_MS).unwrap();
    house.sign("targets", &[4]);
    house.sign("team-a", &[7]);
    // One of two signatures: neither that role nor the one that would send clients to it is published.
    let waiting = house.publish().waiting;
    assert_eq!(waiting, [RoleName::targets(), team.clone()]);
    house.sign("team-a", &[8]);
    let published = house.publish();
    assert_eq!(
        House::names(&published),
        ["2.targets.json", "1.team-a.json", "2.snapshot.json", "timestamp.json"]
    );
    let outcome = client.run(&mut house.served, Want::Target("models/a/1".into()));
    let Outcome::Target(found) = outcome else { panic!("{outcome:?}") };
    found.check(b"one").unwrap();

    house.repository.remove_target(&team, "models/a/1", NOW_MS).unwrap();
    house.sign("team-a", &[7, 8]);
    assert_eq!(House::names(&house.publish()), ["2.team-a.json", "3.snapshot.json", "timestamp.json"]);
    assert_eq!(client.run(&mut house.served, Want::Target("models/a/1".into())), Outcome::NoTarget);
    let taken = house.repository.delegate(&RoleName::targets(), &delegation, NOW_MS);
    assert!(matches!(taken, Err(AuthorError::Name { .. })));
}

#[test]
fn a_root_is_rotated_by_old_and_new_keys() {
    let mut house = House::new();
    let mut client = house.client();
    let (old, new) = (key(1).id(), key(9).key().clone());
    house.repository.rotate(&RoleName::root(), &[new], &[old], None, NOW_MS).unwrap();
    house.sign("root", &[2, 9]);
    // Two of the new three, but only one of the old three.
    assert_eq!(house.publish().waiting, [RoleName::root()]);
    house.sign("root", &[1]);
    assert_eq!(house.publish().waiting, []);
    client.refresh(&mut house.served).unwrap();
    assert_eq!(client.version("root"), 2);
    assert!(!client.trusted.root.body.keys.contains_key(&old));
}

#[test]
fn online_keys_are_rotated_and_their_roles_signed_anew() {
    let mut house = House::new();
    let mut client = house.client();
    client.refresh(&mut house.served).unwrap();
    let new = key(9);
    house
        .repository
        .rotate(&RoleName::snapshot(), &[new.key().clone()], &[key(5).id()], None, NOW_MS)
        .unwrap();
    house.sign("root", &[1, 3]);
    let refused = house.repository.clone().publish(&[&key(5), &key(6)], NOW_MS);
    assert!(matches!(refused, Err(AuthorError::Verify { .. })), "the old key signs no snapshot any more");
    let published = house.repository.publish(&[&new, &key(6)], NOW_MS).unwrap();
    assert_eq!(House::names(&published), ["2.root.json", "2.snapshot.json", "timestamp.json"]);
    for (file, bytes) in published.files {
        house.served.files.insert(file.as_str().to_owned(), bytes);
    }
    client.refresh(&mut house.served).unwrap();
    assert_eq!(client.versions(), [2, 2, 2, 1]);
}

#[test]
fn a_refresh_keeps_what_has_time_left() {
    let mut house = House::new();
    house.now_ms += 3 * DAY_MS;
    assert_eq!(House::names(&house.publish()), ["timestamp.json"]);
    house.now_ms += 13 * DAY_MS;
    assert_eq!(House::names(&house.publish()), ["2.snapshot.json", "timestamp.json"]);
    let mut client = house.client();
    client.refresh(&mut house.served).unwrap();
    assert_eq!(client.versions(), [1, 3, 2, 1]);
}

#[test]
fn what_cannot_be() {
    let mut house = House::new();
    let role = RoleName::targets();
    let error = house.repository.sign(&role, &key(4)).unwrap_err();
    assert!(matches!(error, AuthorError::NotStaged { .. }), "{error}");
    house.repository.renew(&role, NOW_MS).unwrap();
    let error = house.repository.sign(&role, &key(5)).unwrap_err();
    assert!(matches!(error, AuthorError::NotItsKey { .. }), "{error}");
    let ids: Vec<_> = [1, 2].iter().map(|seed| key(*seed).id()).collect();
    let error = house.repository.rotate(&RoleName::root(), &[], &ids, None, NOW_MS).unwrap_err();
    assert!(matches!(error, AuthorError::Threshold { threshold: 2, keys: 1 }), "{error}");
    let mut plan = plan();
    plan.root.threshold = 0;
    assert!(Repository::init(&plan, NOW_MS).is_err());
}

#[test]
fn a_folder_is_opened_as_it_was_left() {
    let mut house = House::new();
    let delegation = Delegation {
        name: "team/a".into(),
        holders: holders(&[7], 1, 90),
        paths: vec!["models/a/*".into()],
        terminating: false,
    };
    house.repository.delegate(&RoleName::targets(), &delegation, NOW_MS).unwrap();
    house.sign("targets", &[4]);
    let reopen = |house: &House| {
        let staged: Vec<(FileName, Vec<u8>)> =
            house.repository.staged().map(|(file, bytes)| (file, bytes.to_vec())).collect();
        let published = |file: &FileName| house.served.files.get(file.as_str()).cloned();
        let staged =
            |file: &FileName| staged.iter().find(|(name, _)| name == file).map(|(_, bytes)| bytes.clone());
        Repository::open(published, staged).unwrap()
    };
    assert_eq!(reopen(&house), house.repository);
    house.sign("team/a", &[7]);
    assert_eq!(house.publish().waiting, []);
    assert_eq!(reopen(&house), house.repository);
}
