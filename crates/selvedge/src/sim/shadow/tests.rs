//! Many simulated watches: nothing that must never be happens, verdicts are right, and a node with a mistake is found out.

use node::install::cap::Cap;
use wire::world::{Entropy as _, Simulated};

use super::night::play;
use super::report::Report;
use super::setup::{Answers, Mutant, Night, Owners, Parts, Policy, Setup, read};
use crate::sim::fleet::{Fleet, HOUR_MS, Mix};
use crate::sim::setup::Faults;

fn answers(parts: &[&str]) -> Answers {
    let parts = parts.iter().map(|text| text.parse().unwrap()).collect();
    Answers { asked_an_hour: 600.0, took_s: 2.0, watts: Some(20.0), parts }
}

/// A small fleet, half an hour of which is enough.
fn small(policy: Policy, parts: &[&str]) -> Setup {
    let fleet =
        Fleet::new(&Mix { nodes: 24, of_a_site: 6, away: 0.05, away_hours: 1.0, ..Mix::default() }, 1);
    Setup::new(policy.plan().unwrap(), fleet, answers(parts)).unwrap()
}

fn quick() -> Policy {
    Policy { share: 50.0, core: 100.0, answers: 500, enough: 3000, for_hours: 12, ..Policy::default() }
}

/// Policies, fleets, owners, releases and faults, by lot.
fn drawn(seed: u64) -> Setup {
    let mut world = Simulated::new(seed ^ 0x5eed);
    let mut lot = || world.unit();
    let mix = Mix {
        nodes: 1 + (lot() * 20.0) as usize,
        of_a_site: 1 + (lot() * 6.0) as usize,
        away: lot() * lot() * 0.5,
        away_hours: 0.1 + lot() * 4.0,
        office: if lot() < 0.2 { 0.3 } else { 0.0 },
        ships: if lot() < 0.2 { 0.2 } else { 0.0 },
        dead: if lot() < 0.2 { 0.1 } else { 0.0 },
    };
    let fleet = Fleet::new(&mix, seed);
    let group = ["all", "ram >= 2GiB", "!(site == \"s0\")"][(lot() * 3.0) as usize];
    let policy = Policy {
        group: group.to_owned(),
        percent: 1 + (lot() * 99.0) as u8,
        share: 1.0 + lot() * 99.0,
        core: 0.5 + lot() * lot() * 99.0,
        joules: (lot() < 0.5).then(|| 1 + (lot() * 200.0) as u32),
        answers: 5 + (lot() * 100.0) as u32,
        effect: 0.5 + lot() * 40.0,
        enough: 20 + (lot() * 600.0) as u32,
        nodes: 1 + (lot() * 5.0) as u32,
        alpha: 0.1 + lot() * 10.0,
        for_hours: 1 + (lot() * 9.0) as u32,
        max_failed: (lot() * 4.0) as u32,
        nodes_per_min: (lot() * 4.0) as u32,
    };
    let answers = Answers {
        asked_an_hour: 10.0 + lot() * lot() * 2000.0,
        took_s: 0.05 + lot() * lot() * 60.0,
        watts: (lot() < 0.7).then(|| 1.0 + lot() * 50.0),
        parts: vec![
            Parts { chance: lot() * lot() * 0.5, of_nodes: None },
            Parts { chance: lot(), of_nodes: Some(lot() * lot()) },
        ],
    };
    let mut setup = Setup::new(policy.plan().unwrap(), fleet, answers).unwrap();
    let harms = ["golden", "crash", "reboot", "silent", "slow=4"];
    if lot() < 0.5 {
        let harm = harms[(lot() * 5.0) as usize];
        setup.flaws = vec![format!("{harm}:{}", lot() * lot()).parse().unwrap()];
    }
    setup.faults =
        Faults { loss: lot() * 0.3, power_cuts: lot() * lot() * 40.0, by_itself: 0.0, unrest: lot() < 0.5 };
    let cap = Cap {
        share_ppm: 1 + (lot() * 500_000.0) as u32,
        core_ppm: 1 + (lot() * lot() * 200_000.0) as u32,
        joules: (lot() < 0.5).then(|| 1 + (lot() * 100.0) as u32),
        memory_bytes: (lot() < 0.5).then_some(1 << 30),
    };
    setup.owners = Owners { forbid: if lot() < 0.4 { lot() } else { 0.0 }, cap: Some((lot(), cap)) };
    setup
}

/// Nothing that must never be happens in these nights; how they end.
fn nothing_that_must_never_be(seeds: std::ops::Range<u64>) {
    let (mut verdicts, mut compared, mut skipped) = (std::collections::BTreeSet::new(), 0, 0);
    for seed in seeds {
        let night = play(&drawn(seed), seed, false).unwrap();
        (compared, skipped) = (compared + night.compared, skipped + night.skipped);
        verdicts.extend(night.verdict);
    }
    println!("{verdicts:?}; {compared} answers were compared, {skipped} passed over");
    assert!(verdicts.len() >= 4 && compared > 1000 && skipped > 1000, "all kinds of ends: {verdicts:?}");
}

// In two tests, for two cores.
#[test]
fn whatever_the_policy_the_fleet_and_the_owners_nothing_happens_that_must_never_be() {
    nothing_that_must_never_be(0..100);
}

#[test]
fn whatever_the_policy_the_fleet_and_the_owners_it_goes_well_again() {
    nothing_that_must_never_be(100..200);
}

fn nights(setup: &Setup, runs: u64) -> Vec<Night> {
    (0..runs).map(|seed| play(setup, seed, false).unwrap()).collect()
}

#[test]
fn verdicts_are_right_and_say_what_they_cost() {
    let check = |parts: &[&str], expected: &str| {
        let setup = small(quick(), parts);
        let nights = nights(&setup, 8);
        let report = Report::new(&nights, setup.fleet.nodes.len(), setup.meant.len());
        println!("{parts:?}\n{report}\n");
        assert_eq!(report.verdicts, [(expected.to_owned(), 8)], "{report}");
        assert!(report.decided == 0 || report.right.runs == report.decided, "{report}");
        // An answer takes two seconds of a core and forty joules.
        let (night, answers) = (&nights[0], nights[0].compared as f64);
        assert!(night.core_s >= answers * 1.4 && night.joules.unwrap() >= answers * 28.0, "{night:?}");
        assert!(night.fetched >= night.nodes && night.busiest > 0.0 && night.nodes >= 3, "{night:?}");
    };
    check(&["0.005"], "it agrees");
    check(&["0.3"], "it says something else");
    check(&["0.05"], "undecided");
    // Four nodes in ten that part always are four tenths of all answers.
    check(&["0.0", "1.0:0.4"], "it says something else");
}

#[test]
fn fewer_nodes_than_the_plan_asks_for_decide_nothing() {
    let policy = Policy { nodes: 100, ..quick() };
    let night = play(&small(policy, &["0.0"]), 1, true).unwrap();
    assert_eq!(night.verdict.as_deref(), Some("undecided"), "{}", night.why);
    assert!(night.why.contains("a verdict rests on 100 nodes at least"), "{}", night.why);
    assert!(night.lines.iter().any(|line| line.contains("experiment.start")), "{:?}", night.lines);
}

#[test]
fn a_budget_holds_and_owners_are_heard() {
    let tight = Policy { core: 2.0, for_hours: 3, enough: 100_000, ..quick() };
    let night = play(&small(tight.clone(), &["0.05"]), 1, false).unwrap();
    // 1.2 s of a minute, in answers of some two seconds.
    assert!(night.busiest < 0.03 && night.skipped > night.compared, "{night:?}");
    let mut setup = small(tight.clone(), &["0.05"]);
    setup.owners.cap = Some((1.0, Cap { core_ppm: 5_000, ..Cap::default() }));
    let less = play(&setup, 1, false).unwrap();
    assert!(less.busiest < 0.01 && less.compared * 2 < night.compared, "{less:?}");
    setup.owners = Owners { forbid: 1.0, cap: None };
    let none = play(&setup, 1, false).unwrap();
    assert_eq!((none.compared, none.fetched, none.verdict.as_deref()), (0, 0, Some("undecided")));
}

#[test]
fn what_breaks_nodes_is_stopped() {
    for bad in ["golden:0.5", "crash:0.5", "reboot:0.5"] {
        let mut setup = small(quick(), &["0.05"]);
        setup.flaws = vec![bad.parse().unwrap()];
        let night = play(&setup, 2, false).unwrap();
        assert_eq!(night.verdict.as_deref(), Some("it does harm"), "{bad}: {}", night.why);
        assert!(night.failed > 2, "{bad}: {night:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_night() {
    let setup = drawn(5);
    let (first, again) = (play(&setup, 9, true).unwrap(), play(&setup, 9, true).unwrap());
    assert_eq!(first.lines, again.lines);
    assert!(!first.lines.is_empty());
}

/// A check that finds nothing where something is wrong would be no check.
#[test]
fn mistakes_of_a_node_are_found() {
    let said = |mutant: Mutant| {
        let mut setup = small(Policy { core: 2.0, answers: 100_000, ..quick() }, &["0.0"]);
        setup.mutant = Some(mutant);
        setup.most_ms = 40 * HOUR_MS;
        format!("{:#}", play(&setup, 1, false).unwrap_err())
    };
    assert!(said(Mutant::BlankPurse).contains("2: "), "{}", said(Mutant::BlankPurse));
    assert!(said(Mutant::Serves).contains("1: "), "{}", said(Mutant::Serves));
    assert!(said(Mutant::Keeps).contains("6: "), "{}", said(Mutant::Keeps));
}

#[test]
fn policies_are_files_and_what_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let plan =
        read(&file("policy.toml", "group = 'ram >= 2GiB'\nshare = 20.0\njoules = 30\nnodes = 5\n")).unwrap();
    let shadow = plan.shadow().unwrap();
    assert_eq!((shadow.limits.share_ppm, shadow.limits.joules, shadow.bound.nodes), (200_000, Some(30), 5));
    let again =
        read(&file("plan.json", &String::from_utf8(hub::experiment::text::write(&plan)).unwrap())).unwrap();
    assert_eq!(again.what, plan.what);
    for text in ["shares = 20.0", "share = 0.0", "percent = 0", "nodes = 0", "group = 'state == \"up\"'"] {
        assert!(read(&file("bad.toml", text)).is_err(), "{text}");
    }
    for text in ["", "2", "0.1:2", "much"] {
        assert!(text.parse::<Parts>().is_err(), "{text}");
    }
    let parts = answers(&["0.01", "0.2:0.1", "0.5:0.1"]);
    assert_eq!([0.0, 0.15, 0.3].map(|lot| parts.chance(lot)), [0.2, 0.5, 0.01]);
}
