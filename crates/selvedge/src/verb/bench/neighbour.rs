//! A busy neighbour: another process beside the one that is measured, which keeps a core busy for no use.
//!
//! On a gateway an engine is seldom alone, and threads that wait for each other at every matrix fall with the slowest.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Multiplications between two looks whether it is over: some microseconds.
const TOIL: u64 = 10_000;

/// Does the work, of another process, while a thread of this one is busy if `busy`. It ends with the work, however that ends.
pub(super) fn beside<T>(busy: bool, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(!busy);
    thread::scope(|scope| {
        let _ends = Ends(&over);
        scope.spawn(|| toil(&over));
        work()
    })
}

/// No pauses: the machine under a virtual one takes them for idleness.
fn toil(over: &AtomicBool) {
    let mut number = 1_u64;
    while !over.load(Ordering::Relaxed) {
        for _ in 0..TOIL {
            number = black_box(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
    }
}

/// Whoever looks at it knows that it is over when this is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::beside;

    #[test]
    fn it_ends_with_the_work() {
        assert_eq!((beside(true, || 1), beside(false, || 2)), (1, 2));
        let failed = std::panic::catch_unwind(|| beside(true, || panic!("as a test may")));
        assert!(failed.is_err(), "and also if that fails");
    }
}
