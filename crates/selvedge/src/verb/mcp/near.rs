//! Answers what an agent asks, from what is near: the node's journal, and its door of the actuators.
//!
//! The journal is read as any reader reads it, also while the node does not run. Records whose words stay on this machine (streams
//! `private.*`) are not looked at. What an agent asks of actuators goes through the door that people use; the node decides. What it says
//! there in free words is told as far as the node's policy lets words leave.

use std::path::PathBuf;

use node::act::door::{self, Answer, Ask, Asker, View};
use node::act::limits::Allowed;
use node::config::quantity::show_duration;
use node::journal::reader::Reader;
use node::policy::Policy;
use node::why::why;
use serde_json::{Value, json};
use wire::body::act::{Outcome, Setting};
use wire::id::{PartName, StreamName};
use wire::record::Record;

use super::question::{Act, Decisions, Question, Release, Why};
use crate::explained::in_words;
use crate::recording::show_time;

/// So many records are looked at for one answer: a rule that decided long ago is not searched for through years.
const LOOKED_AT_MAX: u64 = 10_000;

/// Records are read in runs of so many.
const RUN: u64 = 100;

/// The most bytes of a text of a decision; all of it is for `why`.
const TEXT_MAX_BYTES: usize = 1_000;

/// A node that answers with what this program does not know.
const OTHER_VERSION: &str = "the node answers with something else; is it of this version?";

/// What an agent reads in place of words that stay.
const WITHHELD: &str = "withheld by the node's policy: the person at the node can see it";

/// The node on this machine, and the agent that asks it.
pub(super) struct Near {
    data: PathBuf,
    agent: String,
    may_act: Vec<PartName>,
    policy: Policy,
}

impl Near {
    pub(super) fn new(data: PathBuf, agent: String, may_act: Vec<PartName>) -> Near {
        Near { data, agent, may_act, policy: Policy::default() }
    }

    /// Tells no more than this policy lets leave.
    pub(super) fn with_policy(self, policy: Policy) -> Near {
        Near { policy, ..self }
    }

    /// A free text as far as it may be told.
    fn word<'a>(&self, text: &'a str) -> &'a str {
        self.policy.text(None, text).unwrap_or(WITHHELD)
    }

    /// The actuators that the agent may ask for, as far as this end has a say.
    pub(super) fn may_act(&self) -> &[PartName] {
        &self.may_act
    }

    /// Answers; the error says what to do. Blocks.
    pub(super) fn answer(&self, question: &Question) -> Result<Value, String> {
        match question {
            Question::State => Err("the state is told by the local API".to_owned()),
            Question::Decisions(decisions) => self.decisions(decisions),
            Question::Why(why) => self.why(why),
            Question::Actuators => self.actuators(),
            Question::Act(act) => self.act(act),
            Question::Release(release) => self.release(release),
        }
    }

    fn reader(&self) -> Result<Reader, String> {
        Reader::open(&self.data).map_err(|error| unread(&error))
    }

    fn decisions(&self, wanted: &Decisions) -> Result<Value, String> {
        let reader = self.reader()?;
        let stream = StreamName::new("decisions").expect("our own streams have good names");
        let mut found = Vec::new();
        let position =
            reader.positions().map_err(|error| unread(&error))?.into_iter().find(|at| at.stream == stream);
        let (first, last) = position.map_or((1, 0), |position| (position.first.max(1), position.last));
        let oldest = first.max(last.saturating_sub(LOOKED_AT_MAX) + 1);
        let mut until = last;
        while until >= oldest && found.len() < wanted.count as usize {
            let after = until.saturating_sub(RUN).max(oldest - 1);
            let run = reader
                .run(&stream, after, until, RUN as usize, usize::MAX)
                .map_err(|error| unread(&error))?;
            let shown = run.iter().rev().filter_map(|record| brief(record, wanted.rule.as_ref()));
            found.extend(shown.take(wanted.count as usize - found.len()));
            until = after;
        }
        Ok(json!({ "decisions": found, "looked_at": last.saturating_sub(until) }))
    }

    fn why(&self, wanted: &Why) -> Result<Value, String> {
        let stream = StreamName::new(wanted.stream.as_str()).expect("our own streams have good names");
        let records = self.reader()?.records(&stream, wanted.seq - 1, 1).map_err(|error| unread(&error))?;
        let Some((record, hash)) = records.first().filter(|(record, _)| record.seq == wanted.seq) else {
            let help = "the tool `decisions` tells what there is; older ones may be dropped";
            return Err(format!("there is no record {} in `{stream}`: {help}", wanted.seq));
        };
        Ok(json!({
            "stream": stream,
            "seq": record.seq,
            "kind": record.kind,
            "at": at(record),
            "in_words": in_words(record).map_err(|error| format!("{error:#}"))?,
            "record": body(record),
            "hash": hash,
        }))
    }

    fn ask(&self, question: &Ask) -> Result<Answer, String> {
        match door::ask(&self.data, question).map_err(|error| why(&error))? {
            Answer::Refused { why } => Err(why),
            answer => Ok(answer),
        }
    }

    fn views(&self) -> Result<Vec<View>, String> {
        match self.ask(&Ask::List)? {
            Answer::List { actuators } => Ok(actuators),
            _ => Err(OTHER_VERSION.to_owned()),
        }
    }

    fn actuators(&self) -> Result<Value, String> {
        let shown: Vec<Value> = self.views()?.iter().map(|view| self.shown(view)).collect();
        Ok(json!({ "actuators": shown }))
    }

    /// An actuator, for somebody who has not read the flow.
    fn shown(&self, view: &View) -> Value {
        let duration = |ms: u64| show_duration(i64::try_from(ms).unwrap_or(i64::MAX));
        let mut shown = json!({
            "actuator": view.actuator,
            "driver": view.kind,
            "you_may_ask": self.may_act.contains(&view.actuator) && view.agents,
            "safe": view.safe,
            "is": view.at,
            "on_its_way_to": view.toward.as_ref().filter(|toward| Some(*toward) != view.at.as_ref()),
            "dry_run": view.dry_run,
            "rate": view.rate,
            "your_word_stands_for_at_most": duration(view.lease_ms),
            "interlock": view.interlock.as_deref().map(|interlock| self.word(interlock)),
            "interlock_holds": view.may_act,
            "held_by": view.holder.as_deref().map(|holder| self.word(holder)),
            "held_for": view.for_ms.map(duration),
            "trouble": view.trouble.as_deref().map(|trouble| self.word(trouble)),
        });
        match &view.allowed {
            Allowed::Words(words) => shown["values"] = json!(words),
            Allowed::Range { min, max } => {
                shown["range"] = json!([min, max]);
                shown["unit"] = json!(view.unit);
                shown["slew_per_s"] = json!(view.slew_per_s);
            }
        }
        shown
    }

    fn may(&self, actuator: &PartName) -> Result<(), String> {
        if self.may_act.contains(actuator) {
            return Ok(());
        }
        let names: Vec<&str> = self.may_act.iter().map(PartName::as_str).collect();
        Err(format!("you may ask for {} and nothing else: tell the person you work for", names.join(", ")))
    }

    fn act(&self, act: &Act) -> Result<Value, String> {
        let Act { actuator, .. } = act;
        self.may(actuator)?;
        let to = self.setting(actuator, &act.to)?;
        let question = Ask::Set {
            actuator: actuator.clone(),
            to: to.clone(),
            for_ms: act.for_ms()?,
            why: act.why.clone(),
            who: self.agent.clone(),
            asker: Asker::Agent,
        };
        let Answer::Told { outcome, why, receipt, for_ms } = self.ask(&question)? else {
            return Err(OTHER_VERSION.to_owned());
        };
        match outcome {
            Outcome::Done | Outcome::Dry => Ok(json!({
                "actuator": actuator,
                "to": to,
                "outcome": outcome,
                "receipt": receipt,
                "stands_for_ms": for_ms,
            })),
            Outcome::Waits | Outcome::Refused | Outcome::Failed | Outcome::Over => {
                let help = "the tool `actuators` says what it takes and whose word stands; a refusal stands until that changes";
                Err(format!("{actuator} is not set to {to}: {}. ({help})", self.word(&why)))
            }
        }
    }

    /// A number where the actuator takes numbers, also if it was written as a word.
    fn setting(&self, actuator: &PartName, to: &Setting) -> Result<Setting, String> {
        let Setting::Word(word) = to else { return Ok(to.clone()) };
        let views = self.views()?;
        let view = views.iter().find(|view| view.actuator == *actuator);
        // What cannot be read is for the envelope to refuse, and to journal.
        Ok(view.and_then(|view| view.allowed.read(word).ok()).unwrap_or_else(|| to.clone()))
    }

    fn release(&self, Release { actuator }: &Release) -> Result<Value, String> {
        self.may(actuator)?;
        let (who, asker) = (self.agent.clone(), Asker::Agent);
        match self.ask(&Ask::Release { actuator: actuator.clone(), who, asker })? {
            Answer::Told { outcome, why, .. } => {
                Ok(json!({ "actuator": actuator, "outcome": outcome, "why": self.word(&why) }))
            }
            _ => Err(OTHER_VERSION.to_owned()),
        }
    }
}

fn unread(error: &dyn std::error::Error) -> String {
    let help = "has the node run here, and may this user read its data folder?";
    format!("the journal cannot be read: {} ({help})", why(error))
}

fn at(record: &Record) -> String {
    format!("{} UTC", show_time(record.wall_ms))
}

fn body(record: &Record) -> Value {
    serde_json::from_str(record.body.get()).unwrap_or_default()
}

/// A decision in short; `None` if it is something else, or of another rule.
fn brief(record: &Record, rule: Option<&PartName>) -> Option<Value> {
    let body = body(record);
    if record.kind.as_str() != "decision" || rule.is_some_and(|rule| body["rule"] != rule.as_str()) {
        return None;
    }
    let mut shown = json!({ "seq": record.seq, "at": at(record) });
    for key in ["rule", "state", "severity", "source", "value", "why"] {
        shown[key] = body[key].clone();
        if let Value::String(text) = &mut shown[key] {
            text.truncate(text.floor_char_boundary(TEXT_MAX_BYTES));
        }
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use wire::id::BootId;
    use wire::world::{ClockQuality, Simulated};

    use super::*;

    fn record(kind: &str, body: &Value) -> Record {
        Record {
            seq: 7,
            kind: PartName::new(kind).unwrap(),
            boot: BootId::random(&mut Simulated::new(1)),
            mono_ns: 0,
            wall_ms: 1_000,
            clock: ClockQuality::Unchecked,
            body: RawValue::from_string(body.to_string()).unwrap(),
        }
    }

    #[test]
    fn a_decision_in_short() {
        let body = json!({"rule": "leak", "state": "firing", "why": "pump.flow is 50", "input": "00"});
        let leak = PartName::new("leak").unwrap();
        let shown = brief(&record("decision", &body), Some(&leak)).unwrap();
        assert_eq!((&shown["seq"], &shown["rule"]), (&json!(7), &json!("leak")));
        assert_eq!(shown["at"], "1970-01-01 00:00:01.000 UTC");
        assert_eq!(shown["input"], Value::Null);
        assert_eq!(brief(&record("decision", &body), Some(&PartName::new("heat").unwrap())), None);
        assert_eq!(brief(&record("erased", &body), None), None);
    }

    #[test]
    fn words_that_stay_are_told_to_no_agent() {
        let near = Near::new("/nowhere".into(), "bot".into(), Vec::new());
        assert_eq!(near.word("the word of person kim stands"), "the word of person kim stands");
        let mut policy = Policy::default();
        policy.usual.hides_words = true;
        assert_eq!(near.with_policy(policy).word("the word of person kim stands"), WITHHELD);
    }

    #[test]
    fn what_it_may_not_ask_for_is_not_even_asked() {
        let valve = PartName::new("valve").unwrap();
        let near = Near::new("/nowhere".into(), "bot".into(), vec![valve.clone()]);
        let told = near.answer(&Question::Release(Release { actuator: PartName::new("fan").unwrap() }));
        assert!(told.unwrap_err().contains("you may ask for valve and nothing else"));
        // What it may is asked, and nobody is there.
        let told = near.answer(&Question::Release(Release { actuator: valve }));
        assert!(told.unwrap_err().contains("no node with actuators runs"));
    }
}
