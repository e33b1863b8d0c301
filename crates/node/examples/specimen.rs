//! Writes the data of the examples: `cargo run -p node --example specimen -- predictive-maintenance DIR [SEED]`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use node::specimen::bearing::Bearing;
use node::specimen::farm::{self, Farm, PROBES};
use node::specimen::heart::{Lead, Rhythm};
use node::specimen::plant::{Fault, Run};
use node::specimen::road::Road;
use node::specimen::shelf::Shelf;
use node::specimen::sight::write_folder;
use node::specimen::till::{OF_PEOPLE, Shop, TILL};
use node::specimen::{Sample, bearing, heart, plant, road, shelf, write_csv};

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
        (Some("soil-moisture"), Some(folder), Some(seed)) => soil_moisture(Path::new(folder), seed),
        (Some("point-of-sale"), Some(folder), Some(seed)) => point_of_sale(Path::new(folder), seed),
        (Some("shelf"), Some(folder), Some(seed)) => shelf_in_a_shop(Path::new(folder), seed),
        (Some("traffic"), Some(folder), Some(seed)) => traffic(Path::new(folder), seed),
        _ => Err(std::io::Error::other(
            "usage: specimen predictive-maintenance|patient-monitor|soil-moisture|point-of-sale|shelf|traffic FOLDER [SEED]: writes the example's data there",
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

/// An hour of a shelf that is filled up after forty minutes, with a hand over the lens at the fiftieth; and a network trained on others.
fn shelf_in_a_shop(folder: &Path, seed: u64) -> std::io::Result<()> {
    std::fs::write(folder.join("shelf.onnx"), shelf::network(seed.wrapping_add(1)))?;
    let shots = Shelf::new(seed, 60, 40, 50, START_MS);
    write_folder(&folder.join("pictures"), shots.map(|shot| (shot.t_ms, shot.picture)))
}

/// A hundred seconds of a road, with twenty in which all stand still.
fn traffic(folder: &Path, seed: u64) -> std::io::Result<()> {
    std::fs::write(folder.join("road.onnx"), road::network())?;
    let shots = Road::new(seed, 500, (300, 400), START_MS);
    write_folder(&folder.join("pictures"), shots.map(|shot| (shot.t_ms, shot.picture)))
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

fn csv(file: &Path, channels: &[&str], samples: impl IntoIterator<Item = Sample>) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(file)?);
    write_csv(channels, samples, &mut file)?;
    file.flush()
}

/// Four days of two probes, each as a recording, and what ChirpStack would hand on: a topic and a payload in each line.
fn soil_moisture(folder: &Path, seed: u64) -> std::io::Result<()> {
    let farm = Farm::new(seed, START_MS);
    for (at, (name, _)) in PROBES.iter().enumerate() {
        csv(&folder.join(format!("{name}.csv")), &farm::CHANNELS, farm.of(at))?;
    }
    let mut file = BufWriter::new(File::create(folder.join("uplinks.tsv"))?);
    for uplink in &farm.uplinks {
        writeln!(file, "{}\t{}", uplink.topic(), uplink.payload())?;
    }
    file.flush()
}

/// Ten days of two tills, and of those who work at them.
fn point_of_sale(folder: &Path, seed: u64) -> std::io::Result<()> {
    let Shop { tills: [first, second], people } = Shop::new(seed, START_MS);
    csv(&folder.join("till_1.csv"), &TILL, first)?;
    csv(&folder.join("till_2.csv"), &TILL, second)?;
    csv(&folder.join("people.csv"), &OF_PEOPLE, people)
}
