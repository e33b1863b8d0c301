//! What rules ask of actuators while they fire, and what interlocks say: looked at a few times a second, decided purely.

use wire::body::act::{Actor, ActorKind, Setting};
use wire::id::PartName;
use wire::world::MonoNs;

/// Rules and interlocks are looked at this often.
pub const LOOK_NS: MonoNs = 500_000_000;

/// What a rule asks while it fires.
#[derive(Debug, Clone, PartialEq)]
pub struct Then {
    /// The rule.
    pub rule: PartName,
    /// The actuator's place in the flow.
    pub actuator: usize,
    /// What for.
    pub to: Setting,
    /// For how long after the rule has cleared, in milliseconds.
    pub hold_ms: u64,
}

/// What an actuator is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Pull {
    /// The rule asks, or renews.
    Ask {
        /// The actuator's place in the flow.
        actuator: usize,
        /// The rule.
        who: Actor,
        /// What for.
        to: Setting,
        /// Why.
        why: String,
    },
    /// The rule has cleared.
    Release {
        /// The actuator's place in the flow.
        actuator: usize,
        /// The rule.
        who: Actor,
        /// Why.
        why: String,
    },
}

/// One rule's hold on one actuator.
#[derive(Debug)]
struct Rein {
    then: Then,
    /// It fires, or is held for a while after it has cleared: until then.
    until_ns: Option<MonoNs>,
}

/// All of them.
#[derive(Debug)]
pub struct Reins(Vec<Rein>);

impl Reins {
    /// Nothing is asked yet.
    pub fn new(thens: Vec<Then>) -> Reins {
        Reins(thens.into_iter().map(|then| Rein { then, until_ns: None }).collect())
    }

    /// Another flow takes over: what its rules ask in the same words goes on, what they ask no more ends with its lease.
    pub fn follow(&mut self, thens: Vec<Then>) {
        let before = std::mem::take(&mut self.0);
        let until =
            |then: &Then| before.iter().find(|rein| rein.then == *then).and_then(|rein| rein.until_ns);
        self.0 = thens.into_iter().map(|then| Rein { until_ns: until(&then), then }).collect();
    }

    /// Looks at the rules. `fires` says whether a rule fires as far as is known now: `None` if it was not judged for a while, by
    /// which its word is neither renewed nor taken back, so that it ends with its lease.
    pub fn look(&mut self, fires: impl Fn(&PartName) -> Option<bool>, now_ns: MonoNs) -> Vec<Pull> {
        let mut pulls = Vec::new();
        for Rein { then, until_ns } in &mut self.0 {
            let Then { rule, actuator, to, hold_ms } = then;
            let (actuator, who) = (*actuator, Actor { kind: ActorKind::Rule, name: rule.to_string() });
            let ask =
                |why: &str| Pull::Ask { actuator, who: who.clone(), to: to.clone(), why: why.to_owned() };
            match (fires(rule), *until_ns) {
                (None, _) => {}
                (Some(true), _) => {
                    *until_ns = Some(MonoNs::MAX);
                    pulls.push(ask("it fires"));
                }
                (Some(false), Some(MonoNs::MAX)) if *hold_ms > 0 => {
                    *until_ns = Some(now_ns.saturating_add(hold_ms.saturating_mul(1_000_000)));
                    pulls.push(ask("it fired a moment ago"));
                }
                (Some(false), Some(until)) if until != MonoNs::MAX && now_ns < until => {
                    pulls.push(ask("it fired a moment ago"));
                }
                (Some(false), Some(_)) => {
                    *until_ns = None;
                    pulls.push(Pull::Release { actuator, who, why: "it has cleared".to_owned() });
                }
                (Some(false), None) => {}
            }
        }
        pulls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: MonoNs = 1_000_000_000;

    #[test]
    fn a_rule_holds_on_while_it_fires() {
        let then = |hold_ms| Then {
            rule: PartName::new("hot").unwrap(),
            actuator: 0,
            to: Setting::Word("closed".into()),
            hold_ms,
        };
        let said = |pulls: Vec<Pull>| -> Vec<&'static str> {
            pulls
                .iter()
                .map(|pull| if matches!(pull, Pull::Ask { .. }) { "ask" } else { "release" })
                .collect()
        };
        let mut reins = Reins::new(vec![then(0), then(2_000)]);
        let mut look = |s: u64, fires: Option<bool>| said(reins.look(|_| fires, s * S));
        assert!(look(0, None).is_empty());
        assert!(look(1, Some(false)).is_empty());
        assert_eq!(look(2, Some(true)), ["ask", "ask"]);
        // Not judged: neither renewed nor taken back.
        assert!(look(3, None).is_empty());
        assert_eq!(look(4, Some(true)), ["ask", "ask"]);
        assert_eq!(look(5, Some(false)), ["release", "ask"]);
        assert_eq!(look(6, Some(false)), ["ask"]);
        assert_eq!(look(7, Some(false)), ["release"]);
        assert!(look(8, Some(false)).is_empty());
    }
}
