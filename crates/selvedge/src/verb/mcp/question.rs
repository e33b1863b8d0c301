//! What an agent may ask, read from what a client sends: bounded, and with a mend where it is wrong.

use node::act::door::WHY_MAX_BYTES;
use node::config::quantity::duration_ms;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wire::body::act::{Setting, WORD_MAX_BYTES};
use wire::id::PartName;

/// The most decisions in one answer.
pub(super) const COUNT_MAX: u64 = 100;

/// So many where nobody says how many.
pub(super) const COUNT_USUAL: u64 = 10;

/// The most characters of a duration.
pub(super) const DURATION_MAX: usize = 32;

/// A question, checked as far as that is possible without the node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Question {
    /// How the node is.
    State,
    /// What it decided lately.
    Decisions(Decisions),
    /// Why one thing was decided, or done.
    Why(Why),
    /// What can be set.
    Actuators,
    /// Set something.
    Act(Act),
    /// Take that back.
    Release(Release),
}

/// The latest decisions, newest first.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decisions {
    /// At most so many.
    #[serde(default = "count_usual")]
    pub(super) count: u64,
    /// Of this rule only.
    #[serde(default)]
    pub(super) rule: Option<PartName>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    /// Its number.
    pub(super) seq: u64,
    /// Where it stands.
    #[serde(default)]
    pub(super) stream: Stream,
}

/// The streams whose records can be explained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stream {
    /// What rules decided.
    #[default]
    Decisions,
    /// What actuators were asked.
    Acts,
}

impl Stream {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Stream::Decisions => "decisions",
            Stream::Acts => "acts",
        }
    }
}

/// An actuator, and what to set it to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Act {
    pub(super) actuator: PartName,
    pub(super) to: Setting,
    /// As people write durations; absent: for a lease.
    #[serde(default, rename = "for")]
    for_how_long: Option<String>,
    pub(super) why: String,
}

impl Act {
    /// For how long.
    pub(super) fn for_ms(&self) -> Result<Option<u64>, String> {
        let read = |text: &String| match text.len() {
            0..=DURATION_MAX => duration_ms(text).map(i64::unsigned_abs),
            _ => Err("`for` is a duration such as \"30s\" or \"5m\"".to_owned()),
        };
        self.for_how_long.as_ref().map(read).transpose()
    }
}

/// An actuator.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Release {
    pub(super) actuator: PartName,
}

/// No words at all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn count_usual() -> u64 {
    COUNT_USUAL
}

impl Question {
    /// Reads a call of a tool; the error says what to write instead.
    pub(super) fn read(tool: &str, arguments: Value) -> Result<Question, String> {
        let question = match tool {
            "state" => words::<Nothing>(arguments).map(|Nothing {}| Question::State),
            "actuators" => words::<Nothing>(arguments).map(|Nothing {}| Question::Actuators),
            "decisions" => words(arguments).map(Question::Decisions),
            "why" => words(arguments).map(Question::Why),
            "act" => words(arguments).map(Question::Act),
            "release" => words(arguments).map(Question::Release),
            other => Err(format!("there is no tool {other:?}")),
        }?;
        question.check()?;
        Ok(question)
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Question::Decisions(Decisions { count, .. }) if !(1..=COUNT_MAX).contains(count) => {
                Err(format!("`count` is from 1 to {COUNT_MAX}"))
            }
            Question::Why(Why { seq: 0, .. }) => {
                Err("`seq` counts from 1; the tool `decisions` tells the numbers".to_owned())
            }
            Question::Act(act) => {
                act.for_ms()?;
                match &act.to {
                    Setting::Word(word) if word.len() > WORD_MAX_BYTES => {
                        Err(format!("`to` has at most {WORD_MAX_BYTES} bytes"))
                    }
                    _ if act.why.trim().is_empty()
                        || act.why.len() > WHY_MAX_BYTES
                        || act.why.contains(char::is_control) =>
                    {
                        Err(format!("say `why`, in one line of at most {WHY_MAX_BYTES} bytes"))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// The words of a tool.
fn words<T: DeserializeOwned>(arguments: Value) -> Result<T, String> {
    serde_json::from_value(arguments).map_err(|error| {
        let mut told = error.to_string();
        told.truncate(told.floor_char_boundary(300));
        format!("the tool does not take that: {told}; see its schema")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_asked() {
        assert_eq!(Question::read("state", json!({})), Ok(Question::State));
        let decisions = Question::read("decisions", json!({})).unwrap();
        assert_eq!(decisions, Question::Decisions(Decisions { count: COUNT_USUAL, rule: None }));
        let why = Question::read("why", json!({"seq": 3, "stream": "acts"})).unwrap();
        assert_eq!(why, Question::Why(Why { seq: 3, stream: Stream::Acts }));
        let act = json!({"actuator": "fan", "to": 40, "for": "1m", "why": "hot"});
        let Question::Act(act) = Question::read("act", act).unwrap() else { panic!("another question") };
        assert_eq!((act.for_ms(), act.to), (Ok(Some(60_000)), Setting::Number(40.0)));
    }

    #[test]
    fn what_is_refused_says_what_to_write() {
        fn check(tool: &str, arguments: Value, expected: &str) {
            let told = Question::read(tool, arguments.clone()).unwrap_err();
            assert!(told.contains(expected) && told.len() < 500, "{tool} {arguments}: {told}");
        }
        let long = "x".repeat(100_000);
        check("state", json!({"all": true}), "all");
        check("decisions", json!({"count": 0}), "from 1 to 100");
        check("decisions", json!({"count": 101}), "from 1 to 100");
        check("decisions", json!({"count": -1}), "see its schema");
        check("decisions", json!({"rule": "../etc"}), "see its schema");
        check("decisions", json!({"rule": long}), "see its schema");
        check("why", json!({}), "seq");
        check("why", json!({"seq": 0}), "from 1");
        check("why", json!({"seq": 1, "stream": "readings"}), "see its schema");
        check("act", json!({"actuator": "fan", "to": "on"}), "why");
        check("act", json!({"actuator": "fan", "to": "on", "why": " "}), "say `why`");
        check("act", json!({"actuator": "fan", "to": "on", "why": "a\nb"}), "one line");
        check("act", json!({"actuator": "fan", "to": "on", "why": long}), "at most 500");
        check("act", json!({"actuator": "fan", "to": long, "why": "x"}), "at most 256");
        check("act", json!({"actuator": "fan", "to": {"a": 1}, "why": "x"}), "see its schema");
        check("act", json!({"actuator": "fan", "to": "on", "why": "x", "for": "ever"}), "duration");
        check("act", json!({"actuator": "fan", "to": "on", "why": "x", "for": long}), "duration");
        check("act", json!({"actuator": "fan", "to": "on", "why": "x", "who": "kim"}), "see its schema");
        check("rm", json!({}), "no tool");
    }
}
