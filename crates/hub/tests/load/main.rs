//! The loads of `examples/load.rs` and `examples/storm.rs` in small: everything that was acknowledged is there once, in a hub
//! that stays small. Times are printed and not asserted.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    dead_code,
    reason = "its rooms are shared with examples"
)]

#[path = "../fleet/mod.rs"]
mod fleet;
mod node;
mod proof;
mod stand;
mod steady;
mod storm;
mod tally;

use std::time::Duration;

const AS_HUB: [&str; 4] = ["--exact", "a_hub_in_a_process_of_its_own", "--ignored", "--nocapture"];

#[test]
#[ignore = "started by the others"]
fn a_hub_in_a_process_of_its_own() {
    stand::be_hub_if_asked();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_day() {
    let folder = tempfile::tempdir().unwrap();
    let day = steady::Day {
        nodes: 1500,
        period: Duration::from_secs(10),
        records: 1000,
        lasts: Duration::from_secs(15),
        trial: Duration::from_secs(2),
        print: Duration::from_secs(10),
    };
    let outcome = steady::play(folder.path(), day, &AS_HUB).await;
    let tally = &outcome.world.tally;
    assert_eq!((tally.get(&tally.odd), outcome.found.streams >= 1500), (0, true));
    assert!(outcome.found.records >= 1000 * 15 * 9 / 10, "{:?}", outcome.found);
    assert!(tally.get(&tally.installs) > 0, "the rollout goes on: {:?}", outcome.found.members);
    assert!(outcome.peak_bytes < 300_000_000, "{} bytes", outcome.peak_bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_come_back_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let storm = storm::Storm {
        nodes: 500,
        window: Duration::from_secs(3),
        outbox: 90,
        audit: 10,
        period: Duration::from_secs(10),
        patience: Duration::from_secs(120),
    };
    let outcome = storm::play(folder.path(), storm, &AS_HUB).await;
    let tally = &outcome.world.tally;
    assert_eq!(tally.get(&tally.odd), 0, "nobody is refused but with 503 and Retry-After");
    assert_eq!(tally.get(&tally.renewals), 25);
    assert_eq!(outcome.found.records, 500 * 90 + 475 * 2);
    assert!(outcome.audit < outcome.all, "what auditors ask for comes first");
    assert!(outcome.peak_bytes < 300_000_000, "{} bytes", outcome.peak_bytes);
}
