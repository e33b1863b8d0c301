//! The last thinking station: values → decisions. A rule fires when its condition has held for `for`, and clears when
//! it has failed for `clear_after`.
//!
//! Pure, and by the source's clock alone: the wall clock and the pace of a replay change nothing. What always holds:
//!
//! - A missing value neither starts nor ends anything.
//! - Silence is not evidence. A wait begins anew after a silence that is longer than the wait itself and more than
//!   twice the longest of the last eight intervals: nobody saw the condition hold. (The second part keeps a source that
//!   speaks every five minutes able to fire a rule that waits for thirty seconds.) So does a clock that was set back.
//! - A rule that fired stays firing through silences and restarts, until readings say otherwise.

use wire::body::RuleState;
use wire::world::WallMs;

use crate::config::quantity::show_duration;
use crate::flow::part::RuleConfig;

/// How many intervals are remembered to know what is usual.
const INTERVALS: usize = 8;

/// A rule and where it stands.
#[derive(Debug, Clone)]
pub struct Rule {
    config: RuleConfig,
    firing: Option<WallMs>,
    /// Since when the values contradict the state: hold while it is quiet, fail while it fires.
    contradicted: Option<WallMs>,
    last_ms: Option<WallMs>,
    intervals_ms: [i64; INTERVALS],
    value: f64,
}

/// A rule changed its mind.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// What it says now.
    pub state: RuleState,
    /// When the condition began to hold, or to fail.
    pub since_ms: WallMs,
    /// The value it was judged on.
    pub value: f64,
    /// Why, in words.
    pub why: String,
}

/// Where a rule stands, for screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The condition fails.
    Quiet,
    /// The condition holds, not yet for long enough.
    Pending,
    /// It fires.
    Firing,
}

impl Standing {
    /// The word for screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Quiet => "quiet",
            Standing::Pending => "pending",
            Standing::Firing => "firing",
        }
    }
}

impl Rule {
    /// A quiet rule.
    pub fn new(config: RuleConfig) -> Rule {
        Rule {
            config,
            firing: None,
            contradicted: None,
            last_ms: None,
            intervals_ms: [0; INTERVALS],
            value: f64::NAN,
        }
    }

    /// Its settings.
    pub fn config(&self) -> &RuleConfig {
        &self.config
    }

    /// It was firing when the node stopped.
    pub fn restore_firing(&mut self, since_ms: WallMs) {
        self.firing = Some(since_ms);
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        match (self.firing, self.contradicted) {
            (Some(_), _) => Standing::Firing,
            (None, Some(_)) => Standing::Pending,
            (None, None) => Standing::Quiet,
        }
    }

    /// Since when it has been firing or pending.
    pub fn since_ms(&self) -> Option<WallMs> {
        self.firing.or(self.contradicted)
    }

    /// The last value it was judged on; NaN before the first.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Judges one value, NaN if it is missing.
    pub fn step(&mut self, t_ms: WallMs, value: f64) -> Option<Transition> {
        if value.is_nan() {
            return None;
        }
        let wait_ms = if self.firing.is_some() { self.config.clear_after_ms } else { self.config.for_ms };
        if self.was_silent(t_ms, wait_ms) {
            self.contradicted = None;
        }
        self.value = value;
        let holds = self.config.condition.compare.holds(value, self.config.condition.limit);
        if holds == self.firing.is_some() {
            self.contradicted = None;
            return None;
        }
        let since_ms = *self.contradicted.get_or_insert(t_ms);
        let waited_ms = t_ms.saturating_sub(since_ms);
        if waited_ms < wait_ms {
            return None;
        }
        self.contradicted = None;
        self.firing = holds.then_some(since_ms);
        let state = if holds { RuleState::Firing } else { RuleState::Cleared };
        Some(Transition { state, since_ms, value, why: self.why(value, holds, waited_ms) })
    }

    /// Notes the interval before this value; whether it breaks a wait.
    fn was_silent(&mut self, t_ms: WallMs, wait_ms: i64) -> bool {
        let Some(last_ms) = self.last_ms.replace(t_ms) else { return false };
        let interval_ms = t_ms.saturating_sub(last_ms);
        if interval_ms < 0 {
            return true;
        }
        let longest_ms = self.intervals_ms.iter().copied().max().unwrap_or(0);
        self.intervals_ms.rotate_left(1);
        self.intervals_ms[INTERVALS - 1] = interval_ms;
        // Before the first interval nothing is usual.
        longest_ms > 0 && interval_ms > wait_ms && interval_ms > longest_ms.saturating_mul(2)
    }

    /// `temperature was 93.1, above 80, for 30 s`.
    fn why(&self, value: f64, holds: bool, waited_ms: i64) -> String {
        let condition = &self.config.condition;
        let what = match condition.field.as_str() {
            field @ ("p" | "score") => format!("{}.{field}", condition.part),
            field => field.to_owned(),
        };
        let (not, words) = (if holds { "" } else { "not " }, condition.compare.in_words());
        let (value, limit) = (show_number(value), show_number(condition.limit));
        let held = if waited_ms > 0 { format!(", for {}", show_duration(waited_ms)) } else { String::new() };
        format!("{what} was {value}, {not}{words} {limit}{held}")
    }
}

/// A number with as many digits as a person wants to read: five that count.
fn show_number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let size = value.abs().log10().floor();
    if !(-5.0..15.0).contains(&size) {
        return format!("{value:.4e}");
    }
    let decimals = (4.0 - size).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Flow;

    fn rule(for_: &str, clear_after: &str) -> Rule {
        let text = format!(
            "[source.pump]\ntype = \"http\"\n[rule.r]\ninputs = [\"source.pump\"]\nwhen = \"pump.pressure > 8\"\n\
             for = \"{for_}\"\nclear_after = \"{clear_after}\"\n"
        );
        Rule::new(Flow::parse("flow.toml".as_ref(), text.into()).unwrap().rules[0].clone())
    }

    /// Feeds (seconds, value), gives (seconds, state, since in seconds).
    fn told(rule: &mut Rule, values: &[(i64, f64)]) -> Vec<(i64, RuleState, i64)> {
        let step = |(t_s, value): &(i64, f64)| {
            let transition = rule.step(t_s * 1_000, *value)?;
            Some((*t_s, transition.state, transition.since_ms / 1_000))
        };
        values.iter().filter_map(step).collect()
    }

    const NAN: f64 = f64::NAN;
    use RuleState::{Cleared, Firing};

    #[test]
    fn waits() {
        fn check(for_: &str, clear_after: &str, values: &[(i64, f64)], expected: &[(i64, RuleState, i64)]) {
            assert_eq!(told(&mut rule(for_, clear_after), values), expected, "{values:?}");
        }
        let (low, high) = (7.0, 9.0);
        check("0", "0", &[(0, low), (1, high), (2, high), (3, low)], &[(1, Firing, 1), (3, Cleared, 3)]);
        check("2s", "0", &[(0, high), (1, high), (2, high), (3, high)], &[(2, Firing, 0)]);
        check("2s", "0", &[(0, high), (1, low), (2, high), (3, high), (4, high)], &[(4, Firing, 2)]);
        check(
            "0",
            "2s",
            &[(0, high), (1, low), (2, high), (3, low), (4, low), (5, low)],
            &[(0, Firing, 0), (5, Cleared, 3)],
        );
        // The limit itself is not above the limit.
        check("0", "0", &[(0, 8.0)], &[]);
    }

    #[test]
    fn a_missing_value_changes_nothing() {
        let mut rule = rule("2s", "2s");
        assert_eq!(told(&mut rule, &[(0, 9.0), (1, NAN), (2, 9.0)]), [(2, Firing, 0)]);
        assert_eq!(told(&mut rule, &[(3, 7.0), (4, NAN), (5, NAN)]), []);
        assert_eq!(told(&mut rule, &[(6, 7.0)]), [(6, Cleared, 3)]);
    }

    #[test]
    fn silence_begins_the_wait_anew() {
        let steady: Vec<(i64, f64)> = (0..10).map(|t_s| (t_s, 7.0)).collect();
        let mut gap = rule("30s", "0");
        told(&mut gap, &steady);
        assert_eq!(told(&mut gap, &[(10, 9.0), (11, 9.0), (100, 9.0), (101, 9.0)]), []);
        assert_eq!(told(&mut gap, &[(129, 9.0), (130, 9.0)]), [(130, Firing, 100)]);

        // A source that speaks every five minutes is not silent.
        let slow: Vec<(i64, f64)> = (0..4).map(|n| (n * 300, if n < 2 { 7.0 } else { 9.0 })).collect();
        assert_eq!(told(&mut rule("30s", "0"), &slow), [(900, Firing, 600)]);

        // A clock that was set back.
        let mut set = rule("30s", "0");
        told(&mut set, &steady);
        assert_eq!(
            told(&mut set, &[(20, 9.0), (-3_600, 9.0), (-3_580, 9.0), (-3_570, 9.0)]),
            [(-3_570, Firing, -3_600)]
        );
    }

    #[test]
    fn a_restart_does_not_fire_again() {
        let mut rule = rule("2s", "2s");
        rule.restore_firing(-5_000);
        assert_eq!(rule.standing(), Standing::Firing);
        assert_eq!(told(&mut rule, &[(0, 9.0), (1, 9.0), (2, 9.0), (3, 9.0)]), []);
        assert_eq!(told(&mut rule, &[(4, 7.0), (5, 7.0), (6, 7.0)]), [(6, Cleared, 4)]);
    }

    #[test]
    fn why() {
        let mut rule = rule("30s", "5m");
        rule.step(0, 9.3100001);
        assert_eq!(rule.step(30_000, 9.3100001).unwrap().why, "pressure was 9.31, above 8, for 30 s");
        rule.step(31_000, 1.0);
        assert_eq!(
            rule.step(331_000, -0.00123456).unwrap().why,
            "pressure was -0.0012346, not above 8, for 5 min"
        );
    }

    #[test]
    fn numbers() {
        fn check(value: f64, expected: &str) {
            assert_eq!(show_number(value), expected);
        }
        check(0.0, "0");
        check(80.0, "80");
        check(123_456.789, "123457");
        check(0.999_999_9, "1");
        check(1e-9, "1.0000e-9");
        check(-3.5e20, "-3.5000e20");
    }
}
