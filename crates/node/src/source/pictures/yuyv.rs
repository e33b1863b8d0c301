//! Plain pixels of cameras, two bytes each (Y U Y V), to red, green and blue. Pure.

use net::picture::Picture;

/// A picture of `2 · width · height` bytes; `None` if there are more or fewer, or the width is odd. Colours as ITU-R BT.601 has them,
/// luminance from 16 to 235.
pub fn picture(width: usize, height: usize, bytes: &[u8]) -> Option<Picture> {
    if width % 2 == 1 || bytes.len() != width.checked_mul(height)?.checked_mul(2)? {
        return None;
    }
    let mut rgb = Vec::with_capacity(3 * width * height);
    for pair in bytes.chunks_exact(4) {
        let [first, u, second, v] = [pair[0], pair[1], pair[2], pair[3]].map(i32::from);
        for y in [first, second] {
            let (c, d, e) = (298 * (y - 16) + 128, u - 128, v - 128);
            let colours = [c + 409 * e, c - 100 * d - 208 * e, c + 516 * d];
            rgb.extend(colours.map(|colour| (colour >> 8).clamp(0, 255) as u8));
        }
    }
    Picture::new(width, height, rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_what_the_standard_says() {
        // Black, white, red and blue, as BT.601 writes them.
        let cases = [
            ([16, 128, 16, 128], [0, 0, 0]),
            ([235, 128, 235, 128], [255, 255, 255]),
            ([81, 90, 81, 240], [255, 0, 0]),
            ([41, 240, 41, 110], [0, 0, 255]),
        ];
        for (bytes, expected) in cases {
            let picture = picture(2, 1, &bytes).unwrap();
            for (found, expected) in picture.rgb().iter().zip(expected.iter().cycle()) {
                assert!(i32::from(*found).abs_diff(*expected) <= 2, "{:?} for {expected:?}", picture.rgb());
            }
        }
        assert!(picture(2, 1, &[0; 3]).is_none() && picture(3, 1, &[0; 6]).is_none());
        assert!(picture(usize::MAX - 1, 2, &[]).is_none());
    }
}
