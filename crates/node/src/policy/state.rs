//! How the node is, for whoever is not on its machine: its state as far as the policy lets that leave.
//!
//! The state is no record and does not pass the journal's door. Who asks on the machine hears all of it; an agent, whose model may run
//! anywhere, and who asks from another machine hear it as it leaves here.

use serde_json::{Map, Value};
use wire::class::Class;

use super::redact::{self, WITHHELD};
use super::{Policy, Say};

impl Policy {
    /// Takes out of a state what may not leave. `state`: as `GET /v1/state` tells it, of this version or another.
    ///
    /// Readings of a source stay in it where the policy lets raw readings leave in plain words, without those that are dropped and as
    /// rounded as in records. What a rule was last judged on is mostly a reading: it stays where those of all sources do.
    pub fn outside(&self, state: &mut Value) {
        let mut is_all_told = lets_readings(&self.usual);
        for source in list(state, "sources") {
            let name = source.get("source").and_then(Value::as_str).map(str::to_owned);
            let say = self.of(name.as_deref());
            is_all_told &= lets_readings(say);
            if let Some(reason) = source.get_mut("reason") {
                self.withhold(name.as_deref(), reason);
            }
            if let Some(Value::Object(values)) = source.get_mut("values") {
                if lets_readings(say) {
                    show(values, say);
                } else {
                    values.clear();
                }
            }
        }
        for rule in list(state, "rules") {
            let when = rule.get("when").and_then(Value::as_str).unwrap_or_default();
            if !(is_all_told && self.is_told_as_it_is(when))
                && let Some(value) = rule.get_mut("value")
            {
                *value = Value::Null;
            }
            if let Some(when) = rule.get_mut("when") {
                self.withhold(None, when);
            }
        }
        for sink in list(state, "sinks") {
            if let Some(reason) = sink.get_mut("reason") {
                self.withhold(None, reason);
            }
        }
        for place in ["/flow_problem", "/journal/trouble", "/uplink/trouble"] {
            if let Some(text) = state.pointer_mut(place) {
                self.withhold(None, text);
            }
        }
        for place in ["/health/left_out", "/health/stuck"] {
            if let Some(Value::Array(texts)) = state.pointer_mut(place) {
                texts.iter_mut().for_each(|text| self.withhold(None, text));
            }
        }
    }

    /// Whether a condition speaks of no channel that is dropped or rounded.
    fn is_told_as_it_is(&self, when: &str) -> bool {
        let is_rounded = |say: &Say| say.round.keys().any(|channel| redact::speaks_of(when, channel));
        self.text(None, when).is_some() && !self.all().any(is_rounded)
    }

    fn withhold(&self, source: Option<&str>, text: &mut Value) {
        if let Value::String(words) = text
            && !words.is_empty()
            && self.text(source, words).is_none()
        {
            WITHHELD.clone_into(words);
        }
    }
}

/// Whether the readings of a source leave, by the names of their channels.
fn lets_readings(say: &Say) -> bool {
    say.leaves.contains(&Class::Raw) && !say.hides_words
}

fn list<'a>(state: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> + use<'a> {
    let items = state.get_mut(name).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// The last reading, as records would have it.
fn show(values: &mut Map<String, Value>, say: &Say) {
    values.retain(|channel, _| !say.drop.contains(channel));
    for (channel, value) in values.iter_mut() {
        if let Some(step) = say.round.get(channel) {
            redact::round_one(value, *step);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use wire::id::PartName;

    use super::*;

    fn state() -> Value {
        json!({
            "node": "oslo-7",
            "sources": [
                {"source": "bed", "state": "running", "reason": "2 channels: canary, t", "values": {"canary": 1.5, "t": 36.6}},
                {"source": "pump", "state": "running", "reason": "", "values": {"flow": 2.0}},
            ],
            "rules": [{"rule": "hot", "when": "bed.canary > 1", "state": "firing", "value": 1.5}],
            "sinks": [{"sink": "ops", "state": "failed", "reason": "it answered 500: canary"}],
            "journal": {"bytes": 7, "trouble": null},
            "uplink": {"hub": "http://hub", "trouble": "canary"},
            "health": {"left_out": ["source.bed: canary"], "stuck": []},
        })
    }

    fn told(policy: &Policy) -> Value {
        let mut state = state();
        policy.outside(&mut state);
        state
    }

    #[test]
    fn readings_stay_and_words_too_where_they_are_hidden() {
        let usual = told(&Policy::default());
        assert_eq!(usual["sources"][0]["values"], json!({}));
        assert_eq!(usual["sources"][0]["reason"], "2 channels: canary, t");
        assert_eq!(
            (&usual["rules"][0]["value"], &usual["rules"][0]["state"]),
            (&Value::Null, &json!("firing"))
        );

        let events = Say { leaves: vec![Class::Audit, Class::Event], hides_words: true, ..Say::usual() };
        let hidden = told(&Policy { usual: events, ..Policy::default() });
        assert!(!hidden.to_string().contains("canary"), "{hidden}");
        assert_eq!(hidden["rules"][0]["rule"], "hot");
        assert_eq!(hidden["journal"]["trouble"], Value::Null);
    }

    #[test]
    fn readings_that_may_leave_are_told_as_they_would() {
        let all = Say { leaves: Class::ALL.to_vec(), ..Say::usual() };
        let plain = Policy { usual: all.clone(), ..Policy::default() };
        assert_eq!(told(&plain), state());

        let round = BTreeMap::from([("t".to_owned(), 0.5)]);
        let bed = Say { drop: vec!["canary".to_owned()], round, ..all.clone() };
        let sources = BTreeMap::from([(PartName::new("bed").unwrap(), bed)]);
        let some = told(&Policy { usual: all, sources, ..Policy::default() });
        assert_eq!(some["sources"][0]["values"], json!({"t": 36.5}));
        assert_eq!(some["sources"][1]["values"], json!({"flow": 2.0}));
        assert!(!some.to_string().contains("canary"), "{some}");
    }
}
