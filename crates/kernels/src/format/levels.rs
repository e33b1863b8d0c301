//! The sixteen levels of IQ4_NL and IQ4_XS: denser around zero, where weights are.

/// ggml's `kvalues_iq4nl`, ascending.
pub const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The level of a code below 16.
#[inline(always)]
pub(crate) fn level(code: u8) -> i8 {
    LEVELS[usize::from(code & 15)]
}
