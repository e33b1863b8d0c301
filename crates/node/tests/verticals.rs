//! The examples of `examples/`: each makes its data, plays its flow, and its rules say what is true.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use node::config::Config;
use node::flow::Flow;
use node::flow::source::{ReplayConfig, SourceKind, Speed};
use node::journal::reader::Reader;
use node::pipeline::Product;
use node::play::play;
use node::play::rehearse::rehearse;
use node::report::gather::Gathered;
use node::report::tell::tell;
use node::source::BackOff;
use node::source::csv::CsvOptions;
use node::specimen::bearing::{self, Bearing};
use node::specimen::farm::{self, DOWN_H, Farm, RAIN_H};
use node::specimen::heart::{self, Lead, Rhythm};
use node::specimen::plant::{self, Fault, Run};
use node::specimen::road::{self, Road};
use node::specimen::shelf::{self, Shelf};
use node::specimen::sight::write_folder;
use node::specimen::till::{self, DRAWER, REFUNDS, Shop};
use node::specimen::{Sample, write_csv};
use wire::body::{Answer, Decision, PartChange, RuleState, Said};
use wire::hash::Hash;
use wire::world::System;

/// 2026-01-01.
const START_MS: i64 = 1_767_225_600_000;

/// A folder with the example's flow and the data that a test makes for it.
struct Example {
    folder: tempfile::TempDir,
}

/// Decisions: the rule, what it says, and when, in seconds from the start.
type Told = Vec<(String, RuleState, f64)>;

impl Example {
    fn new(name: &str) -> Example {
        let folder = tempfile::tempdir().unwrap();
        let flow = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name).join("flow.toml");
        std::fs::copy(flow, folder.path().join("flow.toml")).unwrap();
        Example { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("flow.toml")
    }

    fn data(&self, file: &str, channels: &[&str], samples: impl IntoIterator<Item = Sample>) {
        let mut to = BufWriter::new(File::create(self.folder.path().join(file)).unwrap());
        write_csv(channels, samples, &mut to).unwrap();
    }

    /// What the flow decided and told, with seconds since the begin.
    fn play(&self) -> (Told, Vec<PartChange>) {
        let (decisions, parts, _) = self.play_answers();
        (decisions, parts)
    }

    /// The same, with what its networks answered. Its own tests must hold first.
    fn play_answers(&self) -> (Told, Vec<PartChange>, Vec<Answer>) {
        let flow = Flow::load(&self.file()).unwrap_or_else(|errors| panic!("{errors}"));
        flow.check_files().unwrap_or_else(|errors| panic!("{errors}"));
        assert!(rehearse(&flow).unwrap_or_else(|problems| panic!("{problems}")) > 0);
        let (mut decisions, mut parts, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        play(&flow, 0, |_, _, products| {
            for product in products {
                match product {
                    Product::Decision(Decision { rule, state, at_ms, .. }) => {
                        decisions.push((rule.to_string(), *state, (at_ms - START_MS) as f64 / 1e3));
                    }
                    Product::Part(part) => parts.push(part.clone()),
                    Product::Answer(answer) => answers.push(answer.clone()),
                    _ => {}
                }
            }
        })
        .unwrap();
        (decisions, parts, answers)
    }
}

/// A number of an answer.
fn number(answer: &Answer, field: &str) -> f64 {
    match &answer.fields[field] {
        Said::Number(number) => *number,
        Said::Word(word) => panic!("{field} is {word}"),
    }
}

/// When a rule fired and cleared, in seconds.
fn times(decisions: &[(String, RuleState, f64)], rule: &str, state: RuleState) -> Vec<f64> {
    decisions.iter().filter(|(name, at, _)| name == rule && *at == state).map(|(_, _, at_s)| *at_s).collect()
}

#[test]
fn a_worn_pump_is_found_by_its_bearing_and_by_its_loop() {
    let example = Example::new("predictive-maintenance");
    let rubbing = Fault::ALL.iter().position(|fault| *fault == Fault::Rubbing).unwrap() as u64;
    for seed in [7, 8, 9] {
        example.data("bearing.csv", &bearing::CHANNELS, Bearing::new(seed, 90.0, 40.0, START_MS));
        let run: Vec<Sample> = Run::new(seed, rubbing, false).collect();
        let breaks_s = run.iter().position(|sample| sample.wrong.is_some()).unwrap() as f64;
        example.data("plant.csv", &plant::CHANNELS, run);
        let (decisions, parts) = example.play();
        println!("seed {seed}, the loop breaks at {breaks_s} s: {decisions:?}");

        let fired = |rule: &str| times(&decisions, rule, RuleState::Firing);
        let outer = fired("outer_race");
        assert!(outer.len() == 1 && (40.0..60.0).contains(&outer[0]), "{outer:?}");
        assert!(
            fired("inner_race").is_empty() && fired("shakes").is_empty() && fired("motor_hot").is_empty()
        );
        let unusual = fired("loop_unusual");
        assert!(unusual.iter().any(|at_s| (breaks_s..breaks_s + 240.0).contains(at_s)), "{unusual:?}");
        assert!(unusual.iter().filter(|at_s| **at_s < breaks_s).count() <= 1, "{unusual:?}");
        let told =
            |part: &str, state: &str| parts.iter().any(|told| told.part == part && told.state == state);
        assert!(
            told("feature.blows", "ready") && told("feature.shake", "ready") && told("model.loop", "ready")
        );
        assert!(parts.iter().all(|part| part.state != "faulty"), "{parts:?}");
    }
}

#[test]
fn a_patient_is_watched() {
    let example = Example::new("patient-monitor");
    let course = [
        (Rhythm::Sinus(72.0), 60.0),
        (Rhythm::Fibrillation(100.0), 60.0),
        (Rhythm::Sinus(75.0), 40.0),
        (Rhythm::LeadOff, 20.0),
        (Rhythm::Sinus(70.0), 40.0),
        (Rhythm::Standstill, 15.0),
        (Rhythm::Sinus(60.0), 30.0),
    ];
    for seed in [7, 8, 9] {
        example.data("lead.csv", &heart::CHANNELS, Lead::new(seed, &course, START_MS));
        let (decisions, parts) = example.play();
        println!("seed {seed}: {decisions:?} {parts:?}");
        let near = |rule: &str, state: RuleState, expected: &[(f64, f64)]| {
            let times = times(&decisions, rule, state);
            assert_eq!(times.len(), expected.len(), "{rule} {state:?}: {times:?}");
            for (at_s, (from_s, to_s)) in times.iter().zip(expected) {
                assert!((from_s..=to_s).contains(&at_s), "{rule} {state:?}: {times:?}");
            }
        };
        near("irregular", RuleState::Firing, &[(70.0, 95.0)]);
        near("irregular", RuleState::Cleared, &[(120.0, 165.0)]);
        near("standstill", RuleState::Firing, &[(223.0, 226.5)]);
        near("standstill", RuleState::Cleared, &[(235.0, 246.0)]);
        near("fast", RuleState::Firing, &[]);
        near("slow", RuleState::Firing, &[]);
        let lead: Vec<(&str, &str)> = parts
            .iter()
            .filter(|part| part.part == "source.ecg.lead_mv")
            .map(|part| (part.state.as_str(), part.reason.split(':').next().unwrap()))
            .collect();
        assert_eq!(lead.len(), 2, "{parts:?}");
        assert_eq!(lead[0], ("faulty", "dead"));
        assert_eq!(lead[1].0, "well");
    }
}

/// The recordings stand for what comes over MQTT.
fn put_in(flow: &mut Flow, folder: &Path) {
    for source in &mut flow.sources {
        let csv = CsvOptions { truth: Some("truth".into()), ..CsvOptions::default() };
        let file = folder.join(format!("{}.csv", source.name));
        source.kind = SourceKind::Replay(ReplayConfig { file, csv, speed: Speed::Max, repeat: false });
    }
}

#[test]
fn a_farm_is_watered_and_told_of() {
    const HOUR: f64 = 3_600.0;
    let example = Example::new("soil-moisture");
    for seed in [7, 8, 9] {
        let made = Farm::new(seed, START_MS);
        assert!(made.lost > 30, "{}", made.lost);
        for (at, (name, _)) in farm::PROBES.iter().enumerate() {
            example.data(&format!("{name}.csv"), &farm::CHANNELS, made.of(at));
        }
        let mut flow = Flow::load(&example.file()).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(rehearse(&flow).unwrap_or_else(|problems| panic!("{problems}")), 3);
        put_in(&mut flow, example.folder.path());
        let report = flow.reports[0].clone();
        // The shift in which the north falls dry.
        let dry_ms = START_MS + (made.dry_from_h * HOUR * 1e3) as i64;
        let shift = report.shifts.last(dry_ms + report.shifts.every_ms);
        let mut gathered = Gathered::new(shift);
        let mut decisions = Vec::new();
        play(&flow, 0, |_, _, products| {
            for product in products {
                if let Product::Decision(Decision { rule, state, at_ms, .. }) = product {
                    decisions.push((rule.to_string(), *state, (at_ms - START_MS) as f64 / 1e3));
                }
                let at_ms = match product {
                    Product::Decision(decision) => decision.at_ms,
                    Product::Summary(summary) => summary.to_ms,
                    _ => continue,
                };
                if (shift.from_ms..shift.to_ms).contains(&at_ms) {
                    let draft = product.draft();
                    gathered.take(draft.kind.as_str(), &draft.body, &report);
                }
            }
        })
        .unwrap();
        println!("seed {seed}, dry from {} h: {decisions:?}", made.dry_from_h);
        let near = |rule: &str, state: RuleState, expected: &[(f64, f64)]| {
            let times = times(&decisions, rule, state);
            assert_eq!(times.len(), expected.len(), "{rule} {state:?}: {times:?}");
            for (at_s, (from_h, to_h)) in times.iter().zip(expected) {
                assert!((from_h * HOUR..=to_h * HOUR).contains(at_s), "{rule} {state:?}: {times:?}");
            }
        };
        near("dry_north", RuleState::Firing, &[(made.dry_from_h, made.dry_from_h + 4.0)]);
        near("dry_north", RuleState::Cleared, &[(RAIN_H, RAIN_H + 2.0)]);
        near("silent_south", RuleState::Firing, &[(DOWN_H.0 + 1.0, DOWN_H.0 + 3.5)]);
        near("silent_south", RuleState::Cleared, &[(DOWN_H.1, DOWN_H.1 + 1.5)]);
        near("silent_north", RuleState::Firing, &[]);
        near("battery_north", RuleState::Firing, &[]);
        assert_eq!(times(&decisions, "battery_south", RuleState::Firing).len(), 1);

        gathered.close();
        let told = tell(&gathered, &report);
        println!("{told}");
        assert!(told.starts_with("The farm, 2026-01-0"), "{told}");
        assert!(
            told.contains("The rule dry_north (warning) fired once, ") && told.contains("and still does."),
            "{told}"
        );
        let north = gathered.channels["north.moisture"];
        assert!(north.min < 22.5 && north.mean().unwrap() < north.max, "{north:?}");
        assert!(told.contains("soil moisture in the north (%): "), "{told}");
        assert!(!told.contains("battery"), "it has no name for people: {told}");
    }
}

#[test]
fn a_shop_tells_what_is_odd_and_names_nobody() {
    const HOUR: f64 = 3_600.0;
    let example = Example::new("point-of-sale");
    let folder = example.folder.path();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/point-of-sale/node.toml");
    std::fs::copy(config, folder.join("node.toml")).unwrap();
    for seed in [7, 8, 9] {
        let Shop { tills: [first, second], people } = Shop::new(seed, START_MS);
        example.data("till_1.csv", &till::TILL, first);
        example.data("till_2.csv", &till::TILL, second);
        example.data("people.csv", &till::OF_PEOPLE, people);
        let (decisions, _) = example.play();
        println!("seed {seed}: {decisions:?}");
        let near = |rule: &str, (day, from_h, to_h): (usize, f64, f64)| {
            let times = times(&decisions, rule, RuleState::Firing);
            let begin_s = day as f64 * 24.0 * HOUR;
            let within = begin_s + from_h * HOUR..begin_s + (to_h + 0.1) * HOUR;
            assert!(!times.is_empty() && times.iter().all(|at_s| within.contains(at_s)), "{rule}: {times:?}");
        };
        near("refunds_2", REFUNDS);
        near("drawer_1", DRAWER);
        for quiet in ["refunds_1", "drawer_2"] {
            assert_eq!(times(&decisions, quiet, RuleState::Firing), [] as [f64; 0], "{quiet}");
        }
    }

    // The node itself: what may leave has neither counts nor names.
    let flow = std::fs::read_to_string(example.file()).unwrap();
    std::fs::write(example.file(), flow.replace("truth = \"truth\"", "truth = \"truth\"\nspeed = \"max\""))
        .unwrap();
    let config = Config::load(&folder.join("node.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    let data = config.data.clone();
    let quick = std::time::Duration::from_millis(50);
    let node =
        node::agent::start_with(config, System::new(), BackOff { first: quick, longest: quick }).unwrap();
    for _ in 0..3_000 {
        if node.sources_ended() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(node.sources_ended());
    node.stop().unwrap();
    let reader = Reader::open(&data).unwrap();
    let (mut left, mut stayed) = (String::new(), String::new());
    for position in reader.positions().unwrap() {
        let is_numbers =
            ["readings.", "summary."].iter().any(|kind| position.stream.as_str().starts_with(kind));
        assert!(!(is_numbers && position.leaves), "{}", position.stream);
        let records = reader.records(&position.stream, 0, 1_000_000).unwrap();
        let into = if position.leaves { &mut left } else { &mut stayed };
        records.iter().for_each(|(record, _)| into.push_str(record.body.get()));
    }
    assert!(left.contains("\"rule\":\"refunds_2\"") && left.contains("\"state\":\"firing\""));
    assert!(left.contains("\"p-"), "there are pseudonyms");
    for person in till::PEOPLE {
        assert!(!left.contains(person), "{person} is named outside");
        assert!(stayed.contains(person), "{person} is known in the shop");
    }
    assert!(!left.contains("takings"));
}

#[test]
fn a_shelf_is_watched_and_its_gaps_are_counted() {
    for seed in [7, 8, 9] {
        let example = Example::new("shelf");
        std::fs::write(example.folder.path().join("shelf.onnx"), shelf::network(seed + 1)).unwrap();
        let shots: Vec<shelf::Shot> = Shelf::new(seed, 60, 40, 50, START_MS).collect();
        let pictures = example.folder.path().join("pictures");
        write_folder(&pictures, shots.iter().map(|shot| (shot.t_ms, shot.picture.clone()))).unwrap();
        let (decisions, parts, answers) = example.play_answers();
        assert!(parts.iter().any(|part| part.part == "model.places" && part.state == "ready"), "{parts:?}");

        assert_eq!(answers.len(), shots.len(), "each is recorded");
        let seen: Vec<_> = shots.iter().zip(&answers).filter(|(shot, _)| !shot.covered).collect();
        let right = |(shot, answer): &&(&shelf::Shot, &Answer)| {
            let boards = ["top", "middle", "bottom"].map(|board| number(answer, board) as usize);
            boards == shot.gaps && number(answer, "gaps") as usize == shot.gaps.iter().sum::<usize>()
        };
        let counted = seen.iter().filter(right).count();
        println!("seed {seed}: {counted} of {} pictures counted right; {decisions:?}", seen.len());
        assert!(counted * 20 >= seen.len() * 19, "{counted} of {}", seen.len());
        let file = std::fs::read(pictures.join("00003.png")).unwrap();
        assert_eq!((answers[3].at_ms, answers[3].input), (shots[3].t_ms, Hash::of(&file)));

        // Eight places empty for two minutes; until somebody fills up.
        let empty = shots.iter().position(|shot| shot.gaps.iter().sum::<usize>() >= 8).unwrap() as f64;
        let fired = times(&decisions, "refill", RuleState::Firing);
        assert!((60.0 * (empty + 1.0)..=60.0 * (empty + 4.0)).contains(&fired[0]), "{fired:?} {empty}");
        assert_eq!(times(&decisions, "refill", RuleState::Cleared)[0], 2_400.0);
        assert_eq!(times(&decisions, "covered", RuleState::Firing), [3_000.0]);
        assert_eq!(times(&decisions, "covered", RuleState::Cleared), [3_120.0]);
        let gaps = |at_s: f64| shots[(at_s / 60.0) as usize].gaps.iter().sum::<usize>();
        assert!(fired.iter().all(|at_s| gaps(*at_s) >= 8), "{fired:?}");
    }
}

#[test]
fn vehicles_are_counted_by_the_way_they_go_and_a_jam_is_told() {
    for seed in [7, 8] {
        let example = Example::new("traffic");
        std::fs::write(example.folder.path().join("road.onnx"), road::network()).unwrap();
        let shots: Vec<road::Shot> = Road::new(seed, 500, (300, 400), START_MS).collect();
        let pictures = example.folder.path().join("pictures");
        write_folder(&pictures, shots.iter().map(|shot| (shot.t_ms, shot.picture.clone()))).unwrap();
        let (decisions, _, answers) = example.play_answers();
        let last = answers.last().unwrap();
        let counted = (number(last, "gate_forth") as u64, number(last, "gate_back") as u64);
        let passed = shots.last().unwrap().passed;
        println!("seed {seed}: {counted:?} counted, {passed:?} passed; {decisions:?}");
        assert!(passed.0 >= 8 && passed.1 >= 8);
        let off = counted.0.abs_diff(passed.0) + counted.1.abs_diff(passed.1);
        assert!(off <= 1, "{counted:?} for {passed:?}");
        let jam = times(&decisions, "jam", RuleState::Firing);
        assert!(jam.len() == 1 && (64.9..67.0).contains(&jam[0]), "{jam:?}");
        let over = times(&decisions, "jam", RuleState::Cleared);
        assert!(over.len() == 1 && (80.0..84.0).contains(&over[0]), "{over:?}");
    }
}
