//! Makes one reading of values that come one by one: a topic for each channel, a line for each sensor.
//!
//! A reading begins with its first value and has its time. It ends when all channels are there, when a channel comes
//! again, or when the span is over; what did not come is missing. Without a span each sample is a reading.

use wire::world::{MonoNs, WallMs};

use super::payload::Sample;
use super::queue::Batch;

/// Collects values.
#[derive(Debug)]
pub(super) struct Gather {
    span_ns: MonoNs,
    channels: usize,
    row: Vec<f64>,
    seen: Vec<bool>,
    /// The time of the reading under way, and when it began here.
    open: Option<(WallMs, MonoNs)>,
}

impl Gather {
    /// For readings of so many channels, from values of at most `span_ms`.
    pub(super) fn new(channels: usize, span_ms: i64) -> Gather {
        let span_ns = span_ms.max(0) as u64 * 1_000_000;
        Gather { span_ns, channels, row: vec![f64::NAN; channels], seen: vec![false; channels], open: None }
    }

    /// Takes what came at `now_ns`; whole readings go to `batch`.
    pub(super) fn push(&mut self, t_ms: WallMs, sample: &Sample, now_ns: MonoNs, batch: &mut Batch) {
        let again = sample.values.iter().any(|(channel, _)| self.seen[*channel]);
        if again || self.due(now_ns) {
            self.close(batch);
        }
        self.open.get_or_insert((t_ms, now_ns));
        for (channel, value) in &sample.values {
            (self.row[*channel], self.seen[*channel]) = (*value, true);
        }
        if self.span_ns == 0 || self.seen.iter().all(|seen| *seen) {
            self.close(batch);
        }
    }

    /// When the reading under way ends, if one is.
    pub(super) fn due_ns(&self) -> Option<MonoNs> {
        self.open.map(|(_, began_ns)| began_ns + self.span_ns)
    }

    /// Whether that is now.
    pub(super) fn due(&self, now_ns: MonoNs) -> bool {
        self.due_ns().is_some_and(|due_ns| now_ns >= due_ns)
    }

    /// Whether a reading is under way.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Ends the reading under way.
    pub(super) fn close(&mut self, batch: &mut Batch) {
        let Some((t_ms, _)) = self.open.take() else { return };
        batch.t_ms.push(t_ms);
        batch.values.extend_from_slice(&self.row);
        self.row.fill(f64::NAN);
        self.seen.fill(false);
        debug_assert_eq!(batch.values.len(), batch.t_ms.len() * self.channels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[(usize, f64)]) -> Sample {
        Sample { device_ms: None, values: values.to_vec() }
    }

    fn rows(batch: &Batch) -> Vec<(i64, String)> {
        let row = |(t_ms, row): (&i64, &[f64])| (*t_ms, format!("{row:?}"));
        batch.t_ms.iter().zip(batch.values.chunks(2)).map(row).collect()
    }

    #[test]
    fn readings_from_single_values() {
        let (mut gather, mut batch) = (Gather::new(2, 1_000), Batch::default());
        gather.push(10, &sample(&[(0, 1.0)]), 0, &mut batch);
        assert_eq!(gather.due_ns(), Some(1_000_000_000));
        gather.push(12, &sample(&[(1, 2.0)]), 2, &mut batch);
        assert!(!gather.is_open(), "it is whole");
        gather.push(20, &sample(&[(0, 3.0)]), 10, &mut batch);
        gather.push(30, &sample(&[(0, 4.0)]), 20, &mut batch);
        gather.push(2_000, &sample(&[(1, 5.0)]), 2_000_000_000, &mut batch);
        gather.close(&mut batch);
        gather.close(&mut batch);
        let expected = [(10, "[1.0, 2.0]"), (20, "[3.0, NaN]"), (30, "[4.0, NaN]"), (2_000, "[NaN, 5.0]")];
        assert_eq!(rows(&batch), expected.map(|(t_ms, row)| (t_ms, row.to_owned())));
    }

    #[test]
    fn without_a_span_each_sample_is_a_reading() {
        let (mut gather, mut batch) = (Gather::new(2, 0), Batch::default());
        gather.push(10, &sample(&[(0, 1.0)]), 0, &mut batch);
        gather.push(11, &sample(&[(1, 2.0)]), 0, &mut batch);
        assert_eq!(rows(&batch), [(10, "[1.0, NaN]".to_owned()), (11, "[NaN, 2.0]".to_owned())]);
    }
}
