//! Clocks that are wrong: 1970, 2099, and set back by somebody.

use package::trust::metadata::SIGNED_AT_FIELD;
use package::trust::time::format_utc;
use package::trust::update::UpdateError;

use crate::simulator::{ALL, Client, DAY_MS, NOW_MS, Repo};

/// A repository whose roles say when they were signed.
fn dated(root_ms: i64, online_ms: i64) -> Repo {
    let mut repo = Repo::new();
    for role in ALL {
        let signed_ms = if ["root", "targets"].contains(&role) { root_ms } else { online_ms };
        *repo.field(role, &[SIGNED_AT_FIELD]) = format_utc(signed_ms).into();
    }
    repo.publish(&ALL);
    repo
}

#[test]
fn in_1970_the_floor_judges() {
    let mut repo = dated(NOW_MS, NOW_MS + 5 * DAY_MS);
    let mut client = Client::of(&repo);
    client.clock_ms = 0;
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.trusted.floor.at_least_ms(), NOW_MS + 5 * DAY_MS);
    // The same metadata replayed after a newer state was seen: the clock is still in 1970, the floor is not.
    *repo.field("timestamp", &["expires"]) = format_utc(NOW_MS + 4 * DAY_MS).into();
    repo.publish(&["timestamp"]);
    let error = client.refresh(&mut repo).unwrap_err();
    assert!(matches!(error, UpdateError::Expired { .. }), "{error}");
}

#[test]
fn a_program_is_not_older_than_itself() {
    let mut repo = Repo::new();
    let mut client = Client::of(&repo);
    client.clock_ms = 0;
    client.policy.built_ms = NOW_MS + 40 * DAY_MS;
    assert!(client.refresh(&mut repo).is_err());
    client.policy.floor = false;
    client.refresh(&mut repo).unwrap();
}

#[test]
fn in_2099_nothing_is_kept_and_it_mends_itself() {
    let mut repo = dated(NOW_MS, NOW_MS);
    let mut client = Client::of(&repo);
    client.clock_ms = NOW_MS + 73 * 365 * DAY_MS;
    assert!(client.refresh(&mut repo).is_err());
    assert!(client.trusted.floor.at_least_ms() <= NOW_MS);
    client.clock_ms = NOW_MS;
    client.refresh(&mut repo).unwrap();
}

#[test]
fn a_clock_set_back_by_a_day_does_not_revive_what_has_expired() {
    let mut repo = dated(NOW_MS, NOW_MS);
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    *repo.field("timestamp", &["expires"]) = format_utc(NOW_MS - DAY_MS / 2).into();
    repo.publish(&["timestamp"]);
    client.clock_ms = NOW_MS - DAY_MS;
    assert!(client.refresh(&mut repo).is_err());
}

#[test]
fn a_stolen_online_key_cannot_age_a_node_for_ever() {
    let mut repo = dated(NOW_MS, NOW_MS);
    let mut client = Client::of(&repo);
    client.refresh(&mut repo).unwrap();
    *repo.field("timestamp", &[SIGNED_AT_FIELD]) = format_utc(NOW_MS + 9000 * DAY_MS).into();
    repo.publish(&["timestamp"]);
    // What it signed is accepted, and is heard as far as the root reaches: now all seems expired.
    let _ = client.refresh(&mut repo);
    assert_eq!(client.trusted.floor.online_ms, NOW_MS + 30 * DAY_MS);
    assert!(client.refresh(&mut repo).is_err());
    // The root gives timestamp a new key, and the lie is forgotten.
    *repo.field("timestamp", &[SIGNED_AT_FIELD]) = format_utc(NOW_MS).into();
    repo.rotate("timestamp");
    repo.publish(&["root", "timestamp"]);
    client.refresh(&mut repo).unwrap();
    assert_eq!(client.trusted.floor.online_ms, NOW_MS);
}
