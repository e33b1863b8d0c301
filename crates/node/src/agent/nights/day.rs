//! What goes wrong on a day: faults of every kind, from one seed.

use wire::world::{Entropy, Simulated};

use super::plant::{CHANNELS, DAY_S};

/// The sources, by their place in the flow.
pub(super) const SOURCES: [&str; 3] = ["a", "b", "c"];

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// A sensor says nothing any more.
    Dead { source: usize, channel: usize },
    /// It says the same again and again.
    Stuck { source: usize, channel: usize },
    /// It says something plausible that is wrong.
    Off { source: usize, channel: usize },
    /// A source cannot be reached. The broker keeps what comes meanwhile, and gives it all at once.
    Lost { source: usize },
    /// The node's wall clock is set, and set right again at the end.
    Clock { by_ms: i64 },
    /// The network panics whenever it looks.
    Network,
    /// The detector panics whenever it looks.
    Detector,
    /// The network's file is damaged, and it has to be loaded again.
    NetworkFile,
    /// What the detector had learnt is damaged on disk while the process is gone.
    LearntFile,
    /// Pages of the journal are overwritten while it is at work.
    Journal,
    /// The disk is full for others; or full for the journal too.
    Disk { hard: bool },
    /// So much memory is free, of a gigabyte.
    Memory { free_mib: u64 },
    /// The process dies.
    Death,
}

/// A fault and its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    pub(super) fault: Fault,
    pub(super) from_s: u64,
    pub(super) until_s: u64,
}

/// A day's faults.
pub(super) struct Day(pub(super) Vec<Planned>);

/// What the redundancy of the plant is meant to bear: one of these at a time.
fn outside(kind: usize, chance: &mut Simulated) -> Fault {
    let (source, channel) = (draw(chance, SOURCES.len()), draw(chance, CHANNELS.len()));
    match kind {
        0 => Fault::Dead { source, channel },
        1 => Fault::Stuck { source, channel },
        2 => Fault::Off { source, channel },
        3 => Fault::Lost { source: 0 },
        4 => Fault::Lost { source },
        5 => Fault::Clock { by_ms: 3_000 + draw(chance, 55_000) as i64 },
        6 => Fault::Clock { by_ms: -3_000 - draw(chance, 55_000) as i64 },
        7 => Fault::Clock { by_ms: 120_000 + draw(chance, 7_200_000) as i64 },
        _ => Fault::Clock { by_ms: -120_000 - draw(chance, 7_200_000) as i64 },
    }
}

/// What happens to the node itself.
fn inside(kind: usize, chance: &mut Simulated) -> Fault {
    match kind {
        0 => Fault::Network,
        1 => Fault::Detector,
        2 => Fault::NetworkFile,
        3 => Fault::LearntFile,
        4 => Fault::Journal,
        5 => Fault::Disk { hard: false },
        6 => Fault::Disk { hard: true },
        7 => Fault::Memory { free_mib: [10, 60, 120][draw(chance, 3)] },
        _ => Fault::Death,
    }
}

/// How many kinds there are of either.
const KINDS: usize = 9;

impl Day {
    /// A day as the plant is built to bear it: any fault of the node beside one of a sensor, a source or the clock.
    pub(super) fn of_single_faults(seed: u64) -> Day {
        let mut day = lane(seed ^ 0x6f75_7473, DAY_S, outside);
        day.extend(lane(seed ^ 0x696e_7369, DAY_S, inside));
        day.sort_by_key(|planned| planned.from_s);
        Day(mended(day))
    }

    /// A day for which it is not built: sensors of all three sources fail as they like.
    pub(super) fn of_double_faults(seed: u64, long_s: u64) -> Day {
        let mut day = Vec::new();
        for source in 0..SOURCES.len() {
            day.extend(lane(seed ^ (0x646f_7562 + source as u64), long_s, |kind, chance| {
                let channel = draw(chance, CHANNELS.len());
                match kind % 3 {
                    0 => Fault::Dead { source, channel },
                    1 => Fault::Stuck { source, channel },
                    _ => Fault::Lost { source },
                }
            }));
        }
        day.extend(lane(seed ^ 0x696e_7369, long_s, |kind, _| match kind % 2 {
            0 => Fault::Death,
            _ => Fault::Network,
        }));
        day.sort_by_key(|planned| planned.from_s);
        Day(day)
    }
}

impl Day {
    /// A day on which the node's clock is set back again and again, by less than a minute.
    pub(super) fn of_clocks(seed: u64, long_s: u64) -> Day {
        Day(lane(seed, long_s, |_, chance| outside(6, chance)))
    }
}

/// Faults one after the other, each kind in its turn.
fn lane(seed: u64, long_s: u64, mut fault: impl FnMut(usize, &mut Simulated) -> Fault) -> Vec<Planned> {
    let mut chance = Simulated::new(seed);
    let (mut day, mut bag) = (Vec::new(), Vec::new());
    // A quarter of an hour in which the sensors' habits are learnt.
    let mut at_s = 900;
    loop {
        at_s += 120 + draw(&mut chance, 600) as u64;
        let until_s = at_s + 60 + draw(&mut chance, 840) as u64;
        if until_s + 120 > long_s {
            return day;
        }
        if bag.is_empty() {
            bag.extend(0..KINDS);
        }
        let kind = bag.swap_remove(draw(&mut chance, bag.len()));
        day.push(Planned { fault: fault(kind, &mut chance), from_s: at_s, until_s });
        at_s = until_s;
    }
}

/// A disk that damages one journal after another needs a person: the process dies in between.
fn mended(mut day: Vec<Planned>) -> Vec<Planned> {
    let mut is_spent = false;
    for planned in &mut day {
        match planned.fault {
            Fault::Journal if std::mem::replace(&mut is_spent, true) => planned.fault = Fault::Death,
            _ => {}
        }
        if matches!(planned.fault, Fault::Death | Fault::LearntFile) {
            is_spent = false;
        }
    }
    day
}

fn draw(chance: &mut Simulated, below: usize) -> usize {
    (chance.unit() * below as f64) as usize
}
