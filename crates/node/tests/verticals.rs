//! The examples of `examples/`: each makes its data, plays its flow, and its rules say what is true.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use node::flow::Flow;
use node::pipeline::Product;
use node::play::play;
use node::specimen::bearing::{self, Bearing};
use node::specimen::heart::{self, Lead, Rhythm};
use node::specimen::plant::{self, Fault, Run};
use node::specimen::{Sample, write_csv};
use wire::body::{Decision, PartChange, RuleState};

/// 2026-01-01.
const START_MS: i64 = 1_767_225_600_000;

/// A folder with the example's flow and the data that a test makes for it.
struct Example {
    folder: tempfile::TempDir,
}

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
    fn play(&self) -> (Vec<(String, RuleState, f64)>, Vec<PartChange>) {
        let flow = Flow::load(&self.file()).unwrap_or_else(|errors| panic!("{errors}"));
        flow.check_files().unwrap_or_else(|errors| panic!("{errors}"));
        let (mut decisions, mut parts) = (Vec::new(), Vec::new());
        play(&flow, 0, |_, _, products| {
            for product in products {
                match product {
                    Product::Decision(Decision { rule, state, at_ms, .. }) => {
                        decisions.push((rule.to_string(), *state, (at_ms - START_MS) as f64 / 1e3));
                    }
                    Product::Part(part) => parts.push(part.clone()),
                    _ => {}
                }
            }
        })
        .unwrap();
        (decisions, parts)
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
