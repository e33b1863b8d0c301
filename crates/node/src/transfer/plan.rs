//! Which bytes from whom: what each origin did so far, and the next range to ask one of them for. Pure but for the dice.
//!
//! Origins stand in the order in which they are liked. One that fails rests a while, and after three failures in a row
//! makes way for the next; failures count until more is there than ever before. Who gives wrong bytes twice is out.

use std::collections::BTreeSet;
use std::ops::Range;

use wire::world::{Entropy, MonoNs};

use crate::sync::backoff::{Backoff, SECOND_NS};
use crate::transfer::origin::{Fault, OriginId};

/// How much failure is borne, and how much is asked for at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The most bytes of one request.
    pub request_bytes: u64,
    /// The most bytes that are thrown away where an origin knows no ranges, if somebody else could be asked.
    pub skip_bytes: u64,
    /// After so many failures in a row the next origin has its turn.
    pub strikes: u32,
    /// After so many, an origin is not asked again.
    pub failures_max: u32,
    /// After so many wrong pieces, too.
    pub wrong_max: u32,
    /// The first wait after a failure is up to this.
    pub first_wait_ns: MonoNs,
    /// Later ones are up to this.
    pub longest_wait_ns: MonoNs,
    /// The longest wait that an origin may ask for.
    pub asked_longest_ms: u64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            request_bytes: 8 << 20,
            skip_bytes: 8 << 20,
            strikes: 3,
            failures_max: 8,
            wrong_max: 2,
            first_wait_ns: SECOND_NS,
            longest_wait_ns: 300 * SECOND_NS,
            asked_longest_ms: 600_000,
        }
    }
}

/// Who is liked best is waited for, rather than the next one asked, for so long.
const PATIENCE_NS: MonoNs = 10 * SECOND_NS;

/// An attempt that brought less than this counts as a failure all the same, unless it brought all.
const PROGRESS_MIN_BYTES: u64 = 64 << 10;

/// A blob on its way in.
#[derive(Debug, Clone)]
pub struct Part {
    size: u64,
    /// Ascending.
    missing: Vec<Range<u64>>,
    /// The least that was ever missing.
    least_bytes: u64,
    /// Who does not have it.
    absent: BTreeSet<OriginId>,
    /// Who gave wrong bytes, and which.
    doubts: Vec<(OriginId, Range<u64>)>,
}

impl Part {
    /// A blob of `size` bytes.
    pub fn new(size: u64) -> Part {
        Part { size, missing: Vec::new(), least_bytes: size, absent: BTreeSet::new(), doubts: Vec::new() }
    }

    /// What is missing now. Gives whether more is there than ever before.
    pub fn is_missing(&mut self, missing: Vec<Range<u64>>) -> bool {
        self.missing = missing;
        let bytes = self.missing_bytes();
        let is_more = bytes.saturating_add(PROGRESS_MIN_BYTES) <= self.least_bytes
            || (bytes == 0 && self.least_bytes > 0);
        if is_more {
            self.least_bytes = bytes;
        }
        is_more
    }

    /// How much is missing.
    pub fn missing_bytes(&self) -> u64 {
        self.missing.iter().map(|range| range.end - range.start).sum()
    }

    /// All of it came, and it was another blob: it begins again. Who sent it last, if anybody did, is doubted.
    pub fn begin_again(&mut self) {
        self.missing.clear();
        self.least_bytes = self.size;
    }

    /// Whether all of it came.
    pub fn is_all(&self) -> bool {
        self.missing.is_empty()
    }
}

/// A question to an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub origin: OriginId,
    /// For which bytes.
    pub range: Range<u64>,
    /// Whether all of the blob is asked for, since the origin knows no ranges.
    pub whole: bool,
    /// How much of a whole blob may be thrown away to get there.
    pub skip_bytes: u64,
}

/// What comes next for a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// A question.
    Ask(Ask),
    /// All who could be asked rest; the first until then.
    Rest(MonoNs),
    /// Nobody is left.
    Nobody,
}

/// What an origin did so far.
#[derive(Debug, Clone)]
struct Standing {
    backoff: Backoff,
    strikes: u32,
    rests_until: MonoNs,
    wrong: u32,
    whole_only: bool,
    is_out: bool,
    last: Option<Fault>,
}

/// All origins of a transfer.
#[derive(Debug, Clone)]
pub struct Origins {
    rules: Rules,
    all: Vec<Standing>,
}

impl Origins {
    /// So many, the best liked first.
    pub fn new(count: usize, rules: Rules) -> Origins {
        let fresh = Standing {
            backoff: Backoff::new(rules.first_wait_ns, rules.longest_wait_ns),
            strikes: 0,
            rests_until: 0,
            wrong: 0,
            whole_only: false,
            is_out: false,
            last: None,
        };
        Origins { all: vec![fresh; count], rules }
    }

    /// The next question for a part of which something is missing.
    pub fn choose(&self, part: &Part, now: MonoNs) -> Choice {
        let Some(first) = part.missing.first() else { return Choice::Nobody };
        let doubts: Vec<_> = part.doubts.iter().filter(|(_, range)| range.contains(&first.start)).collect();
        let all = (0..self.all.len()).map(OriginId);
        let able: Vec<OriginId> =
            all.filter(|id| !self.all[id.0].is_out && !part.absent.contains(id)).collect();
        // Who gave wrong bytes here, or would send much again, is asked only if nobody else can be.
        let able = rather(able, |id| doubts.iter().all(|(doubted, _)| doubted != id));
        let able = rather(able, |id| !self.all[id.0].whole_only || first.start <= self.rules.skip_bytes);
        let is_liked = |id: &&OriginId| {
            let Standing { strikes, rests_until, .. } = &self.all[id.0];
            *strikes < self.rules.strikes && *rests_until <= now.saturating_add(PATIENCE_NS)
        };
        let liked = able.iter().find(is_liked);
        let soonest = || able.iter().min_by_key(|id| self.all[id.0].rests_until);
        let Some(origin) = liked.or_else(soonest).copied() else { return Choice::Nobody };
        let standing = &self.all[origin.0];
        if standing.rests_until > now {
            return Choice::Rest(standing.rests_until);
        }
        if standing.whole_only {
            let (whole, skip_bytes) = (true, part.size);
            return Choice::Ask(Ask { origin, range: 0..part.size, whole, skip_bytes });
        }
        let end = first.end.min(first.start.saturating_add(self.rules.request_bytes));
        // Only what was wrong is asked of another.
        let end = doubts.iter().fold(end, |end, (_, range)| end.min(range.end));
        let (whole, skip_bytes) = (false, self.rules.skip_bytes);
        Choice::Ask(Ask { origin, range: first.start..end, whole, skip_bytes })
    }

    /// An origin brought more than was ever there.
    pub fn progressed(&mut self, origin: OriginId) {
        let standing = &mut self.all[origin.0];
        standing.backoff.reset();
        standing.strikes = 0;
    }

    /// An origin failed.
    pub fn failed(
        &mut self,
        origin: OriginId,
        fault: Fault,
        part: &mut Part,
        now: MonoNs,
        chance: &mut dyn Entropy,
    ) {
        let rules = &self.rules;
        let standing = &mut self.all[origin.0];
        let mut rest = |strikes: u32, asked_ms: u64| {
            let wait_ns = standing.backoff.fail(chance).max(asked_ms.saturating_mul(SECOND_NS / 1000));
            standing.rests_until = now.saturating_add(wait_ns);
            standing.strikes = standing.strikes.saturating_add(strikes);
            standing.is_out |= standing.backoff.failures() >= rules.failures_max;
        };
        match &fault {
            Fault::Unreachable { .. } | Fault::Reset { .. } => rest(1, 0),
            // Whoever is that slow once will be again: somebody else's turn.
            Fault::Slow => rest(rules.strikes, 0),
            Fault::Busy { asked_ms, .. } => {
                let asked_ms = asked_ms.unwrap_or(0);
                rest(1, asked_ms);
                standing.is_out |= asked_ms > rules.asked_longest_ms;
            }
            Fault::WholeForRange => standing.whole_only = true,
            Fault::WrongBytes { range } => {
                part.doubts.push((origin, range.clone()));
                standing.wrong += 1;
            }
            Fault::WrongRange { .. } => standing.wrong += 1,
            Fault::NotThere => drop(part.absent.insert(origin)),
            Fault::Denied { .. } => standing.is_out = true,
        }
        standing.is_out |= standing.wrong >= rules.wrong_max;
        standing.last = Some(fault);
    }

    /// How an origin failed last, if it ever did.
    pub fn fault(&self, origin: OriginId) -> Option<&Fault> {
        self.all[origin.0].last.as_ref()
    }
}

/// Those of `ids` that are good, or all of them if none is.
fn rather(ids: Vec<OriginId>, good: impl Fn(&OriginId) -> bool) -> Vec<OriginId> {
    let better: Vec<OriginId> = ids.iter().copied().filter(good).collect();
    if better.is_empty() { ids } else { better }
}
