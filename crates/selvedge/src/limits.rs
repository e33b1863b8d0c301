//! What this machine could do at most on some threads: the roofs that a model's speed is a share of.
//!
//! A prompt is bound by int8 products, an answer by reading weights. Both are measured around a model's own measurements,
//! in the same minute, as virtual machines change by the minute. The fastest of several passes counts: whatever
//! else goes on only takes away, so that a share is never flattered.

use std::hint::black_box;
use std::num::NonZeroUsize;

use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::matmul::integer_peak;
use kernels::roofline::{Field, Pages};
use serde::Serialize;
use wire::world::{Clock as _, MonoNs, System};

use crate::amount::show_number;

/// Bytes that are read: several times the caches of most machines, little beside a model.
const FIELD_BYTES: usize = 256 << 20;
/// Passes, of which the fastest counts.
const PASSES: usize = 5;
/// The shortest pass of products that is believed.
const PASS_NS: MonoNs = 10_000_000;

/// The roofs, on some threads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Limits {
    /// Multiplications and additions of int8 numbers, a second.
    pub(crate) operations_per_second: f64,
    /// Bytes read a second, from pages of the usual size; absent where there was no memory to read.
    pub(crate) read_per_second: Option<f64>,
    /// From huge pages; absent where there are none.
    pub(crate) read_huge_per_second: Option<f64>,
}

impl Limits {
    /// Measures them: about half a second.
    pub(crate) fn measure(isa: Isa, threads: NonZeroUsize, clock: &System) -> Limits {
        let compute = Compute::new(isa, threads);
        let reading = |pages| {
            let field = Field::new(FIELD_BYTES, pages).ok()?;
            let ns = fastest(clock, || {
                black_box(field.read(&compute));
            });
            Some(field.bytes() as f64 / (ns as f64 / 1e9))
        };
        Limits {
            operations_per_second: operations_per_second(&compute, clock),
            read_per_second: reading(Pages::Small),
            read_huge_per_second: reading(Pages::Huge),
        }
    }

    /// The higher of each.
    pub(crate) fn higher(self, other: Limits) -> Limits {
        // `None` is less than any number.
        let higher = |a: Option<f64>, b: Option<f64>| if a > b { a } else { b };
        Limits {
            operations_per_second: self.operations_per_second.max(other.operations_per_second),
            read_per_second: higher(self.read_per_second, other.read_per_second),
            read_huge_per_second: higher(self.read_huge_per_second, other.read_huge_per_second),
        }
    }

    /// Which share of the int8 peak so many operations a second are.
    pub(crate) fn share_of_peak(&self, operations_per_second: f64) -> f64 {
        operations_per_second / self.operations_per_second
    }

    /// Which share of the reading, from whichever pages are faster, so many bytes a second are.
    pub(crate) fn share_of_reading(&self, bytes_per_second: f64) -> Option<f64> {
        let [small, huge] = [self.read_per_second, self.read_huge_per_second].map(|read| read.unwrap_or(0.0));
        let most = small.max(huge);
        (most > 0.0).then(|| bytes_per_second / most)
    }

    /// `at most, on 2 threads: 889 int8 GOP/s, reads 38.0 GB/s, from huge pages 61.0 GB/s`.
    pub(crate) fn line(&self, threads: usize) -> String {
        let giga = |per_second: f64| show_number(per_second / 1e9);
        let peak = giga(self.operations_per_second);
        let reads = |read: Option<f64>, how: &str| {
            read.map_or_else(String::new, |read| format!(", {how} {} GB/s", giga(read)))
        };
        let small = reads(self.read_per_second, "reads");
        let huge = reads(self.read_huge_per_second, "from huge pages");
        let plural = if threads == 1 { "" } else { "s" };
        format!("at most, on {threads} thread{plural}: {peak} int8 GOP/s{small}{huge}")
    }
}

fn operations_per_second(compute: &Compute, clock: &System) -> f64 {
    let threads = compute.pool().threads();
    let pass = |rounds| {
        compute.pool().run(threads, &|_| {
            black_box(integer_peak(compute.isa(), rounds));
        });
    };
    // As many rounds as take a while, whatever the path: the scalar one is a hundred times slower.
    let mut rounds = 1_000;
    while time(clock, || pass(rounds)) < PASS_NS {
        rounds *= 2;
    }
    let ns = fastest(clock, || pass(rounds));
    // One round tells how many operations it is.
    (threads * rounds * integer_peak(compute.isa(), 1)) as f64 / (ns as f64 / 1e9)
}

fn fastest(clock: &System, mut work: impl FnMut()) -> MonoNs {
    (0..PASSES).map(|_| time(clock, &mut work)).min().unwrap_or(MonoNs::MAX)
}

/// Nanoseconds that the work took, at least one.
fn time(clock: &System, work: impl FnOnce()) -> MonoNs {
    let begun = clock.mono_ns();
    work();
    (clock.mono_ns() - begun).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_limits() {
        let limits = Limits::measure(Isa::best(), NonZeroUsize::MIN, &System::new());
        assert!(limits.operations_per_second > 1e6, "{limits:?}");
        assert!(limits.read_per_second.is_some_and(|read| read > 1e6), "{limits:?}");
    }

    #[test]
    fn the_higher_roof_counts() {
        let low =
            Limits { operations_per_second: 10.0, read_per_second: Some(4.0), read_huge_per_second: None };
        let high = Limits {
            operations_per_second: 8.0,
            read_per_second: Some(5.0),
            read_huge_per_second: Some(8.0),
        };
        let both = low.higher(high);
        let expected = Limits {
            operations_per_second: 10.0,
            read_per_second: Some(5.0),
            read_huge_per_second: Some(8.0),
        };
        assert_eq!((both, high.higher(low)), (expected, expected));
        assert_eq!((both.share_of_peak(6.0), both.share_of_reading(6.0)), (0.6, Some(0.75)));
        assert_eq!(
            Limits { operations_per_second: 889e9, read_per_second: Some(38e9), ..low }.line(2),
            "at most, on 2 threads: 889 int8 GOP/s, reads 38.0 GB/s"
        );
        assert_eq!(Limits { read_per_second: None, ..low }.share_of_reading(1.0), None);
    }
}
