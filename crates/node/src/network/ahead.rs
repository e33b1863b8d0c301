//! Answers that were asked for ahead, with others in one run, and wait until their turn comes.
//!
//! What waits to be looked at is known before it is looked at: so a network whose recipe allows it is asked for several looks together,
//! and each answer is handed out when the look is due, if what is looked at then is what was foreseen, bit for bit. If it is not, the
//! answers are forgotten and the look is a look of its own. So nothing but time depends on what was foreseen.

use std::collections::VecDeque;

use net::after::Answer;
use wire::hash::Hash;
use wire::world::MonoNs;

/// What is looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    /// A window of readings, by the bits of its numbers.
    Window(Vec<u32>),
    /// A picture, by its digest.
    Picture(Hash),
}

impl Seen {
    /// A window.
    pub(super) fn window(values: &[f32]) -> Seen {
        Seen::Window(values.iter().map(|value| value.to_bits()).collect())
    }
}

/// An answer, and the time that it took, as its share of the run.
#[derive(Debug)]
pub(super) struct Foreseen {
    pub(super) seen: Seen,
    pub(super) answer: Answer,
    pub(super) took_ns: MonoNs,
}

/// Those that wait, in the order in which they are due.
#[derive(Debug, Default)]
pub(super) struct Ahead(VecDeque<Foreseen>);

impl Ahead {
    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more, which is due after the others.
    pub(super) fn push(&mut self, foreseen: Foreseen) {
        self.0.push_back(foreseen);
    }

    /// The answer to this look, if it is the one that was foreseen next; otherwise all of them are forgotten. `seen` is asked for only
    /// if one waits.
    pub(super) fn take(&mut self, seen: impl FnOnce() -> Seen) -> Option<Foreseen> {
        let next = self.0.pop_front()?;
        if next.seen == seen() {
            return Some(next);
        }
        self.0.clear();
        None
    }

    /// They are another network's.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}
