//! How rules and channels become entities of Home Assistant, by its MQTT discovery. Pure: what to say, on which topic.
//!
//! A rule is a binary sensor of the class `problem`, a channel is a sensor, both belong to one device, the node, and both are
//! unavailable when the broker says that the node is gone. The fields are those of Home Assistant's pages "MQTT",
//! "Binary sensor" and "Sensor"; units are not guessed.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wire::body::{Decision, RuleState, Summary};
use wire::id::NodeId;

use super::choose::Item;

/// Something to publish, retained: who comes later needs it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: String,
}

/// Knows what was announced.
#[derive(Debug)]
pub struct Announcer {
    /// Home Assistant's own prefix, `homeassistant`.
    prefix: String,
    /// Where our topics begin.
    base: String,
    node: NodeId,
    announced: BTreeSet<String>,
}

impl Announcer {
    /// Nothing is announced yet.
    pub fn new(prefix: &str, base: &str, node: &NodeId) -> Announcer {
        Announcer {
            prefix: prefix.to_owned(),
            base: base.to_owned(),
            node: node.clone(),
            announced: BTreeSet::new(),
        }
    }

    /// Where the broker says whether the node is there: `online` or `offline`.
    pub fn availability(&self) -> String {
        format!("{}/availability", self.base)
    }

    /// A new connection: all is said again.
    pub fn forget(&mut self) {
        self.announced.clear();
    }

    /// Announces a rule, if that was not done.
    pub fn rule(&mut self, rule: &str) -> Option<Retained> {
        let entity = format!("rule_{}", plain(rule));
        let mut about = self.about(&entity, rule)?;
        about["device_class"] = json!("problem");
        about["state_topic"] = json!(self.rule_state(rule));
        about["payload_on"] = json!("ON");
        about["payload_off"] = json!("OFF");
        about["json_attributes_topic"] = json!(format!("{}/rule/{rule}/attributes", self.base));
        Some(self.config("binary_sensor", &entity, &about))
    }

    fn channel(&mut self, source: &str, channel: &str) -> Option<Retained> {
        let entity = format!("source_{}_{}", plain(source), plain(channel));
        let mut about = self.about(&entity, &format!("{source} {channel}"))?;
        about["state_topic"] = json!(self.source_state(source));
        about["state_class"] = json!("measurement");
        // A name with a quote in it must not end the string of the template.
        let name = channel.replace('\\', "\\\\").replace('\'', "\\'");
        about["value_template"] = json!(format!("{{{{ value_json['{name}'] }}}}"));
        Some(self.config("sensor", &entity, &about))
    }

    /// What a record says of rules and channels.
    pub fn say(&mut self, item: &Item) -> Vec<Retained> {
        match item.kind.as_str() {
            "decision" => {
                let Ok(decision) = serde_json::from_str::<Decision>(item.body.get()) else {
                    return Vec::new();
                };
                let rule = decision.rule.to_string();
                let mut said: Vec<Retained> = self.rule(&rule).into_iter().collect();
                said.push(Retained {
                    topic: format!("{}/rule/{rule}/attributes", self.base),
                    payload: item.body.get().to_owned(),
                });
                said.push(self.rule_is(&rule, decision.state == RuleState::Firing));
                said
            }
            "summary" => {
                let Ok(summary) = serde_json::from_str::<Summary>(item.body.get()) else { return Vec::new() };
                let source = summary.source.to_string();
                let mut said = Vec::new();
                let mut values = serde_json::Map::new();
                for channel in &summary.channels {
                    said.extend(self.channel(&source, &channel.channel));
                    // A mean of nothing is null.
                    values.insert(channel.channel.clone(), json!(channel.mean));
                }
                said.push(Retained {
                    topic: self.source_state(&source),
                    payload: Value::Object(values).to_string(),
                });
                said
            }
            _ => Vec::new(),
        }
    }

    /// What a rule says now.
    pub fn rule_is(&self, rule: &str, firing: bool) -> Retained {
        let payload = if firing { "ON" } else { "OFF" };
        Retained { topic: self.rule_state(rule), payload: payload.to_owned() }
    }

    fn rule_state(&self, rule: &str) -> String {
        format!("{}/rule/{rule}/state", self.base)
    }

    fn source_state(&self, source: &str) -> String {
        format!("{}/source/{source}/state", self.base)
    }

    /// What every entity says of itself; `None` if it has.
    fn about(&mut self, entity: &str, name: &str) -> Option<Value> {
        if !self.announced.insert(entity.to_owned()) {
            return None;
        }
        let id = plain(self.node.as_str());
        Some(json!({
            "name": name,
            "unique_id": format!("selvedge_{id}_{entity}"),
            "availability_topic": self.availability(),
            "payload_available": "online",
            "payload_not_available": "offline",
            "device": {
                "identifiers": [format!("selvedge_{id}")],
                "name": self.node.as_str(),
                "model": "Selvedge node",
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
            "origin": { "name": "Selvedge", "sw_version": env!("CARGO_PKG_VERSION") },
        }))
    }

    fn config(&self, component: &str, entity: &str, about: &Value) -> Retained {
        let id = plain(self.node.as_str());
        Retained {
            topic: format!("{}/{component}/selvedge_{id}/{entity}/config", self.prefix),
            payload: about.to_string(),
        }
    }
}

/// As Home Assistant wants ids in topics: letters, digits, `_` and `-`.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use wire::id::StreamName;

    fn item(kind: &str, body: &str) -> Item {
        Item {
            id: "x".into(),
            node: NodeId::new("oslo-7").unwrap(),
            stream: StreamName::new("s").unwrap(),
            seq: 1,
            kind: kind.into(),
            part: None,
            wall_ms: None,
            clock: None,
            body: RawValue::from_string(body.into()).unwrap(),
        }
    }

    #[test]
    fn entities() {
        let mut announcer =
            Announcer::new("homeassistant", "selvedge/oslo-7", &NodeId::new("oslo-7").unwrap());
        let rule = announcer.rule("hot").unwrap();
        assert_eq!(rule.topic, "homeassistant/binary_sensor/selvedge_oslo-7/rule_hot/config");
        let device = json!({"identifiers": ["selvedge_oslo-7"], "name": "oslo-7", "model": "Selvedge node",
            "sw_version": env!("CARGO_PKG_VERSION")});
        let origin = json!({"name": "Selvedge", "sw_version": env!("CARGO_PKG_VERSION")});
        let expected = json!({
            "name": "hot", "unique_id": "selvedge_oslo-7_rule_hot", "device_class": "problem",
            "state_topic": "selvedge/oslo-7/rule/hot/state", "payload_on": "ON", "payload_off": "OFF",
            "json_attributes_topic": "selvedge/oslo-7/rule/hot/attributes",
            "availability_topic": "selvedge/oslo-7/availability",
            "payload_available": "online", "payload_not_available": "offline",
            "device": device, "origin": origin,
        });
        assert_eq!(serde_json::from_str::<Value>(&rule.payload).unwrap(), expected);
        assert_eq!(announcer.rule("hot"), None, "once");
        let summary = r#"{"source":"pump","from_ms":0,"to_ms":1,"count":1,"channels":[
            {"channel":"p 'x'","min":1.0,"mean":1.5,"max":2.0,"missing":0},
            {"channel":"t","min":null,"mean":null,"max":null,"missing":1}],"models":[]}"#;
        let said = announcer.say(&item("summary", summary));
        assert_eq!(said.len(), 3);
        assert_eq!(said[0].topic, "homeassistant/sensor/selvedge_oslo-7/source_pump_p__x_/config");
        let expected = json!({
            "name": "pump p 'x'", "unique_id": "selvedge_oslo-7_source_pump_p__x_",
            "state_topic": "selvedge/oslo-7/source/pump/state", "state_class": "measurement",
            "value_template": "{{ value_json['p \\'x\\''] }}",
            "availability_topic": "selvedge/oslo-7/availability",
            "payload_available": "online", "payload_not_available": "offline",
            "device": device, "origin": origin,
        });
        assert_eq!(serde_json::from_str::<Value>(&said[0].payload).unwrap(), expected);
        assert_eq!(said[2].topic, "selvedge/oslo-7/source/pump/state");
        assert_eq!(said[2].payload, r#"{"p 'x'":1.5,"t":null}"#);
        assert_eq!(announcer.say(&item("summary", summary)).len(), 1);
        assert!(announcer.say(&item("decision", "{}")).is_empty());
    }
}
