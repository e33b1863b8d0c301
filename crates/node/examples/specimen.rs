//! Writes the data of the examples: `cargo run -p node --example specimen -- predictive-maintenance DIR [SEED]`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use node::specimen::bearing::Bearing;
use node::specimen::heart::{Lead, Rhythm};
use node::specimen::plant::{Fault, Run};
use node::specimen::{bearing, heart, plant, write_csv};

/// 2026-01-01.
const START_MS: i64 = 1_767_225_600_000;

fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let seed = words.get(2).map_or(Some(7), |seed| seed.parse().ok());
    match (words.first().map(String::as_str), words.get(1), seed) {
        (Some("predictive-maintenance"), Some(folder), Some(seed)) => {
            predictive_maintenance(Path::new(folder), seed)
        }
        (Some("patient-monitor"), Some(folder), Some(seed)) => patient_monitor(Path::new(folder), seed),
        _ => Err(std::io::Error::other(
            "usage: specimen predictive-maintenance|patient-monitor FOLDER [SEED]: writes the example's data there",
        )),
    }
}

/// A bearing whose outer race breaks after forty seconds, and twenty minutes of a loop whose motor begins to rub.
fn predictive_maintenance(folder: &Path, seed: u64) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(folder.join("bearing.csv"))?);
    write_csv(&bearing::CHANNELS, Bearing::new(seed, 90.0, 40.0, START_MS), &mut file)?;
    file.flush()?;
    // Runs differ in depth: the first that rubs.
    let rubbing = Fault::ALL.iter().position(|fault| *fault == Fault::Rubbing).unwrap_or(0) as u64;
    let mut file = BufWriter::new(File::create(folder.join("plant.csv"))?);
    write_csv(&plant::CHANNELS, Run::new(seed, rubbing, false), &mut file)?;
    file.flush()
}

/// Two minutes of a regular heart, one of fibrillation, a lead that falls off, and a standstill.
fn patient_monitor(folder: &Path, seed: u64) -> std::io::Result<()> {
    let course = [
        (Rhythm::Sinus(72.0), 60.0),
        (Rhythm::Fibrillation(100.0), 60.0),
        (Rhythm::Sinus(75.0), 40.0),
        (Rhythm::LeadOff, 20.0),
        (Rhythm::Sinus(70.0), 40.0),
        (Rhythm::Standstill, 15.0),
        (Rhythm::Sinus(60.0), 30.0),
    ];
    let mut file = BufWriter::new(File::create(folder.join("lead.csv"))?);
    write_csv(&heart::CHANNELS, Lead::new(seed, &course, START_MS), &mut file)?;
    file.flush()
}
