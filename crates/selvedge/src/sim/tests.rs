//! Many simulated rollouts: nothing that must never be happens, bad releases stop early, good ones go through, and a hub
//! with a mistake is found out.

mod leader;
mod stored;
mod together;

use hub::rollout::plan::{Disruption, Lane, Plan, Rate, Target};
use hub::rollout::policy::Preset;
use hub::rollout::text;
use package::name::ModelName;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::world::{Entropy as _, Simulated};

use self::leader::Memory;
use self::stored::Stored;
use self::together::{Going, Play, Scene};
use crate::sim::files::{self, Policy, World};
use crate::sim::fleet::{Fleet, HOUR_MS, MINUTE_MS, Mix, START_MS};
use crate::sim::night::play;
use crate::sim::picture;
use crate::sim::release::Flaw;
use crate::sim::report::Report;
use crate::sim::setup::{End, Faults, Mutant, Night, Setup};

fn target(release: u64) -> Target {
    Target {
        model: ModelName::new("smollm2").unwrap(),
        release,
        index: Hash::of(&release.to_be_bytes()),
        size: 1 << 20,
        variant: None,
    }
}

fn plan() -> Plan {
    let mut plan = Plan::to_all(vec![target(7)], vec![target(6)], "ann", START_MS);
    (plan.group, plan.hold_out_percent) = ("ram >= 1GiB".to_owned(), 5);
    plan
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

/// Nothing that must never be happens in these nights; how they end.
fn nothing_that_must_never_be(seeds: std::ops::Range<u64>) {
    let mut ends = std::collections::BTreeMap::new();
    for seed in seeds.clone() {
        let night = play(&drawn(seed), seed, false).unwrap();
        let end = format!("{:?}", night.end);
        *ends.entry(end.split([' ', '{']).next().unwrap_or_default().to_owned()).or_insert(0) += 1;
    }
    let all: u64 = ends.values().sum();
    assert!(all == seeds.end - seeds.start && ends.len() >= 4, "all kinds of ends: {ends:?}");
}

// A thousand policies, fleets, faults and releases; in two tests, for two cores.
#[test]
fn whatever_the_policy_the_fleet_and_the_faults_nothing_happens_that_must_never_be() {
    nothing_that_must_never_be(0..500);
}

#[test]
fn whatever_the_policy_the_fleet_and_the_faults_it_goes_well_again() {
    nothing_that_must_never_be(500..1000);
}

/// Two or three rollouts of newer and newer releases on one small fleet, the last perhaps an emergency.
fn crowded(seed: u64, unrest: bool) -> Scene {
    let mut world = Simulated::new(seed ^ 0xc0de);
    let mut lot = || world.unit();
    let mix = Mix {
        nodes: 4 + (lot() * 26.0) as usize,
        of_a_site: 1 + (lot() * 8.0) as usize,
        away: lot() * lot() * 0.4,
        away_hours: 0.2 + lot() * 4.0,
        dead: if lot() < 0.1 { 0.1 } else { 0.0 },
        ..Mix::default()
    };
    let fleet = Fleet::new(&mix, seed);
    let mut rollouts = Vec::new();
    let count = 2 + usize::from(lot() < 0.4);
    for at in 0..count {
        let at_ms = START_MS + HOUR_MS + (at as f64 * lot() * 5.0 * HOUR_MS as f64) as i64 / 1000 * 1000;
        let mut plan = Plan::to_all(vec![target(7 + at as u64)], vec![target(6)], "ann", at_ms);
        plan.group = ["all", "all", "ram >= 2GiB", "!(site == \"s0\")"][(lot() * 4.0) as usize].to_owned();
        if lot() < 0.2 {
            plan.canary = vec![NodeId::new("pump-1").unwrap()];
        }
        if lot() < 0.3 {
            plan.budget =
                vec![Disruption { by: "site".to_owned(), max_unavailable: 1 + (lot() * 3.0) as u32 }];
        }
        if lot() < 0.3 {
            plan.rate.nodes_per_min = 1 + (lot() * 5.0) as u32;
        }
        plan.revert_on_stop = lot() < 0.8;
        let is_urgent = at + 1 == count && lot() < 0.5;
        plan.lane = if is_urgent { Lane::Emergency } else { Lane::Normal };
        let preset = if is_urgent { Preset::Emergency } else { Preset::Usual };
        let mut plan = fleet.plan(plan, preset, 5).unwrap();
        for wave in &mut plan.waves {
            (wave.gate.soak_s, wave.gate.patience_s) =
                ((lot() * 1800.0) as u32, 3600 + (lot() * 7200.0) as u32);
            wave.gate.max_failed = if lot() < 0.3 { 2 } else { 0 };
        }
        plan.check().unwrap();
        let harm = ["golden", "crash", "reboot", "silent"][(lot() * 4.0) as usize];
        let share = lot() * 0.5;
        let flaws = if lot() < 0.5 { Vec::new() } else { vec![format!("{harm}:{share}").parse().unwrap()] };
        rollouts.push(Going { plan, at_ms, flaws });
    }
    let faults = Faults { loss: lot() * 0.2, power_cuts: lot() * 2.0, by_itself: lot() * 0.01, unrest };
    Scene {
        fleet,
        rollouts,
        faults,
        trial_ms: MINUTE_MS * (1 + (lot() * 30.0) as i64),
        most_ms: 20 * HOUR_MS,
    }
}

#[test]
fn several_rollouts_share_a_fleet_and_an_emergency_goes_first() {
    let mut ends = std::collections::BTreeMap::new();
    for seed in 0..60 {
        let scene = crowded(seed, seed % 2 == 1);
        let mut play = Play::new(&scene, Memory::new(), seed);
        play.until(i64::MAX)
            .unwrap_or_else(|error| panic!("seed {seed}: {error:#}\n{}", play.lines.join("\n")));
        for rollout in play.phases().unwrap() {
            *ends.entry(rollout.phase.as_str()).or_insert(0) += 1;
        }
    }
    assert!(ends.contains_key("done") && ends.contains_key("reverted"), "{ends:?}");
}

#[test]
fn a_hub_that_is_set_back_hands_out_nothing_to_those_who_know_more() {
    let mut paused = 0;
    for seed in 0..24 {
        let mut scene = crowded(seed, false);
        scene.most_ms = 14 * HOUR_MS;
        let mut play = Play::new(&scene, Memory::new(), seed);
        let last_ms = scene.rollouts.iter().map(|going| going.at_ms).max().unwrap();
        let well = |done: anyhow::Result<()>| done.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
        well(play.until(last_ms + MINUTE_MS * 20));
        let (rows, acked) = (play.leader.rows.clone(), play.acked());
        // A backup of some hours ago.
        well(play.until(last_ms + HOUR_MS * (1 + seed as i64 % 6)));
        play.leader.restore(rows);
        well(play.set_back(&acked));
        well(play.until(i64::MAX));
        paused += play.paused;
    }
    assert!(paused > 50, "{paused} calls of nodes that know more");
}

#[test]
fn what_is_rehearsed_is_what_a_hub_does_on_a_real_store() {
    let mut lines = 0;
    for seed in 0..2 {
        let mut scene = crowded(seed, true);
        scene.fleet =
            Fleet::new(&Mix { nodes: 60, of_a_site: 6, away: 0.1, away_hours: 1.0, ..Mix::default() }, seed);
        for going in &mut scene.rollouts {
            going.plan = scene.fleet.plan(going.plan.clone(), Preset::Usual, 5).unwrap();
            going.plan.waves.iter_mut().for_each(|wave| wave.gate.soak_s = 600);
        }
        scene.most_ms = 7 * HOUR_MS;
        let mut rehearsed = Play::new(&scene, Memory::new(), seed);
        rehearsed.until(i64::MAX).unwrap();
        let mut real = Play::new(&scene, Stored::new(), seed);
        real.until(i64::MAX).unwrap();
        for (at, (one, other)) in rehearsed.lines.iter().zip(&real.lines).enumerate() {
            assert_eq!(one, other, "seed {seed}, line {at}");
        }
        assert_eq!(rehearsed.lines.len(), real.lines.len(), "seed {seed}");
        lines += real.lines.len();
    }
    assert!(lines > 200, "{lines}");
}

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

#[test]
fn policies_fleets_and_releases_are_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let world =
        file("fleet.toml", "[fleet]\nnodes = 400\naway = 0.0\n[faults]\npower_cuts = 0.0\nby_itself = 0.0\n");
    let world: World = files::read(&world).unwrap();
    let fleet = Fleet::new(&world.fleet, 1);
    let text = "group = 'ram >= 1GiB'\nnodes_per_min = 50\n[[wave]]\npercent = 5.0\nleast = 30\nmin_reports = 25\nsoak_min = 10\n\
        [[wave]]\npercent = 100.0\nmax_unknown = 4\nalpha = 0.0\n";
    let policy: Policy = files::read(&file("policy.toml", text)).unwrap();
    let plan = policy.plan(plan(), &fleet).unwrap();
    let gates: Vec<_> = plan
        .waves
        .iter()
        .map(|wave| (wave.gate.min_reports, wave.gate.soak_s, wave.gate.max_unknown))
        .collect();
    assert_eq!((gates[0], gates[1].2, plan.rate.nodes_per_min), ((25, 600, 0), 4, 50));
    let bad = file("bad.toml", "[[flaw]]\nharm = \"crash\"\nshare = 1.0\nonly = 'isa has \"avx512\"'\n");
    let flaws = files::flaws(&bad).unwrap();
    let mut setup = Setup::new(plan, fleet, flaws).unwrap();
    setup.faults = world.faults;
    let night = play(&setup, 1, false).unwrap();
    assert!(matches!(night.end, End::Stopped { .. }), "{night:?}");
    for (name, text) in
        [("a.toml", "groop = 'all'"), ("b.toml", "[[wave]]\nleast = 3\n"), ("c.toml", "preset = 1")]
    {
        assert!(files::read::<Policy>(&file(name, text)).is_err(), "{text}");
    }
    assert!(files::flaws(&file("d.toml", "[[flaw]]\nharm = \"explode\"\nshare = 0.1\n")).is_err());
}
