//! Waves for a fleet: from shares in per cent to the least ring whose members of today reach them.
//!
//! Lots are known as soon as a plan has its salt, so the first wave can be made as large as counting needs: 102 nodes see
//! a failure on 5 % of nodes in 99.5 of 100 cases (1 - 0.95^102).

use crate::rollout::plan::{Gate, RING, Then, Wave};

/// So many nodes make a first wave that tells.
pub const FIRST_WAVE: usize = 102;

/// How careful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// 1 %, 10 %, 50 %, all but the hold-out, all.
    Usual,
    /// The same; every gate waits for a person, and looks twice as long.
    Careful,
    /// A first wave for a quarter of an hour, then all.
    Emergency,
}

impl Preset {
    /// Reads `usual`, `careful` or `emergency`.
    pub fn parse(word: &str) -> Option<Preset> {
        match word {
            "usual" => Some(Preset::Usual),
            "careful" => Some(Preset::Careful),
            "emergency" => Some(Preset::Emergency),
            _ => None,
        }
    }
}

/// The least ring that has `percent` of all members, and at least `least` of them, as far as there are so many.
/// `places`: of all members, sorted.
pub fn ring(places: &[u16], percent: f64, least: usize) -> u16 {
    let share = (places.len() as f64 * percent / 100.0).ceil();
    let wanted = (share as usize).max(least).min(places.len());
    match wanted.checked_sub(1).and_then(|last| places.get(last)) {
        Some(place) if wanted < places.len() => (place + 1).min(RING),
        _ => RING,
    }
}

/// How many members a ring has. `places`: of all members, sorted.
pub fn members(places: &[u16], to: u16) -> usize {
    places.partition_point(|place| *place < to)
}

/// The waves of a preset over a group whose members have these places, sorted.
pub fn waves(preset: Preset, places: &[u16], hold_out_percent: u8) -> Vec<Wave> {
    let is_small = places.len() < FIRST_WAVE;
    let least = if is_small { 1 } else { FIRST_WAVE };
    let rest = 100.0 - f64::from(hold_out_percent.min(50));
    let hour = 3600;
    let steps: &[(f64, u32)] = match preset {
        Preset::Emergency => &[(1.0, hour / 4), (100.0, hour / 4)],
        _ => &[(1.0, hour), (10.0, 6 * hour), (50.0, 12 * hour), (rest, 12 * hour), (100.0, 12 * hour)],
    };
    let mut waves: Vec<Wave> = Vec::new();
    for (at, (percent, soak_s)) in steps.iter().enumerate() {
        let last = at + 1 == steps.len();
        let to = if last { RING } else { ring(places, *percent, if at == 0 { least } else { 1 }) };
        let before = waves.last().map_or(0, |wave| wave.to);
        if to <= before || to == RING && !last {
            continue;
        }
        let inside = members(places, to) - members(places, before);
        let inside = u32::try_from(inside).unwrap_or(u32::MAX);
        let mut gate = match waves.is_empty() {
            true => Gate { min_reports: inside.clamp(1, 90), soak_s: *soak_s, ..Gate::of_first_wave() },
            false => Gate::of_later_wave(inside, *soak_s),
        };
        if preset == Preset::Careful {
            gate.soak_s *= 2;
        }
        // A small fleet's first wave proves little: a person looks at it.
        if preset == Preset::Careful || is_small && waves.is_empty() && preset == Preset::Usual {
            gate.then = Then::Wait;
        }
        waves.push(Wave { to, gate });
    }
    waves
}

/// How probable it is that one of so many nodes shows a failure that a share of all nodes has.
pub fn power(nodes: usize, share: f64) -> f64 {
    1.0 - (1.0 - share).powi(i32::try_from(nodes).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_fit_the_fleet() {
        #[track_caller]
        fn check(preset: Preset, nodes: usize, expected: &[usize]) {
            let places: Vec<u16> = (0..nodes).map(|n| (n * 2048 / nodes.max(1)) as u16).collect();
            let waves = waves(preset, &places, 5);
            let found: Vec<usize> = waves.iter().map(|wave| members(&places, wave.to)).collect();
            assert_eq!(found, expected);
            assert_eq!(waves.last().map(|wave| wave.to), Some(RING));
            assert!(waves.is_sorted_by(|a, b| a.to < b.to));
        }
        check(Preset::Usual, 10_000, &[103, 1001, 5000, 9502, 10_000]);
        check(Preset::Usual, 300, &[102, 150, 285, 300]);
        check(Preset::Usual, 12, &[1, 2, 6, 12]);
        check(Preset::Usual, 1, &[1]);
        check(Preset::Usual, 0, &[0]);
        check(Preset::Emergency, 10_000, &[103, 10_000]);
        check(Preset::Careful, 3, &[1, 2, 3]);
    }

    #[test]
    fn small_first_waves_wait_for_a_person() {
        let then = |nodes: u16| {
            let places: Vec<u16> = (0..nodes).collect();
            waves(Preset::Usual, &places, 5)[0].gate.then
        };
        assert_eq!((then(101), then(500)), (Then::Wait, Then::Continue));
        assert!((power(102, 0.05) - 0.9947).abs() < 1e-4);
        assert!((power(12, 0.05) - 0.4596).abs() < 1e-4);
    }
}
