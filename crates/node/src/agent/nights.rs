//! Days of faults, in virtual time: whether decisions are there, and whether the journal says why when they are not. What
//! *available* means stands in [docs/healing.md](../../../docs/healing.md).
//!
//! The node's own stations run on one thread, from the lines by which readings come to the journal on disk, with what supervises
//! them; the plant, the clocks and the faults come from one seed. `judge` knows what the plant did, and nothing of the node but what
//! an onlooker sees. A seed that fails is printed; `SELVEDGE_SEED=7` plays it again, `SELVEDGE_DAYS=100` plays more of them.

mod day;
mod judge;
mod lines;
mod plant;
mod stand;

use std::collections::BTreeSet;

use day::{Day, Fault};
use judge::{Judge, Tail};
use plant::DAY_S;
use stand::{Stand, Without};

/// What has to be reached.
const WANTED: f64 = 0.999_99;

/// Plays a day.
fn play(seed: u64, day: &Day, long_s: u64, without: Without) -> (Judge, Tail) {
    let mut judge = Judge::default();
    let tail = Stand::new(seed, without).play(day, long_s, |plant, seen| judge.see(plant, seen));
    (judge, tail)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds to play.
fn seeds(usual: u64) -> Vec<u64> {
    match number("SELVEDGE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("SELVEDGE_DAYS").unwrap_or(usual)).collect(),
    }
}

/// The kind of a fault, without its figures.
fn kind(fault: &Fault) -> String {
    let words = format!("{fault:?}");
    words.split([' ', '{']).next().unwrap_or_default().to_owned()
}

#[test]
fn decisions_are_there_through_a_day_of_faults() {
    for seed in seeds(1) {
        let day = Day::of_single_faults(seed);
        let kinds: BTreeSet<String> = day.0.iter().map(|planned| kind(&planned.fault)).collect();
        assert_eq!(kinds.len(), 13, "seed {seed}: {kinds:?}");
        let (judge, tail) = play(seed, &day, DAY_S, Without::Nothing);
        let (seconds, telling) = judge.looked();
        eprintln!(
            "seed {seed}: {} faults, {seconds} seconds of rules, {:.1} % of them with one right answer only: \
             available {:.5} %, {} records, outages {:?}",
            day.0.len(),
            100.0 * telling,
            100.0 * judge.availability(),
            tail.told.len(),
            judge.outages(),
        );
        assert!(judge.availability() >= WANTED, "seed {seed}: {:?}", judge.outages());
        assert_eq!(judge.unexplained(&tail), Vec::<String>::new(), "seed {seed}");
        assert!(telling > 0.8, "seed {seed}: a test that cannot fail");
    }
}

#[test]
fn what_cannot_be_bridged_is_explained_in_the_journal() {
    const LONG_S: u64 = 6 * 3_600;
    for seed in seeds(1) {
        let day = Day::of_double_faults(seed, LONG_S);
        let (judge, tail) = play(seed, &day, LONG_S, Without::Nothing);
        eprintln!("seed {seed}: available {:.3} %: {:?}", 100.0 * judge.availability(), judge.outages());
        assert!(!judge.outages().is_empty(), "seed {seed}: nothing happened");
        assert_eq!(judge.unexplained(&tail), Vec::<String>::new(), "seed {seed}");
    }
}

/// A node that heals itself less: somebody notices.
fn is_noticed(without: Without) {
    const LONG_S: u64 = 6 * 3_600;
    let noticed = (1..=4).any(|seed| {
        let day = match without {
            Without::Words => Day::of_double_faults(seed, LONG_S),
            Without::SetBack => Day::of_clocks(seed, LONG_S),
            _ => Day::of_single_faults(seed),
        };
        let (judge, tail) = play(seed, &day, LONG_S, without);
        match without {
            Without::Words => !judge.unexplained(&tail.silenced()).is_empty(),
            _ => judge.availability() < WANTED,
        }
    });
    assert!(noticed, "without {without:?} all is well: the day is blind");
}

#[test]
fn a_process_that_stays_dead_is_noticed() {
    is_noticed(Without::Restarts);
}

#[test]
fn a_source_that_is_not_tried_again_is_noticed() {
    is_noticed(Without::Tries);
}

#[test]
fn a_clock_set_back_that_makes_everything_late_is_noticed() {
    is_noticed(Without::SetBack);
}

#[test]
fn a_sensor_without_siblings_is_noticed() {
    is_noticed(Without::Siblings);
}

#[test]
fn rules_that_do_not_say_that_they_are_blind_are_noticed() {
    is_noticed(Without::Words);
}
