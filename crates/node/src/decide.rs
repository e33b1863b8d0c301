//! The last thinking station: values → decisions. A rule fires when its condition has held for `for`, and clears when
//! it has failed, or its `clear_when` has held, for `clear_after`.
//!
//! Pure, and by the source's clock alone: the wall clock and the pace of a replay change nothing. What always holds:
//!
//! - A missing value neither starts nor ends anything.
//! - Silence is not evidence. A wait begins anew after a silence that is longer than the wait itself and more than
//!   twice the longest of the last eight intervals: nobody saw the condition hold. (The second part keeps a source that
//!   speaks every five minutes able to fire a rule that waits for thirty seconds.) So does a clock that was set back.
//! - A rule that fired stays firing through silences and restarts, until readings say otherwise.
//! - A rule that is held back (`inhibit_by`) goes on waiting, and fires when nothing holds it back any more.
//! - What `dedup` swallows is told later if it lasts: a rule that fires is told of in the end, or clears untold.

use wire::body::RuleState;
use wire::world::WallMs;

use crate::board::{Board, Pace, Slot};
use crate::config::quantity::show_duration;
use crate::expression::Expression;
use crate::flow::rule::{Floor, RuleConfig, Standing};

/// Clocks of several sources are not one: a step back of at most this much is their difference, not a clock set back.
const CLOCKS_APART_MS: i64 = 60_000;

/// A rule and where it stands.
#[derive(Debug, Clone)]
pub struct Rule {
    config: RuleConfig,
    firing: Option<WallMs>,
    /// Since when the values contradict the state: hold while it is quiet, fail while it fires.
    contradicted: Option<WallMs>,
    pace: Pace,
    judged: bool,
    /// Whether the firing it is in was told, and when one was told last.
    told: bool,
    told_ms: Option<WallMs>,
}

/// A rule changed its mind.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// What it says now.
    pub state: RuleState,
    /// When the condition began to hold, or to fail.
    pub since_ms: WallMs,
    /// When it changed.
    pub at_ms: WallMs,
    /// What stood on the left of the first comparison that decided; NaN if none did.
    pub value: f64,
    /// Why, in words.
    pub why: String,
    /// What the comparisons that decided have read.
    pub slots: Vec<Slot>,
    /// Whether the floor answered in the models' place.
    pub floor: bool,
    /// The lowest confidence of the models, where it matters to the rule.
    pub confidence: Option<f64>,
}

/// What the conditions say at a time.
struct Verdict<'a> {
    /// Whether the rule should fire.
    holds: bool,
    /// The condition that says so.
    by: &'a Expression,
    /// Why the floor had to answer, if it did.
    floor: Option<String>,
    confidence: Option<f64>,
}

impl Rule {
    /// A quiet rule.
    pub fn new(config: RuleConfig) -> Rule {
        Rule {
            config,
            firing: None,
            contradicted: None,
            pace: Pace::default(),
            judged: false,
            told: false,
            told_ms: None,
        }
    }

    /// Its settings.
    pub fn config(&self) -> &RuleConfig {
        &self.config
    }

    /// It was firing when the node stopped.
    pub fn restore_firing(&mut self, since_ms: WallMs) {
        self.firing = Some(since_ms);
        (self.judged, self.told) = (true, true);
    }

    /// That it fires was last told then.
    pub fn restore_told(&mut self, at_ms: WallMs) {
        self.told_ms = Some(at_ms);
    }

    /// Goes on from where the same condition stood in another flow.
    pub fn take_over(&mut self, other: &Rule) {
        let config = self.config.clone();
        *self = Rule { config, ..other.clone() };
    }

    /// The clock of a source that it is judged by was set back: its waits begin anew, and it goes on by the clock as it is now.
    pub fn clock_was_set_back(&mut self) {
        self.pace = Pace::default();
        self.contradicted = None;
    }

    /// The longest of the last times between two judgements, by its own clock; 0 before there were two.
    pub fn usual_ms(&self) -> i64 {
        self.pace.longest_ms()
    }

    /// When it was last judged, by its own clock.
    pub fn last_ms(&self) -> Option<WallMs> {
        self.pace.last_ms()
    }

    /// When a firing that it is still in, and that was told, began.
    pub fn told_since_ms(&self) -> Option<WallMs> {
        self.firing.filter(|_| self.told)
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        match (self.firing, self.contradicted) {
            (Some(_), _) => Standing::Firing,
            (None, Some(_)) => Standing::Pending,
            (None, None) => Standing::Quiet,
        }
    }

    /// Whether it fires; `None` before it was first judged.
    pub fn firing(&self) -> Option<bool> {
        self.judged.then_some(self.firing.is_some())
    }

    /// Since when it has been firing or pending.
    pub fn since_ms(&self) -> Option<WallMs> {
        self.firing.or(self.contradicted)
    }

    /// Judges what stands on the board at a time. `held_back`: a rule fires that this one makes way for. Gives whether
    /// it could be judged, and what is to be told.
    pub fn step(&mut self, t_ms: WallMs, board: &Board, held_back: bool) -> (bool, Option<Transition>) {
        let was_firing = self.firing.is_some();
        let Some(verdict) = judge(&self.config, was_firing, board, t_ms) else { return (false, None) };
        let holds = verdict.holds;
        let wait_ms = if was_firing { self.config.clear_after_ms } else { self.config.for_ms };
        let now_ms = match self.pace.last_ms() {
            Some(last_ms)
                if self.config.sources.len() > 1 && (0..=CLOCKS_APART_MS).contains(&(last_ms - t_ms)) =>
            {
                last_ms
            }
            _ => t_ms,
        };
        let silent = was_silent(&mut self.pace, now_ms, wait_ms);
        self.judged = true;
        if silent {
            self.contradicted = None;
        }
        if holds == was_firing {
            self.contradicted = None;
            return (true, self.tell_late(now_ms, board, t_ms, held_back));
        }
        let since_ms = *self.contradicted.get_or_insert(now_ms);
        let waited_ms = now_ms.saturating_sub(since_ms);
        if waited_ms < wait_ms || (holds && held_back) {
            return (true, None);
        }
        let state = if holds { RuleState::Firing } else { RuleState::Cleared };
        let was_told = self.told;
        let told = if holds { !self.too_soon(now_ms) } else { was_told };
        // Verdicts borrow the settings, so the words come before the change.
        let verdict = judge(&self.config, was_firing, board, t_ms);
        let transition = verdict
            .filter(|_| told)
            .map(|verdict| transition(&verdict, state, (since_ms, now_ms), waited_ms, board, t_ms));
        self.contradicted = None;
        self.firing = holds.then_some(since_ms);
        self.told = holds && told;
        if self.told {
            self.told_ms = Some(now_ms);
        }
        (true, transition)
    }

    /// Whether that it fires was told so lately that it is not told again.
    fn too_soon(&self, now_ms: WallMs) -> bool {
        self.told_ms.is_some_and(|told_ms| (0..self.config.dedup_ms).contains(&(now_ms - told_ms)))
    }

    /// A firing that was swallowed and lasts is told when its time has come.
    fn tell_late(
        &mut self,
        now_ms: WallMs,
        board: &Board,
        t_ms: WallMs,
        held_back: bool,
    ) -> Option<Transition> {
        let since_ms = self.firing.filter(|_| !self.told && !held_back && !self.too_soon(now_ms))?;
        // While it fires a `clear_when` that fails is why; before, `when` was.
        let verdict = judge(&self.config, false, board, t_ms).filter(|verdict| verdict.holds);
        let verdict = verdict.or_else(|| judge(&self.config, true, board, t_ms))?;
        let waited_ms = now_ms.saturating_sub(since_ms);
        let told = transition(&verdict, RuleState::Firing, (since_ms, now_ms), waited_ms, board, t_ms);
        (self.told, self.told_ms) = (true, Some(now_ms));
        Some(told)
    }
}

/// What the conditions say; `None` if a value that matters is missing.
fn judge<'a>(config: &'a RuleConfig, is_firing: bool, board: &Board, t_ms: WallMs) -> Option<Verdict<'a>> {
    let mut confidence = None;
    if let Some(floor) = &config.floor {
        match answers(floor, config.stale_after_ms, board, t_ms) {
            Ok(lowest) => confidence = lowest,
            Err(reason) => {
                let holds = floor.when.holds(board, t_ms)?;
                return Some(Verdict { holds, by: &floor.when, floor: Some(reason), confidence: None });
            }
        }
    }
    if is_firing && let Some(clear) = &config.clear_when {
        let holds = !clear.holds(board, t_ms)?;
        return Some(Verdict { holds, by: clear, floor: None, confidence });
    }
    let holds = config.when.holds(board, t_ms)?;
    Some(Verdict { holds, by: &config.when, floor: None, confidence })
}

/// Whether the models answer, with their lowest confidence if it matters; otherwise why they do not.
fn answers(
    floor: &Floor,
    stale_after_ms: Option<i64>,
    board: &Board,
    t_ms: WallMs,
) -> Result<Option<f64>, String> {
    let view = board.at(t_ms, stale_after_ms);
    let mut lowest: Option<f64> = None;
    for model in &floor.models {
        if model.values.iter().any(|slot| !view.has(*slot)) {
            return Err(format!("{} had nothing to say", model.name));
        }
        let Some((slot, below)) = model.confidence.zip(floor.below) else { continue };
        let confidence = view.number(slot);
        if confidence.is_nan() {
            return Err(format!("{} did not say how sure it was", model.name));
        }
        if confidence < below {
            return Err(format!("{} was sure to {confidence:.2}, below {below:.2}", model.name));
        }
        lowest = Some(lowest.map_or(confidence, |lowest| lowest.min(confidence)));
    }
    Ok(lowest)
}

/// `temperature was 93.1, above 80, for 30 s`.
fn transition(
    verdict: &Verdict<'_>,
    state: RuleState,
    (since_ms, at_ms): (WallMs, WallMs),
    waited_ms: i64,
    board: &Board,
    t_ms: WallMs,
) -> Transition {
    let reasons = verdict.by.why(board, t_ms);
    let floor = verdict.floor.as_ref().map_or(String::new(), |why| format!("{why}, so the floor answers: "));
    let held = if waited_ms > 0 { format!(", for {}", show_duration(waited_ms)) } else { String::new() };
    Transition {
        state,
        since_ms,
        at_ms,
        value: reasons.value,
        why: format!("{floor}{}{held}", reasons.words),
        slots: reasons.slots,
        floor: verdict.floor.is_some(),
        confidence: verdict.confidence,
    }
}

/// Notes the interval before this judgement; whether it breaks a wait.
fn was_silent(pace: &mut Pace, t_ms: WallMs, wait_ms: i64) -> bool {
    let longest_ms = pace.longest_ms();
    let Some(interval_ms) = pace.note(t_ms) else { return false };
    // Before the first interval nothing is usual.
    interval_ms < 0 || (longest_ms > 0 && interval_ms > wait_ms && interval_ms > longest_ms.saturating_mul(2))
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

    /// Judges a rule on one value.
    fn judged(rule: &mut Rule, t_ms: i64, value: f64) -> Option<Transition> {
        let mut board = Board::new(1, 1);
        board.number(Slot(0), 0, t_ms, value);
        rule.step(t_ms, &board, false).1
    }

    /// Feeds (seconds, value), gives (seconds, state, since in seconds).
    fn told(rule: &mut Rule, values: &[(i64, f64)]) -> Vec<(i64, RuleState, i64)> {
        let step = |(t_s, value): &(i64, f64)| {
            let transition = judged(rule, t_s * 1_000, *value)?;
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
    fn what_was_told_before_a_restart_is_not_told_again_so_soon() {
        let text = "[source.pump]\ntype = \"http\"\n[rule.r]\ninputs = [\"source.pump\"]\nwhen = \"pump.pressure > 8\"\n\
                    dedup = \"10s\"\n";
        let mut rule = Rule::new(Flow::parse("flow.toml".as_ref(), text.into()).unwrap().rules[0].clone());
        rule.restore_told(0);
        assert_eq!(told(&mut rule, &[(5, 9.0), (6, 7.0), (7, 9.0), (9, 9.0)]), []);
        assert_eq!(told(&mut rule, &[(10, 9.0), (11, 7.0)]), [(10, Firing, 7), (11, Cleared, 11)]);
    }

    #[test]
    fn why() {
        let mut rule = rule("30s", "5m");
        judged(&mut rule, 0, 9.3100001);
        assert_eq!(judged(&mut rule, 30_000, 9.3100001).unwrap().why, "pressure was 9.31, above 8, for 30 s");
        judged(&mut rule, 31_000, 1.0);
        assert_eq!(
            judged(&mut rule, 331_000, -0.00123456).unwrap().why,
            "pressure was -0.0012346, not above 8, for 5 min"
        );
    }
}
