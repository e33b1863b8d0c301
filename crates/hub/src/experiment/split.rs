//! How nodes are drawn into arms, and whether what came of the draw looks as it should.
//!
//! Arms are rings of one salt that do not meet, so a node is in one of them or in none, wherever it stands and whatever it
//! says. Where an arm has far fewer nodes than its ring, something chose after the lot did, and its figures are not to be
//! believed: the sample ratio mismatch of Fabijan et al. 2019.

use wire::hash::Hash;

use crate::experiment::plan::{Arm, Plan};
use crate::rollout::plan::RING;

/// Less probable than this, a draw is shown as a warning.
pub const SUSPICIOUS: f64 = 0.001;

/// A node's place on a plan's ring, 0 to 2047, as nodes reckon it too.
pub fn place(plan: &Plan, node: &str) -> u16 {
    let hash = Hash::of(&[plan.salt.as_slice(), node.as_bytes()].concat());
    let [first, second, ..] = *hash.as_bytes();
    u16::from_be_bytes([first, second]) >> 5
}

/// Where two arms end that share so many per cent of all nodes evenly.
pub fn rings(percent: u8) -> [u16; 2] {
    let each = (u32::from(RING) * u32::from(percent.min(100)) / 200).max(1);
    [each, 2 * each].map(|end| u16::try_from(end).unwrap_or(RING))
}

/// Where one arm ends that has so many per cent of all nodes.
pub fn ring(percent: u8) -> u16 {
    let end = (u32::from(RING) * u32::from(percent.min(100)) / 100).max(1);
    u16::try_from(end).unwrap_or(RING)
}

/// How probable it is that of `a + b` nodes so few or so many, or a split still less probable, come to be in arm a.
/// `None`: there are no two arms.
pub fn mismatch(arms: &[Arm<'_>], counts: [u32; 2]) -> Option<f64> {
    let [a, b] = arms else { return None };
    let size = |arm: &Arm<'_>| f64::from(arm.to.saturating_sub(arm.from));
    let share = size(a) / (size(a) + size(b));
    binomial(counts[0], counts[0].saturating_add(counts[1]), share)
}

/// The exact binomial test on both sides: the probability of all counts that are no more probable than this one.
pub fn binomial(hits: u32, trials: u32, share: f64) -> Option<f64> {
    if trials == 0 || !(share > 0.0 && share < 1.0) || hits > trials {
        return None;
    }
    let n = f64::from(trials);
    let odds = (share / (1.0 - share)).ln();
    let mut ln_p = n * (-share).ln_1p();
    let mut all = Vec::with_capacity(trials as usize + 1);
    for k in 0..=trials {
        all.push(ln_p);
        let k = f64::from(k);
        ln_p += ((n - k) / (k + 1.0)).ln() + odds;
    }
    // As much more as rounding may have added: what is as probable counts too.
    let most = all.get(hits as usize)? + 1e-7;
    let p: f64 = all.iter().filter(|ln_p| **ln_p <= most).map(|ln_p| ln_p.exp()).sum();
    Some(p.min(1.0))
}
