//! Measures pictures: how bright, how lively, how sharp, and how different from the one before. What tells that a camera is covered,
//! out of focus, or frozen, without a network.
//!
//! All four are of the picture's luminance (ITU-R BT.601), from 0 to 255, reduced to at most 320 pixels a row by taking means.
//! Pure: the same pictures in a row give the same numbers.

use net::picture::Picture;
use wire::hash::Hash;
use wire::world::WallMs;

use super::frame::Frame;

/// A row has at most so many pixels when it is measured.
const WIDTH_MAX: usize = 320;

/// Measures pictures in a row.
#[derive(Debug, Default)]
pub struct Measure {
    last: Option<Grey>,
}

/// A picture's luminance, reduced.
#[derive(Debug, Clone, PartialEq)]
struct Grey {
    width: usize,
    height: usize,
    /// Shape: `[height, width]`.
    values: Vec<f32>,
}

impl Measure {
    /// A picture with its numbers. `digest`: of its file, or what it was made from.
    pub fn frame(&mut self, t_ms: WallMs, picture: Picture, digest: Hash) -> Frame {
        let measured = self.of(&picture);
        Frame::new(t_ms, measured, picture, digest)
    }

    /// Brightness (mean), contrast (standard deviation), sharpness (variance of the Laplacian), and change: the mean difference to
    /// the picture before, missing at the first and where the size is another.
    fn of(&mut self, picture: &Picture) -> [f64; 4] {
        let grey = Grey::of(picture);
        let (brightness, contrast) = grey.moments();
        let change = match &self.last {
            Some(last) if (last.width, last.height) == (grey.width, grey.height) => {
                let pairs = last.values.iter().zip(&grey.values);
                pairs.map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / grey.values.len() as f64
            }
            _ => f64::NAN,
        };
        let sharpness = grey.sharpness();
        self.last = Some(grey);
        [brightness, contrast, sharpness, change]
    }
}

impl Grey {
    fn of(picture: &Picture) -> Grey {
        let step = picture.width().div_ceil(WIDTH_MAX);
        let (width, height) = (picture.width() / step, picture.height().div_ceil(step));
        let mut values = vec![0.0f32; width * height];
        for (y, line) in picture.rgb().chunks_exact(3 * picture.width()).enumerate() {
            // The last block may have fewer rows than `step`.
            let rows = (picture.height() - y / step * step).min(step) as f32;
            let weight = 1.0 / (step as f32 * rows);
            for (value, block) in values[y / step * width..].iter_mut().zip(line.chunks_exact(3 * step)) {
                let sum = |sum: f32, pixel: &[u8]| {
                    let [red, green, blue] = [0, 1, 2].map(|colour| f32::from(pixel[colour]));
                    sum + 0.299 * red + 0.587 * green + 0.114 * blue
                };
                *value += weight * block.chunks_exact(3).fold(0.0, sum);
            }
        }
        Grey { width, height, values }
    }

    /// Mean and standard deviation.
    fn moments(&self) -> (f64, f64) {
        let count = self.values.len() as f64;
        let mean = self.values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
        let square = |value: &f32| (f64::from(*value) - mean).powi(2);
        (mean, (self.values.iter().map(square).sum::<f64>() / count).sqrt())
    }

    /// The variance of the Laplacian over its four neighbours (Pech-Pacheco and others, 2000); 0 where there are none.
    fn sharpness(&self) -> f64 {
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for y in 1..self.height.saturating_sub(1) {
            for x in 1..self.width.saturating_sub(1) {
                let at = y * self.width + x;
                let around = self.values[at - 1]
                    + self.values[at + 1]
                    + self.values[at - self.width]
                    + self.values[at + self.width];
                let bend = f64::from(around - 4.0 * self.values[at]);
                count += 1.0;
                sum += bend;
                squares += bend * bend;
            }
        }
        if count > 0.0 { (squares / count - (sum / count).powi(2)).max(0.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, value: impl Fn(usize, usize) -> u8) -> Picture {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Picture::new(width, height, pixels.flat_map(|(x, y)| [value(x, y); 3]).collect()).unwrap()
    }

    #[test]
    fn a_covered_a_blurred_and_a_frozen_camera_show() {
        let mut measure = Measure::default();
        let board = |x: usize, y: usize| if (x / 4 + y / 4).is_multiple_of(2) { 200 } else { 50 };
        let [brightness, contrast, sharp, change] = measure.of(&picture(64, 48, board));
        assert!((brightness - 125.0).abs() < 0.01 && (contrast - 75.0).abs() < 0.01 && change.is_nan());
        let [_, _, _, frozen] = measure.of(&picture(64, 48, board));
        assert_eq!(frozen, 0.0);
        let soft =
            |x: usize, y: usize| 125 + (50.0 * ((x as f64 / 8.0).sin() * (y as f64 / 8.0).sin())) as u8;
        let [_, _, blurred, change] = measure.of(&picture(64, 48, soft));
        assert!(blurred < sharp / 100.0 && change > 10.0, "{blurred} {sharp} {change}");
        let [dark, flat, none, _] = measure.of(&picture(64, 48, |_, _| 3));
        assert!((dark - 3.0).abs() < 1e-4 && flat < 1e-4 && none < 1e-4);
    }

    #[test]
    fn large_pictures_are_reduced_by_means_and_small_ones_have_no_edge_to_fall_over() {
        // 1001 pixels a row become 250, the last one is left out; 7 rows become 2.
        let grey = Grey::of(&picture(1001, 7, |x, _| if x % 2 == 0 { 100 } else { 0 }));
        assert_eq!((grey.width, grey.height), (250, 2));
        assert!(grey.values.iter().all(|value| (value - 50.0).abs() < 0.01), "{:?}", &grey.values[..4]);
        for (width, height) in [(1, 1), (2, 1), (1, 400), (321, 1)] {
            let measured = Measure::default().of(&picture(width, height, |_, _| 9));
            assert!((measured[0] - 9.0).abs() < 1e-3 && measured[2] == 0.0, "{width} {height} {measured:?}");
        }
        let mut measure = Measure::default();
        measure.of(&picture(8, 8, |_, _| 9));
        assert!(measure.of(&picture(8, 9, |_, _| 9))[3].is_nan());
    }
}
