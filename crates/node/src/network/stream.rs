//! Where a network stands in the stream of its source: which reading, or which picture, makes a look due.
//!
//! Pure, and cheap to copy: whoever wants to know what will be due plays what is coming on a copy.

use std::collections::VecDeque;

use wire::world::WallMs;

/// What a network looks at, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Numbers of a window; 0: it looks at pictures.
    pub(super) held: usize,
    /// Numbers of a reading.
    pub(super) channels: usize,
    /// Readings from one look to the next.
    pub(super) hop: usize,
    /// A longer silence begins another stream.
    pub(super) max_gap_ms: i64,
}

/// What has come of a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Stream {
    /// The last readings, oldest first; shape: `[≤ window, channels]`.
    values: VecDeque<f32>,
    /// Readings since the last look.
    since: usize,
    has_looked: bool,
    last_ms: Option<WallMs>,
}

impl Stream {
    /// Whether it has looked since the stream began.
    pub(super) fn has_looked(&self) -> bool {
        self.has_looked
    }

    /// Whether this time is before that of what arrived last.
    pub(super) fn is_before(&self, t_ms: WallMs) -> bool {
        self.last_ms.is_some_and(|last_ms| t_ms < last_ms)
    }

    /// Something of this time arrives; whether it comes after too long a silence, or out of order.
    pub(super) fn breaks_off(&mut self, t_ms: WallMs, pace: Pace) -> bool {
        let step_ms = self.last_ms.replace(t_ms).map_or(0, |last_ms| t_ms.saturating_sub(last_ms));
        step_ms > pace.max_gap_ms || step_ms < 0
    }

    /// Another stream begins.
    pub(super) fn forget(&mut self) {
        self.values.clear();
        self.since = 0;
        self.has_looked = false;
    }

    /// Takes a reading, of a window, or a picture, which has no `values` here; whether a look is due.
    pub(super) fn take(&mut self, values: &[f64], pace: Pace) -> bool {
        self.values.extend(values.iter().map(|value| *value as f32));
        while self.values.len() > pace.held {
            self.values.drain(..pace.channels);
        }
        self.since += 1;
        let is_due = !self.has_looked || self.since >= pace.hop;
        if self.values.len() < pace.held || !is_due {
            return false;
        }
        self.since = 0;
        self.has_looked = true;
        true
    }

    /// The window, which is full when a look is due.
    pub(super) fn window(&self) -> Vec<f32> {
        self.values.iter().copied().collect()
    }
}
