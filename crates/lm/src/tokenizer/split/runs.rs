//! Runs of characters of a set, with or without a blank before them: `\p{N}{1,3}`, `\s?\p{P}+`.

use crate::tokenizer::class::Class;
use crate::tokenizer::split::scan::{after, character};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) lead: Lead,
    pub(crate) set: Set,
    pub(crate) least: usize,
    pub(crate) most: usize,
}

/// What may stand before a run and belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lead {
    Nothing,
    /// ` ?`
    Blank,
    /// `\s?`
    Space,
}

/// Characters by class, by ranges, or all but those.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    pub(crate) class: Class,
    pub(crate) ranges: &'static [(char, char)],
    /// Not in the set although the class says so.
    pub(crate) except: &'static [(char, char)],
    /// The set is what is *not* of the class and the ranges.
    pub(crate) negated: bool,
}

impl Set {
    /// The characters of a class.
    pub(crate) const fn class(class: Class) -> Set {
        Set { class, ranges: &[], except: &[], negated: false }
    }

    /// The characters of ranges, both ends included.
    pub(crate) const fn ranges(ranges: &'static [(char, char)]) -> Set {
        Set { class: Class::NONE, ranges, except: &[], negated: false }
    }

    fn has(&self, character: char) -> bool {
        let within =
            |ranges: &[(char, char)]| ranges.iter().any(|&(first, last)| (first..=last).contains(&character));
        let named = Class::of(character).meets(self.class) && !within(self.except) || within(self.ranges);
        named != self.negated
    }
}

impl Run {
    /// As many as there are, at least one.
    pub(crate) const fn of(set: Set) -> Run {
        Run { lead: Lead::Nothing, set, least: 1, most: usize::MAX }
    }

    /// The end of the run that starts at `at`, if one does.
    pub(super) fn end(&self, text: &str, at: usize) -> Option<usize> {
        let first = character(text, at)?;
        let led = match self.lead {
            Lead::Nothing => false,
            Lead::Blank => first == ' ',
            Lead::Space => first.is_whitespace(),
        };
        let with_lead = if led { self.bare(text, after(text, at)) } else { None };
        with_lead.or_else(|| self.bare(text, at))
    }

    fn bare(&self, text: &str, start: usize) -> Option<usize> {
        let (mut end, mut count) = (start, 0);
        while count < self.most
            && let Some(character) = character(text, end)
            && self.set.has(character)
        {
            end += character.len_utf8();
            count += 1;
        }
        (count >= self.least).then_some(end)
    }
}
