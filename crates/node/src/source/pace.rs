//! Hands recorded or simulated readings to the queue as if they happened now.

use std::time::Duration;

use wire::world::{MonoNs, WallMs};

use super::queue::{Batch, Inlet, Stopped};
use crate::flow::source::Speed;

/// The most readings in one batch.
const BATCH_READINGS: usize = 256;

/// Sends readings when their time has come.
pub(super) struct Pace {
    speed: Speed,
    /// The source's time and the node's at the first reading.
    begin: Option<(WallMs, MonoNs)>,
    batch: Batch,
}

impl Pace {
    /// The first reading is due at once, the others after it as their times say.
    pub(super) fn new(speed: Speed) -> Pace {
        Pace { speed, begin: None, batch: Batch::default() }
    }

    /// A reading of `now_ms` is due now; what is older is due at once.
    pub(super) fn at(speed: Speed, now_ms: WallMs, now_ns: MonoNs) -> Pace {
        Pace { speed, begin: Some((now_ms, now_ns)), batch: Batch::default() }
    }

    /// Takes one reading; waits until it is due.
    pub(super) fn push(&mut self, t_ms: WallMs, values: &[f64], inlet: &mut Inlet) -> Result<(), Stopped> {
        if let Speed::Times(times) = self.speed {
            let now_ns = inlet.clock().mono_ns();
            let (begin_ms, begin_ns) = *self.begin.get_or_insert((t_ms, now_ns));
            let due_ns = begin_ns as f64 + t_ms.saturating_sub(begin_ms) as f64 * 1e6 / times;
            let early_ns = due_ns - now_ns as f64;
            // What is due together travels together: nothing waits in the batch while we sleep.
            if early_ns > 0.0 {
                self.flush(inlet)?;
                inlet.pause(Duration::from_secs_f64((early_ns / 1e9).min(86_400.0)))?;
            }
        }
        self.batch.t_ms.push(t_ms);
        self.batch.values.extend_from_slice(values);
        if self.batch.t_ms.len() == BATCH_READINGS {
            self.flush(inlet)?;
        }
        Ok(())
    }

    /// Sends what has been taken and not sent.
    pub(super) fn flush(&mut self, inlet: &mut Inlet) -> Result<(), Stopped> {
        if self.batch.t_ms.is_empty() {
            return Ok(());
        }
        inlet.send(std::mem::take(&mut self.batch))
    }
}
