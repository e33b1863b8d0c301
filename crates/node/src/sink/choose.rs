//! Which records a sink passes on, and how they look outside: one JSON object each, with an id by which whoever gets it twice
//! takes it once.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use wire::id::{JournalId, NodeId, StreamName};
use wire::record::Record;
use wire::world::{ClockQuality, WallMs};

/// Kinds of records that stand in streams of their own.
const BY_STREAM: [(&str, &str); 2] = [("readings.", "readings"), ("summary.", "summary")];

/// What a sink is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Kinds of records: `decision`, `inference`, `summary` ….
    pub kinds: Vec<String>,
    /// Parts whose records they are: `rule.hot`, `source.*`; empty: all.
    pub inputs: Vec<String>,
}

/// A record, or a hole where records were.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// The same whenever it is passed on: the journal's life, the stream, the number.
    pub id: String,
    /// Whose.
    pub node: NodeId,
    /// The stream.
    pub stream: StreamName,
    /// Its number in the stream; of a hole the last one that is gone.
    pub seq: u64,
    /// What the body is; `gap` for a hole.
    pub kind: String,
    /// The part of the node that it is from, `rule.hot`; absent if it is from no part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// When it was journalled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<WallMs>,
    /// How far that time can be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockQuality>,
    /// The body as journalled; of a hole `{"first": …, "last": …}`.
    pub body: Box<RawValue>,
}

impl Choice {
    /// Whether anything of a stream can be of interest.
    pub fn wants_stream(&self, stream: &StreamName) -> bool {
        let kind = BY_STREAM.iter().find(|(prefix, _)| stream.as_str().starts_with(prefix));
        kind.is_none_or(|(_, kind)| self.wants_kind(kind))
    }

    fn wants_kind(&self, kind: &str) -> bool {
        self.kinds.iter().any(|wanted| wanted == kind)
    }

    /// The record as it is passed on; `None` if nobody asked for it.
    pub fn take(&self, node: &NodeId, life: JournalId, stream: &StreamName, record: Record) -> Option<Item> {
        if !self.wants_kind(record.kind.as_str()) {
            return None;
        }
        let parts = parts_of(record.kind.as_str(), &record.body);
        if !self.inputs.is_empty() && !parts.iter().any(|part| self.wants_part(part)) {
            return None;
        }
        Some(Item {
            id: format!("{life}-{stream}-{}", record.seq),
            node: node.clone(),
            stream: stream.clone(),
            seq: record.seq,
            kind: record.kind.to_string(),
            part: parts.into_iter().next(),
            wall_ms: Some(record.wall_ms),
            clock: Some(record.clock),
            body: record.body,
        })
    }

    /// Whether records of a part are of interest, as far as that is said.
    pub fn wants_part(&self, part: &str) -> bool {
        self.inputs.is_empty()
            || self.inputs.iter().any(|wanted| match wanted.strip_suffix('*') {
                Some(begin) => part.starts_with(begin),
                None => part == wanted,
            })
    }
}

impl Item {
    /// Records that were gone before they could be passed on.
    pub fn gap(node: &NodeId, life: JournalId, stream: &StreamName, first: u64, last: u64) -> Item {
        let body = RawValue::from_string(format!("{{\"first\":{first},\"last\":{last}}}"));
        Item {
            id: format!("{life}-{stream}-{first}-{last}"),
            node: node.clone(),
            stream: stream.clone(),
            seq: last,
            kind: "gap".to_owned(),
            part: None,
            wall_ms: None,
            clock: None,
            body: body.expect("two numbers in an object"),
        }
    }

    /// As one line of JSON, without its end.
    pub fn json(&self) -> Vec<u8> {
        // Names, numbers and a body that is JSON already.
        serde_json::to_vec(self).expect("an item is plain data")
    }
}

/// The parts that a record is of, its own first.
fn parts_of(kind: &str, body: &RawValue) -> Vec<String> {
    let Ok(body) = serde_json::from_str::<Value>(body.get()) else { return Vec::new() };
    let named = |part: &str, name: &Value| name.as_str().map(|name| format!("{part}.{name}"));
    let source = || named("source", &body["source"]);
    match kind {
        "decision" => [named("rule", &body["rule"]), source()].into_iter().flatten().collect(),
        "inference" => [named("model", &body["model"]["name"]), source()].into_iter().flatten().collect(),
        "act" => named("actuator", &body["actuator"]).into_iter().collect(),
        "report" => named("report", &body["report"]).into_iter().collect(),
        "part" => body["part"].as_str().map(str::to_owned).into_iter().collect(),
        _ => source().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::id::{BootId, PartName};

    fn record(kind: &str, body: &str) -> Record {
        Record {
            seq: 7,
            kind: PartName::new(kind).unwrap(),
            boot: BootId::parse("00000000000000000000000000000001").unwrap(),
            mono_ns: 1,
            wall_ms: 1_000,
            clock: ClockQuality::Unchecked,
            body: RawValue::from_string(body.to_owned()).unwrap(),
        }
    }

    #[test]
    fn what_is_passed_on() {
        let node = NodeId::new("oslo-7").unwrap();
        let life = JournalId::parse("00000000000000000000000000000002").unwrap();
        let stream = StreamName::new("decisions").unwrap();
        let check = |kinds: &[&str], inputs: &[&str], kind: &str, body: &str, expected: Option<&str>| {
            let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            let choice = Choice { kinds: list(kinds), inputs: list(inputs) };
            let item = choice.take(&node, life, &stream, record(kind, body));
            assert_eq!(item.map(|item| item.part.unwrap_or_default()).as_deref(), expected, "{kind} {body}");
        };
        let decision = r#"{"rule":"hot","source":"pump"}"#;
        check(&["decision"], &[], "decision", decision, Some("rule.hot"));
        check(&["decision"], &["rule.*"], "decision", decision, Some("rule.hot"));
        check(&["decision"], &["source.pump"], "decision", decision, Some("rule.hot"));
        check(&["decision"], &["rule.cold"], "decision", decision, None);
        check(&["inference"], &[], "decision", decision, None);
        check(
            &["inference"],
            &["model.health"],
            "inference",
            r#"{"model":{"name":"health"}}"#,
            Some("model.health"),
        );
        check(&["part"], &["rule.hot"], "part", r#"{"part":"rule.hot"}"#, Some("rule.hot"));
        check(&["start"], &[], "start", "{}", Some(""));

        let summaries = Choice { kinds: vec!["summary".into()], inputs: Vec::new() };
        assert!(summaries.wants_stream(&StreamName::new("summary.pump").unwrap()));
        assert!(summaries.wants_stream(&StreamName::new("events").unwrap()));
        assert!(!summaries.wants_stream(&StreamName::new("readings.pump").unwrap()));
    }

    #[test]
    fn how_it_looks() {
        let node = NodeId::new("oslo-7").unwrap();
        let life = JournalId::parse("00000000000000000000000000000002").unwrap();
        let stream = StreamName::new("decisions").unwrap();
        let choice = Choice { kinds: vec!["decision".into()], inputs: Vec::new() };
        let body = r#"{"rule":"hot","source":"pump","value":81.5}"#;
        let item = choice.take(&node, life, &stream, record("decision", body)).unwrap();
        let text = String::from_utf8(item.json()).unwrap();
        let expected = format!(
            "{{\"id\":\"{life}-decisions-7\",\"node\":\"oslo-7\",\"stream\":\"decisions\",\"seq\":7,\"kind\":\"decision\",\
             \"part\":\"rule.hot\",\"wall_ms\":1000,\"clock\":\"unchecked\",\"body\":{body}}}"
        );
        assert_eq!(text, expected);
        let gap = String::from_utf8(Item::gap(&node, life, &stream, 3, 5).json()).unwrap();
        let expected = format!(
            "{{\"id\":\"{life}-decisions-3-5\",\"node\":\"oslo-7\",\"stream\":\"decisions\",\"seq\":5,\"kind\":\"gap\",\
             \"body\":{{\"first\":3,\"last\":5}}}}"
        );
        assert_eq!(gap, expected);
    }
}
