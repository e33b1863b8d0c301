//! The eight scales and eight minima of 6 bits each that Q4_K and Q5_K keep in 12 bytes.
//!
//! | bytes | bits 0–5 (or 0–3) | bits 6–7 (or 4–7) |
//! |---|---|---|
//! | 0–3 | scale j, j = 0..4 | upper 2 bits of scale j + 4 |
//! | 4–7 | minimum j | upper 2 bits of minimum j + 4 |
//! | 8–11 | lower 4 bits of scale j + 4 | lower 4 bits of minimum j + 4 |

/// Bytes of the sixteen numbers.
pub(crate) const BYTES: usize = 12;

/// The scales and the minima, 0..64 each.
#[inline(always)]
pub(crate) fn unpack(packed: &[u8]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut minima) = ([0; 8], [0; 8]);
    for j in 0..4 {
        let (scale, minimum, low) = (packed[j], packed[j + 4], packed[j + 8]);
        scales[j] = scale & 63;
        minima[j] = minimum & 63;
        scales[j + 4] = low & 15 | scale >> 6 << 4;
        minima[j + 4] = low >> 4 | minimum >> 6 << 4;
    }
    (scales, minima)
}

/// The way back; each number is below 64.
pub(crate) fn pack(scales: &[u8; 8], minima: &[u8; 8], packed: &mut [u8]) {
    for j in 0..4 {
        packed[j] = scales[j] | scales[j + 4] >> 4 << 6;
        packed[j + 4] = minima[j] | minima[j + 4] >> 4 << 6;
        packed[j + 8] = scales[j + 4] & 15 | minima[j + 4] << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bits_are_used_once() {
        for bit in 0..96 {
            let mut bytes = [0; BYTES];
            bytes[bit / 8] = 1 << (bit % 8);
            let (scales, minima) = unpack(&bytes);
            assert_eq!(scales.iter().chain(&minima).map(|x| x.count_ones()).sum::<u32>(), 1, "bit {bit}");
            let mut back = [0; BYTES];
            pack(&scales, &minima, &mut back);
            assert_eq!(back, bytes, "bit {bit}");
        }
    }
}
