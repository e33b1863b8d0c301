//! A line the size of a word: the course of one channel, as the path of an SVG. Drawn here, so that it is there
//! without a script.

use std::fmt::Write as _;

use crate::downsample::ChannelPoints;

/// A line, its band and what is marked on it, in a box of [`Sparkline::WIDTH`] × [`Sparkline::HEIGHT`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sparkline {
    /// The path of the mean.
    pub line: String,
    /// The path around everything between the smallest and the largest values.
    pub band: String,
    /// `(x, width)` of what is marked.
    pub marks: Vec<(String, String)>,
    /// The smallest and the largest value.
    pub range: Option<(f64, f64)>,
}

impl Sparkline {
    /// How wide the box is.
    pub const WIDTH: f64 = 240.0;
    /// How high it is.
    pub const HEIGHT: f64 = 48.0;

    /// Draws a channel from `from_ms` to `to_ms`, with stretches marked. A time between two points that is more than
    /// `gap_ms` breaks the line.
    pub fn draw(
        channel: &ChannelPoints,
        t_ms: &[i64],
        (from_ms, to_ms): (i64, i64),
        gap_ms: i64,
        marks: &[(i64, i64)],
    ) -> Sparkline {
        let span = (to_ms.saturating_sub(from_ms)).max(1) as f64;
        let x = |ms: i64| (ms.saturating_sub(from_ms) as f64 / span * Self::WIDTH).clamp(0.0, Self::WIDTH);
        let marks = marks
            .iter()
            .map(|&(begin, end)| (format!("{:.1}", x(begin)), format!("{:.1}", (x(end) - x(begin)).max(2.0))))
            .collect();
        let low = channel.min.iter().copied().fold(f64::NAN, f64::min);
        let high = channel.max.iter().copied().fold(f64::NAN, f64::max);
        if !low.is_finite() || !high.is_finite() {
            return Sparkline { marks, ..Sparkline::default() };
        }
        let pad = 3.0;
        let scale = (high - low).max(f64::MIN_POSITIVE);
        let flat = high == low;
        let y = |value: f64| match flat {
            true => Self::HEIGHT / 2.0,
            false => pad + (1.0 - (value - low) / scale) * (Self::HEIGHT - 2.0 * pad),
        };
        let (mut line, mut band) = (String::new(), String::new());
        for run in runs(channel, t_ms, gap_ms) {
            for (nth, &at) in run.iter().enumerate() {
                let letter = if nth == 0 { 'M' } else { 'L' };
                let _ = write!(line, "{letter}{:.1} {:.1}", x(t_ms[at]), y(channel.mean[at]));
                let _ = write!(band, "{letter}{:.1} {:.1}", x(t_ms[at]), y(channel.max[at]));
            }
            for &at in run.iter().rev() {
                let _ = write!(band, "L{:.1} {:.1}", x(t_ms[at]), y(channel.min[at]));
            }
            band.push('Z');
        }
        Sparkline { line, band, marks, range: Some((low, high)) }
    }
}

/// The points that hang together, as indices.
fn runs(channel: &ChannelPoints, t_ms: &[i64], gap_ms: i64) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut last: Option<usize> = None;
    for at in 0..t_ms.len().min(channel.mean.len()) {
        if !channel.mean[at].is_finite() || !channel.min[at].is_finite() || !channel.max[at].is_finite() {
            last = None;
            continue;
        }
        match (last, runs.last_mut()) {
            (Some(last), Some(run)) if t_ms[at].saturating_sub(t_ms[last]) <= gap_ms => run.push(at),
            _ => runs.push(vec![at]),
        }
        last = Some(at);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(values: &[f64]) -> ChannelPoints {
        let values = values.to_vec();
        ChannelPoints { channel: "a".into(), min: values.clone(), mean: values.clone(), max: values }
    }

    #[test]
    fn lines() {
        #[track_caller]
        fn check(values: &[f64], t_ms: &[i64], expected: &str) {
            assert_eq!(Sparkline::draw(&channel(values), t_ms, (0, 240), 100, &[]).line, expected);
        }
        check(&[0.0, 1.0], &[0, 100], "M0.0 45.0L100.0 3.0");
        check(&[5.0, 5.0], &[0, 100], "M0.0 24.0L100.0 24.0");
        check(&[0.0, f64::NAN, 1.0], &[0, 50, 100], "M0.0 45.0M100.0 3.0");
        check(&[0.0, 1.0], &[0, 200], "M0.0 45.0M200.0 3.0");
        check(&[f64::NAN], &[0], "");
        check(&[], &[], "");
    }

    #[test]
    fn hostile_numbers() {
        let spark = Sparkline::draw(
            &channel(&[f64::MAX, f64::MIN]),
            &[i64::MIN, i64::MAX],
            (i64::MIN, i64::MAX),
            5,
            &[(9, 3)],
        );
        assert_eq!(spark.marks.len(), 1);
        assert_eq!(spark.range, Some((f64::MIN, f64::MAX)));
    }
}
