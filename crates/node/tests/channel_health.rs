//! How often healthy sensors are called faulty, and how soon faulty ones are: the figures of `docs/features.md`.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

use std::collections::BTreeMap;

use node::source::pump::{Fault as Breakage, Pump, PumpConfig};
use node::specimen::plant::{CHANNELS as LOOP, Run};
use signal::health::course::{Fault, Turn};
use signal::health::{Health, HealthConfig, Limits};
use wire::world::{Entropy, Simulated};

/// What was told: per fault how often, and how often it isolated.
#[derive(Default)]
struct Told(BTreeMap<&'static str, (u64, u64)>);

impl Told {
    fn take(&mut self, fault: Fault, isolated: bool) {
        let (told, isolations) = self.0.entry(fault.as_str()).or_default();
        *told += 1;
        *isolations += u64::from(isolated);
    }

    fn all(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |(a, b), (told, isolations)| (a + told, b + isolations))
    }
}

/// A pump's channels for so many hours, five readings a second. Gives what was told while no sensor was stuck, and for
/// how many breakages with a stuck sensor that sensor was isolated.
fn pump(seed: u64, hours: f64, fault_every_s: f64) -> (Told, (u64, u64)) {
    let config = PumpConfig { fault_every_s, ..PumpConfig::default() };
    let mut pump = Pump::new(seed, config, 0);
    let mut health = Health::new(HealthConfig::default(), 5).unwrap();
    let (mut told, mut stuck, mut found, mut was) = (Told::default(), 0, 0, false);
    for _ in 0..(hours * 3600.0 * 5.0) as u64 {
        let sample = pump.next();
        let is = sample.fault == Some(Breakage::StuckSensor);
        stuck += u64::from(is && !was);
        was = is;
        for change in health.step(sample.t_ms, &mut sample.values.clone()) {
            match change.turn {
                Turn::Fell(Fault::Stuck) if is && change.channel == 1 => found += 1,
                // Siblings of a sensor that is stuck part from it before it is known to be.
                Turn::Fell(Fault::Drift | Fault::Quiet) if is => {}
                Turn::Fell(fault) => told.take(fault, change.isolated),
                Turn::Rose(_) => {}
            }
        }
    }
    (told, (stuck, found))
}

#[test]
fn healthy_sensors_are_rarely_accused() {
    let (healthy, _) = pump(1, 24.0, f64::INFINITY);
    println!("a healthy pump, 24 h, 5 channels, 2.16 million values: {:?}", healthy.0);
    let (broken, (stuck, found)) = pump(2, 24.0, 120.0);
    println!("a pump that breaks every two minutes, 24 h: {:?}; {found} of {stuck} stuck sensors", broken.0);
    assert_eq!(healthy.all().1, 0, "a healthy sensor was isolated");
    assert_eq!(broken.all().1, 0, "a machine's fault isolated a sensor");
    assert!(healthy.all().0 <= 20, "{:?}", healthy.0);
    assert_eq!(found, stuck);

    let mut told = Told::default();
    for number in 0..200 {
        let mut health = Health::new(HealthConfig::default(), LOOP.len()).unwrap();
        for sample in Run::new(5, number, true) {
            for change in health.step(sample.t_ms, &mut sample.values.clone()) {
                if let Turn::Fell(fault) = change.turn {
                    told.take(fault, change.isolated);
                }
            }
        }
    }
    println!("200 healthy runs of the loop, 8 channels, 1.92 million values: {:?}", told.0);
    assert_eq!(told.all().1, 0);
    assert!(told.all().0 <= 40, "{:?}", told.0);
}

/// Readings from a fault's begin until it is told, over many runs; `None`: not within its two minutes.
fn delays(fault: Fault) -> Vec<Option<u64>> {
    const BEGIN: u64 = 3_000;
    const LASTS: u64 = 600;
    let mut delays = Vec::new();
    for run in 0..40u64 {
        let channel = (run % 5) as usize;
        let mut chance = Simulated::new(run);
        let mut pump =
            Pump::new(100 + run, PumpConfig { fault_every_s: f64::INFINITY, ..PumpConfig::default() }, 0);
        // What the channel's plate says: twice what it has at most.
        let limits = Limits { range: Some((-10.0, 250.0)), ..Limits::default() };
        let mut health = Health::new(HealthConfig { limits, ..HealthConfig::default() }, 5).unwrap();
        let (mut sum, mut squares, mut held, mut smooth, mut delay) = (0.0, 0.0, 0.0, 0.0, None);
        for i in 0..BEGIN + LASTS {
            let mut values = pump.next().values.to_vec();
            let value = &mut values[channel];
            if i < BEGIN {
                (sum, squares, held) = (sum + *value, squares + *value * *value, *value);
                smooth = *value;
            } else {
                let mean = sum / BEGIN as f64;
                let spread = (squares / BEGIN as f64 - mean * mean).sqrt();
                smooth += 0.02 * (*value - smooth);
                let since = i - BEGIN;
                match fault {
                    Fault::Dead => *value = f64::NAN,
                    Fault::Stuck => *value = held,
                    Fault::Range => *value = 999.0,
                    Fault::Jumps if since % 25 < 2 => *value += 8.0 * spread,
                    Fault::Jumps => {}
                    Fault::Noisy => *value += 4.0 * spread * (2.0 * chance.unit() - 1.0),
                    Fault::Quiet => *value = smooth,
                    // A spread in a minute.
                    Fault::Drift => *value += spread * since as f64 / 300.0,
                }
            }
            for change in health.step(i as i64 * 200, &mut values) {
                if i >= BEGIN && change.channel == channel {
                    // Much noise leaps before it is known to be noise: either is told.
                    let same = |told: Fault| told == fault || (fault == Fault::Noisy && told == Fault::Jumps);
                    if !matches!(change.turn, Turn::Fell(told) if same(told)) {
                        continue;
                    }
                    delay.get_or_insert(i - BEGIN);
                }
            }
        }
        delays.push(delay);
    }
    delays.sort_by_key(|delay| delay.unwrap_or(u64::MAX));
    delays
}

#[test]
fn faulty_sensors_are_found_soon() {
    println!("{:<8} {:>6} {:>18} {:>18}", "fault", "found", "median, readings", "slowest, readings");
    for fault in Fault::ALL {
        let delays = delays(fault);
        let found = delays.iter().flatten().count();
        let show = |delay: Option<u64>| delay.map_or("–".to_owned(), |delay| delay.to_string());
        let slowest = delays.iter().flatten().max().copied();
        println!("{:<8} {found:>3}/40 {:>18} {:>18}", fault.as_str(), show(delays[20]), show(slowest));
        let (least, most) = match fault {
            Fault::Dead => (40, 30),
            Fault::Stuck => (40, 60),
            Fault::Range => (40, 3),
            Fault::Jumps | Fault::Noisy => (30, 200),
            Fault::Quiet => (16, 600),
            // Only channels with siblings can part from them.
            Fault::Drift => (16, 600),
        };
        assert!(
            found >= least && delays[least - 1].is_some_and(|delay| delay <= most),
            "{fault:?}: {delays:?}"
        );
    }
}
