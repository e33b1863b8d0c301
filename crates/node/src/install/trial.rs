//! A trial: a candidate answers for real, and its answers are counted until they say enough. Pure.
//!
//! It passes when it ran long enough *and* answered often enough; it fails at once when too many answers fail, and at the
//! end when they are too slow. On a machine that nobody asks, cases of the golden set fill up to half of the answers; the
//! other half is waited for, for a day at most.

use std::collections::VecDeque;
use std::time::Duration;

use wire::world::MonoNs;

/// How many times of answers are kept, the newest: enough for a quantile.
const TIMES_KEPT: usize = 1024;

/// One failed answer in so many is borne.
const ANSWERS_PER_FAILURE: u32 = 20;

/// So long nobody asked before a golden case is played.
const IDLE: Duration = Duration::from_secs(60);

/// What a trial asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialRules {
    /// How long it takes at least.
    pub least: Duration,
    /// How many answers it takes; 0: none.
    pub answers: u32,
    /// How long half of the answers are waited for at most.
    pub most: Duration,
    /// 95 of 100 answers must take no longer.
    pub p95_ms: Option<u32>,
}

impl Default for TrialRules {
    fn default() -> TrialRules {
        let (least, most) = (Duration::from_secs(600), Duration::from_secs(24 * 3600));
        TrialRules { least, answers: 20, most, p95_ms: None }
    }
}

/// How far a candidate is compared with the current model before its trial, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Until so many answers are compared,
    pub answers: u32,
    /// or so long.
    pub at_most: Duration,
}

impl Default for Extent {
    fn default() -> Extent {
        Extent { answers: 20, at_most: Duration::from_secs(3_600) }
    }
}

/// An answer of the model on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// How long a token of it took: the mean of those behind the first, for which the prompt is read, rounded up. Of an answer
    /// of one token, what that took since the model turned to it; of vectors, the mean of a text's. So it is of the kind that
    /// [`package::golden::Budget::p95_ms`] limits.
    pub ms: u32,
    /// Whether it is one.
    pub ok: bool,
    /// Whether it was asked for by us, from the golden set.
    pub golden: bool,
}

/// What the answers so far say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not enough yet.
    Open,
    /// It may stay.
    Passed,
    /// It must go.
    Failed {
        /// Why.
        why: String,
    },
    /// Nobody can tell, and the time is up.
    Undecided {
        /// Why.
        why: String,
    },
}

/// The counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    began_ns: MonoNs,
    /// When it last answered, or was last asked for a golden case.
    last_ns: MonoNs,
    asked: u32,
    golden: u32,
    failed: u32,
    times_ms: VecDeque<u32>,
}

impl Trial {
    /// Begins now.
    pub fn begin(now_ns: MonoNs) -> Trial {
        Trial { began_ns: now_ns, last_ns: now_ns, asked: 0, golden: 0, failed: 0, times_ms: VecDeque::new() }
    }

    /// Counts an answer.
    pub fn note(&mut self, answer: Answer, now_ns: MonoNs) {
        self.last_ns = now_ns;
        match answer {
            Answer { ok: false, .. } => self.failed = self.failed.saturating_add(1),
            Answer { golden: true, .. } => self.golden = self.golden.saturating_add(1),
            Answer { .. } => self.asked = self.asked.saturating_add(1),
        }
        if answer.ok {
            if self.times_ms.len() == TIMES_KEPT {
                self.times_ms.pop_front();
            }
            self.times_ms.push_back(answer.ms);
        }
    }

    /// Whether a golden case should be played, since nobody asks; if so, the next one is a while off.
    pub fn wants_golden(&mut self, rules: &TrialRules, now_ns: MonoNs) -> bool {
        let idle = since(self.last_ns, now_ns) >= IDLE;
        let wants = idle && self.golden < rules.answers / 2 && self.counted(rules) < rules.answers;
        if wants {
            self.last_ns = now_ns;
        }
        wants
    }

    /// How long it runs, how many of its answers count, and how many of them failed.
    pub fn progress(&self, rules: &TrialRules, now_ns: MonoNs) -> (Duration, u32, u32) {
        (since(self.began_ns, now_ns), self.counted(rules), self.failed)
    }

    /// 95 of 100 of the newest good answers took at most this.
    pub fn p95_ms(&self) -> Option<u32> {
        let mut times: Vec<u32> = self.times_ms.iter().copied().collect();
        times.sort_unstable();
        let rank = (times.len() * 95).div_ceil(100);
        times.get(rank.checked_sub(1)?).copied()
    }

    /// What the answers say.
    pub fn verdict(&self, rules: &TrialRules, now_ns: MonoNs) -> Verdict {
        let counted = self.counted(rules);
        let all = self.asked.saturating_add(self.golden).saturating_add(self.failed);
        if self.failed > (all.max(rules.answers) / ANSWERS_PER_FAILURE).max(1) {
            return Verdict::Failed { why: format!("{} of {all} answers failed", self.failed) };
        }
        let (time, half) = (since(self.began_ns, now_ns), rules.answers.div_ceil(2));
        let is_over =
            time >= rules.least && counted >= rules.answers || time >= rules.most && counted >= half;
        if is_over {
            return match (self.p95_ms(), rules.p95_ms) {
                (Some(p95), Some(most)) if p95 > most => Verdict::Failed {
                    why: format!("95 of 100 answers took up to {p95} ms, {most} ms are allowed"),
                },
                _ => Verdict::Passed,
            };
        }
        if time >= rules.most {
            let why = format!("it answered {counted} times in {} s, {half} are needed", time.as_secs());
            return Verdict::Undecided { why };
        }
        Verdict::Open
    }

    /// Good answers, of which at most half are golden.
    fn counted(&self, rules: &TrialRules) -> u32 {
        self.asked.saturating_add(self.golden.min(rules.answers / 2))
    }
}

/// How long ago something was.
pub fn since(then_ns: MonoNs, now_ns: MonoNs) -> Duration {
    Duration::from_nanos(now_ns.saturating_sub(then_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_NS: u64 = 60_000_000_000;

    fn rules() -> TrialRules {
        TrialRules { answers: 4, p95_ms: Some(100), ..TrialRules::default() }
    }

    /// One letter an answer: `.` good, `g` good and golden, `s` slow, `x` failed.
    fn verdict(answers: &str, minutes: u64) -> Verdict {
        let mut trial = Trial::begin(MINUTE_NS);
        for letter in answers.chars() {
            let ms = if letter == 's' { 101 } else { 100 };
            trial.note(Answer { ms, ok: letter != 'x', golden: letter == 'g' }, MINUTE_NS);
        }
        trial.verdict(&rules(), (1 + minutes) * MINUTE_NS)
    }

    #[test]
    fn a_trial_ends_when_time_and_answers_suffice() {
        fn check(answers: &str, minutes: u64, expected: &str) {
            let found = format!("{:?}", verdict(answers, minutes));
            assert!(found.starts_with(expected), "{answers} {minutes}: {found}");
        }
        check("", 0, "Open");
        check("....", 9, "Open");
        check("....", 10, "Passed");
        check("...", 1439, "Open");
        check("..gggg", 10, "Passed");
        check(".gggggg", 10, "Open");
        // An idle machine: half of them, after a day.
        check("gggg", 1439, "Open");
        check("gggg", 1440, "Passed");
        check(".", 1440, "Undecided");
        // One may fail, at once no second.
        check("....x", 10, "Passed");
        check("x....x", 0, "Failed");
        check(&".".repeat(58), 10, "Passed");
        check(&format!("{}xx", ".".repeat(38)), 10, "Passed");
        check(&format!("{}xx", ".".repeat(37)), 10, "Failed");
        // Five of a hundred may be slow.
        check("s...", 10, "Failed");
        check(&format!("s{}", ".".repeat(19)), 10, "Passed");
        check(&format!("ss{}", ".".repeat(18)), 10, "Failed");
        check("s...", 9, "Open");
    }

    #[test]
    fn no_answers_may_be_asked_for() {
        let rules = TrialRules { answers: 0, ..rules() };
        let mut trial = Trial::begin(0);
        assert_eq!(trial.verdict(&rules, 9 * MINUTE_NS), Verdict::Open);
        assert_eq!(trial.verdict(&rules, 10 * MINUTE_NS), Verdict::Passed);
        assert!(!trial.wants_golden(&rules, 10 * MINUTE_NS));
        assert_eq!(trial.p95_ms(), None);
    }

    #[test]
    fn golden_cases_fill_half_while_nobody_asks() {
        let mut trial = Trial::begin(0);
        let mut played = Vec::new();
        for minute in 0..10 {
            if trial.wants_golden(&rules(), minute * MINUTE_NS) {
                played.push(minute);
                trial.note(Answer { ms: 1, ok: true, golden: true }, minute * MINUTE_NS);
            }
        }
        assert_eq!(played, [1, 2]);
    }

    #[test]
    fn only_the_newest_times_are_kept() {
        let mut trial = Trial::begin(0);
        for ms in 0..5000 {
            trial.note(Answer { ms, ok: true, golden: false }, 0);
        }
        assert_eq!((trial.times_ms.len(), trial.p95_ms()), (TIMES_KEPT, Some(3976 + 973 - 1)));
    }
}
