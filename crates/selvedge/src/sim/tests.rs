//! Many simulated rollouts: nothing that must never be happens, bad releases stop early, good ones go through, and a hub
//! with a mistake is found out.

use hub::rollout::plan::{Disruption, Lane, Plan, Rate, Target};
use hub::rollout::policy::Preset;
use hub::rollout::text;
use package::name::ModelName;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::world::{Entropy as _, Simulated};

use crate::sim::fleet::{Fleet, MINUTE_MS, Mix, START_MS};
use crate::sim::night::play;
use crate::sim::picture;
use crate::sim::release::Flaw;
use crate::sim::report::Report;
use crate::sim::setup::{End, Faults, Mutant, Night, Setup};

fn plan() -> Plan {
    let target = |release: u64| Target {
        model: ModelName::new("smollm2").unwrap(),
        release,
        index: Hash::of(&release.to_be_bytes()),
        size: 1 << 20,
        variant: None,
    };
    Plan {
        what: vec![target(7)],
        revert: vec![target(6)],
        group: "ram >= 1GiB".to_owned(),
        canary: Vec::new(),
        waves: Vec::new(),
        hold_out_percent: 5,
        budget: Vec::new(),
        rate: Rate::default(),
        when: None,
        lane: Lane::Normal,
        valid_s: 30 * 86_400,
        revert_on_stop: true,
        approvals: 0,
        allow_rollback: false,
        created_by: "ann".to_owned(),
        created_ms: START_MS,
        note: String::new(),
        targets_version: 1,
        salt: [0; 8],
    }
}

/// The usual policy over 10 000 nodes.
fn large(bad: &str) -> Setup {
    let fleet = Fleet::new(&Mix::default(), 1);
    let plan = fleet.plan(plan(), Preset::Usual, 5).unwrap();
    let flaws = if bad.is_empty() { Vec::new() } else { vec![bad.parse::<Flaw>().unwrap()] };
    Setup::new(plan, fleet, flaws).unwrap()
}

fn nights(setup: &Setup, runs: u64) -> Vec<Night> {
    (0..runs).map(|seed| play(setup, seed, false).unwrap()).collect()
}

/// Policies, fleets, faults and bad releases, by lot.
fn drawn(seed: u64) -> Setup {
    let mut world = Simulated::new(seed ^ 0xd1ce);
    let mut lot = || world.unit();
    let nodes = 1 + (lot() * lot() * 200.0) as usize;
    let mix = Mix {
        nodes,
        of_a_site: 1 + (lot() * 20.0) as usize,
        away: lot() * lot() * 0.5,
        away_hours: 0.1 + lot() * 20.0,
        office: if lot() < 0.2 { 0.3 } else { 0.0 },
        ships: if lot() < 0.2 { 0.2 } else { 0.0 },
        dead: if lot() < 0.2 { 0.1 } else { 0.0 },
    };
    let fleet = Fleet::new(&mix, seed);
    let mut plan = plan();
    plan.group = ["all", "ram >= 2GiB", "!(site == \"s0\")", "isa has \"avx512\" || site == \"s1\""]
        [(lot() * 4.0) as usize]
        .to_owned();
    if lot() < 0.3 {
        let named = (0..1 + nodes / 20).map(|at| NodeId::new(&format!("pump-{at}")).unwrap());
        plan.canary = named.take(5).collect();
    }
    if lot() < 0.3 {
        plan.budget = vec![Disruption { by: "site".to_owned(), max_unavailable: 1 + (lot() * 5.0) as u32 }];
    }
    if lot() < 0.5 {
        plan.rate = Rate { nodes_per_min: 1 + (lot() * 20.0) as u32, bytes_per_s: 0 };
    }
    if lot() < 0.2 {
        plan.revert.clear();
    }
    plan.revert_on_stop = lot() < 0.7;
    plan.approvals = (lot() * 2.0) as u8;
    let preset = [Preset::Usual, Preset::Careful, Preset::Emergency][(lot() * 3.0) as usize];
    let mut plan = fleet.plan(plan, preset, (lot() * 20.0) as u8).unwrap();
    for wave in &mut plan.waves {
        wave.gate.soak_s = (lot() * 7200.0) as u32;
        wave.gate.patience_s = 3600 + (lot() * 86_400.0) as u32;
        if lot() < 0.2 {
            wave.gate.max_unknown = 3;
        }
        if lot() < 0.2 {
            wave.gate.max_failed = 2;
        }
        if lot() < 0.2 {
            wave.gate.alpha_ppm = 10_000;
        }
    }
    plan.check().unwrap();
    let harms = ["golden", "crash", "reboot", "silent", "slow=2", "crash"];
    let harm = harms[(lot() * 6.0) as usize];
    let share = lot() * lot();
    let bad = ["", ":isa has \"avx512\"", ":site == \"s1\""][(lot() * 3.0) as usize];
    let flaws = if lot() < 0.4 { Vec::new() } else { vec![format!("{harm}:{share}{bad}").parse().unwrap()] };
    let mut setup = Setup::new(plan, fleet, flaws).unwrap();
    setup.faults =
        Faults { loss: lot() * 0.3, power_cuts: lot() * 5.0, by_itself: lot() * 0.01, unrest: lot() < 0.3 };
    setup.trial_ms = MINUTE_MS * (1 + (lot() * 60.0) as i64);
    setup.most_ms = 10 * 24 * 60 * MINUTE_MS;
    setup
}

#[test]
fn whatever_the_policy_the_fleet_and_the_faults_nothing_happens_that_must_never_be() {
    let mut ends = std::collections::BTreeMap::new();
    for seed in 0..RUNS {
        let night = play(&drawn(seed), seed, false).unwrap();
        let end = format!("{:?}", night.end);
        *ends.entry(end.split([' ', '{']).next().unwrap_or_default().to_owned()).or_insert(0) += 1;
    }
    assert!(ends.values().sum::<u32>() == RUNS as u32 && ends.len() >= 4, "all kinds of ends: {ends:?}");
}
const RUNS: u64 = 400;

#[test]
fn what_fails_on_one_node_in_twenty_is_stopped_by_the_first_wave_and_what_is_good_is_not() {
    let runs = 400;
    for bad in ["crash:0.05", "golden:0.05", "reboot:0.05"] {
        let mut setup = large(bad);
        setup.until_wave = Some(1);
        let nights = nights(&setup, if bad == "crash:0.05" { runs } else { 50 });
        let stopped = nights.iter().filter(|night| night.end == End::Stopped { wave: 1 }).count();
        let report = Report::new(&nights, 10_000, setup.lots.len());
        assert!(stopped * 100 >= nights.len() * 99, "{bad}: {report}");
        assert!(report.exposed.1 <= 120, "never more than the first wave: {report}");
    }
    let mut setup = large("");
    setup.until_wave = Some(1);
    let nights = nights(&setup, runs);
    let report = Report::new(&nights, 10_000, setup.lots.len());
    assert!(report.done.runs as u64 * 100 >= runs * 99, "{report}");
    // A node that serves and falls silent never reports: nobody calls that a success, and no second wave opens.
    let mut setup = large("silent:0.05");
    setup.until_wave = Some(1);
    let silent = (0..20).map(|seed| play(&setup, seed, false).unwrap());
    let opened = silent.filter(|night| night.end == End::Done).count();
    assert!(opened <= 1, "{opened} of 20 went on past silent nodes");
}

#[test]
fn a_good_release_reaches_everybody_and_a_slow_one_does_not() {
    let small = |bad: &str| {
        let fleet = Fleet::new(&Mix { nodes: 2000, ..Mix::default() }, 1);
        let plan = fleet.plan(plan(), Preset::Usual, 5).unwrap();
        let flaws = if bad.is_empty() { Vec::new() } else { vec![bad.parse().unwrap()] };
        Setup::new(plan, fleet, flaws).unwrap()
    };
    let night = play(&small(""), 3, true).unwrap();
    assert_eq!(night.end, End::Done, "{}", night.lines.join("\n"));
    assert!(night.exposed > 1800 && night.opened.len() == 5, "{night:?}");
    let svg = picture::svg(&night, 2000);
    assert!(svg.starts_with("<svg") && svg.contains("wave 5") && svg.ends_with("</svg>\n"));
    let night = play(&small("slow=1.5:1"), 3, false).unwrap();
    assert_eq!(night.end, End::Stopped { wave: 2 }, "the second wave compares");
    assert!(night.exposed < 500, "{}", night.exposed);
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
fn mistakes_of_a_hub_are_found() {
    let found = |mutant: Mutant, bad: &str| {
        let wrong = |seed: &u64| {
            let fleet = Fleet::new(&Mix { nodes: 300, away: 0.2, ..Mix::default() }, *seed);
            let mut plan = plan();
            plan.group = "ram >= 2GiB".to_owned();
            let plan = fleet.plan(plan, Preset::Usual, 5).unwrap();
            let flaws = if bad.is_empty() { Vec::new() } else { vec![bad.parse().unwrap()] };
            let mut setup = Setup::new(plan, fleet, flaws).unwrap();
            setup.mutant = Some(mutant);
            if mutant == Mutant::WideOpen {
                // The hub takes everybody for a member.
                setup.lots = setup.fleet.nodes.iter().enumerate().map(|(at, _)| (0, at)).collect();
            }
            match play(&setup, *seed, false) {
                Err(error) => Some(format!("{error:#}")),
                Ok(night) if matches!(&night.end, End::Asked { about } if about == "stuck") => {
                    Some("stuck".to_owned())
                }
                Ok(_) => None,
            }
        };
        (0..20).find_map(|seed| wrong(&seed))
    };
    let said = |mutant, bad| found(mutant, bad).unwrap_or_default();
    assert!(said(Mutant::OfferBeforeRow, "").contains("3: a node runs it and has no row"));
    assert!(said(Mutant::SilentIsGood, "silent:0.3").contains("4: a node counts as good"));
    assert!(said(Mutant::LowerWayBack, "crash:0.1").contains("stuck"));
    assert!(said(Mutant::WideOpen, "").contains("1: a node outside ran it"));
}

#[test]
fn flaws_are_read_and_refused() {
    let flaw: Flaw = "slow=3:0.5:isa has \"avx512\"".parse().unwrap();
    assert!(flaw.share == 0.5 && flaw.only.is_some());
    for wrong in ["crash", "crash:2", "explode:0.1", "slow=0:1", "crash:0.1:ram >="] {
        assert!(wrong.parse::<Flaw>().is_err(), "{wrong}");
    }
    assert_ne!(text::id(&drawn(1).plan), text::id(&drawn(2).plan));
}
