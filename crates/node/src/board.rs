//! The latest value of each field that a condition speaks of, with its time: what conditions read, and nothing else.
//!
//! A place on the board is a [`Slot`], given out while a flow is checked, so a value costs no look-up when it comes. What
//! always holds:
//!
//! - A value that did not come is missing, and the one before it is not taken for it.
//! - A value that is further away in time than it may be, either way, is missing too: a source that fell silent does not
//!   go on speaking, and one whose clock runs ahead does not speak for the future.

use std::sync::Arc;

use wire::world::WallMs;

/// How many intervals are remembered to know what is usual.
const INTERVALS: usize = 8;
/// So many usual intervals without a reading, and a source's values count as missing.
const STALE_INTERVALS: i64 = 10;
/// They never do sooner than this.
const STALE_AT_LEAST_MS: i64 = 60_000;
/// The time of a value that never came.
const NEVER: WallMs = WallMs::MIN;

/// A place on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// What kind of value stands in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// A word.
    Text,
    /// A span of time, in milliseconds. Only expressions have it, no slot does.
    Duration,
}

impl Kind {
    /// The word for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Number => "a number",
            Kind::Bool => "true or false",
            Kind::Text => "a text",
            Kind::Duration => "a duration",
        }
    }
}

/// How often a source speaks.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    last_ms: Option<WallMs>,
    intervals_ms: [i64; INTERVALS],
}

impl Pace {
    /// Notes a reading; gives the interval before it, negative if the clock was set back. `None` at the first.
    pub fn note(&mut self, t_ms: WallMs) -> Option<i64> {
        let interval_ms = t_ms.saturating_sub(self.last_ms.replace(t_ms)?);
        if interval_ms >= 0 {
            self.intervals_ms.rotate_left(1);
            self.intervals_ms[INTERVALS - 1] = interval_ms;
        }
        Some(interval_ms)
    }

    /// The longest of the last eight intervals; 0 before the second reading.
    pub fn longest_ms(&self) -> i64 {
        self.intervals_ms.iter().copied().max().unwrap_or(0)
    }

    /// The time of the last reading.
    pub fn last_ms(&self) -> Option<WallMs> {
        self.last_ms
    }
}

/// One value. Numbers and truths share a field: 1 is true, 0 is false, NaN is missing.
#[derive(Debug, Clone)]
struct Cell {
    number: f64,
    text: Option<Arc<str>>,
    /// When it was written last, also as missing.
    written_ms: WallMs,
    /// When it was last there.
    seen_ms: WallMs,
    source: usize,
}

/// The board of one flow.
#[derive(Debug, Clone)]
pub struct Board {
    cells: Vec<Cell>,
    paces: Vec<Pace>,
}

impl Board {
    /// An empty board.
    pub fn new(slots: usize, sources: usize) -> Board {
        let empty =
            Cell { number: f64::NAN, text: None, written_ms: NEVER, seen_ms: NEVER, source: usize::MAX };
        Board { cells: vec![empty; slots], paces: vec![Pace::default(); sources] }
    }

    /// A source gave a reading.
    pub fn step(&mut self, source: usize, t_ms: WallMs) {
        if let Some(pace) = self.paces.get_mut(source) {
            pace.note(t_ms);
        }
    }

    /// Writes a number, NaN if it is missing. `source`: the source whose reading brought it about.
    pub fn number(&mut self, slot: Slot, source: usize, t_ms: WallMs, number: f64) {
        let cell = &mut self.cells[slot.0 as usize];
        cell.number = number;
        cell.written_ms = t_ms;
        cell.source = source;
        if !number.is_nan() {
            cell.seen_ms = t_ms;
        }
    }

    /// Writes true or false.
    pub fn truth(&mut self, slot: Slot, source: usize, t_ms: WallMs, truth: Option<bool>) {
        self.number(slot, source, t_ms, truth.map_or(f64::NAN, f64::from));
    }

    /// Writes a word. Allocates only if it is another one than before.
    pub fn text(&mut self, slot: Slot, source: usize, t_ms: WallMs, text: Option<&str>) {
        let cell = &mut self.cells[slot.0 as usize];
        if cell.text.as_deref() != text {
            cell.text = text.map(Arc::from);
        }
        cell.written_ms = t_ms;
        cell.source = source;
        if text.is_some() {
            cell.seen_ms = t_ms;
        }
    }

    /// Takes a value away, as if it had never come.
    pub fn forget(&mut self, slot: Slot) {
        let cell = &mut self.cells[slot.0 as usize];
        *cell = Cell { number: f64::NAN, text: None, written_ms: NEVER, seen_ms: NEVER, source: usize::MAX };
    }

    /// Takes over a value of another board, whose source number `from` is number `to` here.
    pub fn take(
        &mut self,
        slot: Slot,
        other: &Board,
        others: Slot,
        sources: impl Fn(usize) -> Option<usize>,
    ) {
        let mut cell = other.cells[others.0 as usize].clone();
        cell.source = sources(cell.source).unwrap_or(usize::MAX);
        self.cells[slot.0 as usize] = cell;
    }

    /// Takes over how often a source speaks.
    pub fn take_pace(&mut self, source: usize, other: &Board, others: usize) {
        self.paces[source] = other.paces[others].clone();
    }

    /// The board as it looks at a time.
    pub fn at(&self, now_ms: WallMs, stale_after_ms: Option<i64>) -> View<'_> {
        View { board: self, now_ms, stale_after_ms }
    }

    /// When a value was last written, also as missing; `None` before.
    pub fn written_ms(&self, slot: Slot) -> Option<WallMs> {
        Some(self.cells[slot.0 as usize].written_ms).filter(|written_ms| *written_ms != NEVER)
    }
}

/// The board at a time: values that are too old for it are missing.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    board: &'a Board,
    now_ms: WallMs,
    stale_after_ms: Option<i64>,
}

impl<'a> View<'a> {
    fn fresh(self, slot: Slot) -> Option<&'a Cell> {
        let cell = &self.board.cells[slot.0 as usize];
        if cell.written_ms == self.now_ms {
            return Some(cell);
        }
        if cell.written_ms == NEVER {
            return None;
        }
        let limit_ms = self.stale_after_ms.unwrap_or_else(|| {
            let longest_ms = self.board.paces.get(cell.source).map_or(0, Pace::longest_ms);
            longest_ms.saturating_mul(STALE_INTERVALS).max(STALE_AT_LEAST_MS)
        });
        let away_ms = self.now_ms.saturating_sub(cell.written_ms).saturating_abs();
        (away_ms <= limit_ms).then_some(cell)
    }

    /// A number; NaN if it is missing.
    pub fn number(self, slot: Slot) -> f64 {
        self.fresh(slot).map_or(f64::NAN, |cell| cell.number)
    }

    /// True or false; `None` if it is missing.
    pub fn truth(self, slot: Slot) -> Option<bool> {
        let number = self.number(slot);
        (!number.is_nan()).then_some(number != 0.0)
    }

    /// A word; `None` if it is missing.
    pub fn text(self, slot: Slot) -> Option<&'a str> {
        self.fresh(slot)?.text.as_deref()
    }

    /// Whether there is a value.
    pub fn has(self, slot: Slot) -> bool {
        self.fresh(slot).is_some_and(|cell| !cell.number.is_nan() || cell.text.is_some())
    }

    /// Milliseconds since there was a value, at least 0; NaN if there never was one.
    pub fn age_ms(self, slot: Slot) -> f64 {
        match self.board.cells[slot.0 as usize].seen_ms {
            NEVER => f64::NAN,
            seen_ms => self.now_ms.saturating_sub(seen_ms).max(0) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Slot = Slot(0);

    #[test]
    fn a_value_is_there_until_it_is_too_old() {
        fn check(interval_ms: i64, stale_after_ms: Option<i64>, age_ms: i64, there: bool) {
            let mut board = Board::new(1, 1);
            for n in 0..3 {
                board.step(0, n * interval_ms);
                board.number(A, 0, n * interval_ms, 5.0);
            }
            let view = board.at(2 * interval_ms + age_ms, stale_after_ms);
            assert_eq!(view.has(A), there, "{interval_ms} {stale_after_ms:?} {age_ms}");
            assert_eq!(view.number(A).is_nan(), !there);
            assert_eq!(view.age_ms(A), age_ms.max(0) as f64);
        }
        check(1_000, None, 60_000, true);
        check(1_000, None, 60_001, false);
        check(60_000, None, 600_000, true);
        check(60_000, None, 600_001, false);
        check(60_000, Some(5_000), 5_001, false);
        // A clock that is far ahead of ours is as wrong as one that is far behind.
        check(1_000, None, -60_000, true);
        check(1_000, None, -60_001, false);
    }

    #[test]
    fn a_missing_value_hides_the_one_before() {
        let mut board = Board::new(1, 1);
        board.number(A, 0, 0, 5.0);
        board.number(A, 0, 10, f64::NAN);
        assert_eq!((board.at(10, None).has(A), board.at(10, None).age_ms(A)), (false, 10.0));
        board.text(A, 0, 20, Some("person"));
        assert_eq!(board.at(20, None).text(A), Some("person"));
        board.forget(A);
        assert!(board.at(20, None).age_ms(A).is_nan() && board.at(20, None).text(A).is_none());
    }

    #[test]
    fn truths() {
        let mut board = Board::new(1, 1);
        assert_eq!(board.at(0, None).truth(A), None);
        for truth in [Some(true), Some(false), None] {
            board.truth(A, 0, 1, truth);
            assert_eq!(board.at(1, None).truth(A), truth);
        }
    }
}
