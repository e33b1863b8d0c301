//! Freeze: what has expired is not accepted, however well it is signed.

use package::trust::time::format_utc;
use package::trust::update::UpdateError;

use crate::simulator::{ALL, Client, DAY_MS, NOW_MS, Repo};

#[test]
fn an_expired_role_stops_there() {
    for (role, expected) in [
        // An expired root is believed, since the next one may follow it; but nothing after it is.
        ("root", [2, 0, 0, 0]),
        ("timestamp", [2, 0, 0, 0]),
        ("snapshot", [2, 2, 0, 0]),
        ("targets", [2, 2, 2, 0]),
    ] {
        let mut repo = Repo::new();
        *repo.field(role, &["expires"]) = format_utc(NOW_MS).into();
        repo.publish(&ALL);
        let mut client = Client::of(&repo);
        let error = client.refresh(&mut repo).unwrap_err();
        assert!(matches!(error, UpdateError::Expired { .. }), "{role}: {error}");
        assert_eq!(client.versions(), expected, "{role}");
    }
}

#[test]
fn an_instant_before_expiry_is_early_enough() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    client.clock_ms = NOW_MS + 30 * DAY_MS - 1;
    client.refresh(&mut repo).unwrap();
}

#[test]
fn intermediate_roots_may_have_expired() {
    let mut repo = Repo::new();
    *repo.field("root", &["expires"]) = format_utc(NOW_MS - DAY_MS).into();
    repo.publish(&["root"]);
    repo.publish(&["root"]);
    *repo.field("root", &["expires"]) = format_utc(NOW_MS + DAY_MS).into();
    repo.publish(&ALL);
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.versions(), [4, 2, 2, 2]);
}

#[test]
fn an_expired_local_root_is_mended_by_a_newer_one() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    client.clock_ms = NOW_MS + 60 * DAY_MS;
    for role in ALL {
        *repo.field(role, &["expires"]) = format_utc(NOW_MS + 90 * DAY_MS).into();
    }
    repo.publish(&ALL);
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.versions(), [2, 2, 2, 2]);
}

#[test]
fn an_expired_local_timestamp_still_guards_against_rollback() {
    let mut repo = Repo::new();
    repo.publish(&["timestamp"]);
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    client.clock_ms = NOW_MS + 40 * DAY_MS;
    for role in ALL {
        *repo.field(role, &["expires"]) = format_utc(NOW_MS + 90 * DAY_MS).into();
    }
    *repo.field("timestamp", &["version"]) = 0u64.into();
    repo.publish(&ALL);
    let error = client.refresh(&mut repo).unwrap_err();
    assert!(matches!(error, UpdateError::Rollback { trusted: 2, found: 1, .. }), "{error}");
}

#[test]
fn a_repository_frozen_for_ever() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    *repo.field("root", &["expires"]) = format_utc(NOW_MS + 90 * DAY_MS).into();
    repo.publish(&["root"]);
    client.clock_ms = NOW_MS + 31 * DAY_MS;
    // The same timestamp again and again: equal versions are no error, but their time runs out.
    let error = client.refresh(&mut repo).unwrap_err();
    assert!(matches!(error, UpdateError::Expired { .. }), "{error}");
}

#[test]
fn a_fleet_fed_by_hand_may_be_stale_as_far_as_its_settings_say() {
    let mut repo = Repo::new();
    *repo.field("root", &["expires"]) = format_utc(NOW_MS + 900 * DAY_MS).into();
    repo.publish(&["root"]);
    let mut client = Client::of(&repo);
    client.clock_ms = NOW_MS + 40 * DAY_MS;
    assert!(client.refresh(&mut repo).is_err());
    client.policy.max_stale_ms = 9 * DAY_MS;
    assert!(client.refresh(&mut repo).is_err());
    client.policy.max_stale_ms = 11 * DAY_MS;
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.trusted.stale_ms(client.clock_ms), 10 * DAY_MS);
}
