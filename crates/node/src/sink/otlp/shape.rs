//! How records look as OTLP: events as log records, numbers as points of gauges, both in the protocol's JSON encoding. Pure.
//!
//! The encoding is the JSON of Protocol Buffers with OTLP's own rules: names in `lowerCamelCase`, enums as numbers, 64-bit integers as
//! text (OTLP specification 1.x, "JSON Protobuf Encoding").

use serde_json::{Map, Value, json};
use wire::id::NodeId;

use crate::sink::choose::Item;

/// `SeverityNumber` of OTLP's logs.
const INFO: u8 = 9;
const WARN: u8 = 13;
const ERROR: u8 = 17;

/// One point of a gauge.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    /// The metric's name.
    name: &'static str,
    /// Its unit, as UCUM has it; empty where the node does not know it.
    unit: &'static str,
    /// When, by the source's clock.
    t_ms: i64,
    value: f64,
    /// Of what.
    attributes: Vec<(&'static str, String)>,
}

/// Whether records of a kind are numbers and nothing else.
pub(super) fn is_numbers(kind: &str) -> bool {
    matches!(kind, "summary" | "readings")
}

/// A record as a log record.
pub(super) fn log(item: &Item) -> Value {
    let body: Value = serde_json::from_str(item.body.get()).unwrap_or_default();
    let (number, text) = severity(&item.kind, &body);
    let mut attributes = vec![
        attribute("selvedge.id", &item.id),
        attribute("selvedge.stream", item.stream.as_str()),
        json!({"key": "selvedge.seq", "value": {"intValue": item.seq.to_string()}}),
    ];
    if let Some(part) = &item.part {
        attributes.push(attribute("selvedge.part", part));
    }
    if let Some(clock) = item.clock {
        let clock = serde_json::to_value(clock).unwrap_or_default();
        attributes.push(json!({"key": "selvedge.clock", "value": any(&clock)}));
    }
    let mut log = json!({
        "severityNumber": number,
        "severityText": text,
        "eventName": format!("selvedge.{}", item.kind),
        "body": any(&body),
        "attributes": attributes,
    });
    if let Some(wall_ms) = item.wall_ms {
        // When it happened is the source's word; when it was written is ours.
        let t_ms = body["at_ms"].as_i64().unwrap_or(wall_ms);
        log["timeUnixNano"] = nanos(t_ms).into();
        log["observedTimeUnixNano"] = nanos(wall_ms).into();
    }
    log
}

/// The numbers of a record.
pub(super) fn points(item: &Item) -> Vec<Point> {
    let body: Value = serde_json::from_str(item.body.get()).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let source = ("source", text(&body["source"]));
    let at_ms = body["at_ms"].as_i64().or(item.wall_ms).unwrap_or_default();
    let mut points = Vec::new();
    let mut add = |name, unit, t_ms, value: &Value, attributes: Vec<(&'static str, String)>| {
        if let Some(value) = value.as_f64() {
            points.push(Point { name, unit, t_ms, value, attributes });
        }
    };
    match item.kind.as_str() {
        "summary" => {
            let t_ms = body["to_ms"].as_i64().unwrap_or(at_ms);
            for channel in list(&body["channels"]) {
                let of = vec![source.clone(), ("channel", text(&channel["channel"]))];
                add("selvedge.channel.min", "", t_ms, &channel["min"], of.clone());
                add("selvedge.channel.mean", "", t_ms, &channel["mean"], of.clone());
                add("selvedge.channel.max", "", t_ms, &channel["max"], of.clone());
                add("selvedge.channel.missing", "{reading}", t_ms, &channel["missing"], of);
            }
            for model in list(&body["models"]) {
                let of = vec![source.clone(), ("model", text(&model["model"]))];
                add("selvedge.model.score", "1", t_ms, &model["score"], of.clone());
                add("selvedge.model.probability", "1", t_ms, &model["probability"], of);
            }
        }
        "readings" => {
            let times = list(&body["t_ms"]);
            for (channel, values) in list(&body["channels"]).iter().zip(list(&body["values"])) {
                let of = vec![source.clone(), ("channel", text(channel))];
                for (t_ms, value) in times.iter().zip(list(values)) {
                    add("selvedge.reading", "", t_ms.as_i64().unwrap_or(at_ms), value, of.clone());
                }
            }
        }
        "decision" => {
            let of = vec![source, ("rule", text(&body["rule"]))];
            let firing = json!(u8::from(body["state"] == "firing"));
            add("selvedge.rule.firing", "1", at_ms, &firing, of.clone());
            add("selvedge.rule.value", "", at_ms, &body["value"], of.clone());
            add("selvedge.latency", "us", at_ms, &body["latency_us"], of);
        }
        "inference" => {
            let of = vec![source, ("model", text(&body["model"]["name"]))];
            add("selvedge.model.score", "1", at_ms, &body["score"], of.clone());
            add("selvedge.model.probability", "1", at_ms, &body["probability"], of.clone());
            add("selvedge.latency", "us", at_ms, &body["latency_us"], of);
        }
        "answer" => {
            let of = vec![source, ("model", text(&body["model"]["name"]))];
            for (field, value) in body["fields"].as_object().unwrap_or(&Map::new()) {
                let of = of.iter().cloned().chain([("field", field.clone())]).collect();
                add("selvedge.network.field", "", at_ms, value, of);
            }
            add("selvedge.latency", "us", at_ms, &body["latency_us"], of);
        }
        _ => {}
    }
    points
}

/// An `ExportLogsServiceRequest`.
pub(super) fn logs_request<'l>(node: &NodeId, logs: impl Iterator<Item = &'l Value>) -> Vec<u8> {
    let logs: Vec<&Value> = logs.collect();
    let logs = json!({"resourceLogs": [{
        "resource": resource(node),
        "scopeLogs": [{"scope": scope(), "logRecords": logs}],
    }]});
    logs.to_string().into_bytes()
}

/// An `ExportMetricsServiceRequest`.
pub(super) fn metrics_request(node: &NodeId, points: &[Point]) -> Vec<u8> {
    let mut metrics: Vec<Value> = Vec::new();
    for Point { name, unit, t_ms, value, attributes } in points {
        let attributes: Vec<Value> = attributes.iter().map(|(key, value)| attribute(key, value)).collect();
        let point = json!({"attributes": attributes, "timeUnixNano": nanos(*t_ms), "asDouble": value});
        match metrics.iter_mut().find(|metric| metric["name"] == *name) {
            Some(metric) => {
                if let Some(points) = metric["gauge"]["dataPoints"].as_array_mut() {
                    points.push(point);
                }
            }
            None => metrics.push(json!({"name": name, "unit": unit, "gauge": {"dataPoints": [point]}})),
        }
    }
    let metrics = json!({"resourceMetrics": [{
        "resource": resource(node),
        "scopeMetrics": [{"scope": scope(), "metrics": metrics}],
    }]});
    metrics.to_string().into_bytes()
}

/// What a receiver says of a request that it took: how many it left out, and why. Nothing that can be read is nothing left out.
pub(super) fn left_out(answer: &[u8]) -> Option<(u64, String)> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let partly = answer["partialSuccess"].as_object()?;
    let count = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let rejected =
        ["rejectedLogRecords", "rejectedDataPoints"].iter().find_map(|key| count(partly.get(*key)?));
    let why = partly.get("errorMessage").and_then(Value::as_str).unwrap_or_default();
    let why: String = why.chars().filter(|c| !c.is_control()).take(300).collect();
    rejected.filter(|rejected| *rejected > 0).map(|rejected| (rejected, why))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn severity(kind: &str, body: &Value) -> (u8, &'static str) {
    let is = |key: &str, word: &str| body[key] == word;
    match kind {
        "decision" if is("state", "firing") => match body["severity"].as_str() {
            Some("critical") => (ERROR, "critical"),
            Some("warning") => (WARN, "warning"),
            _ => (INFO, "info"),
        },
        "inference" if is("state", "begins") => (WARN, "warning"),
        "part" | "source" if is("state", "failed") || is("state", "faulty") => (WARN, "warning"),
        "act" if is("outcome", "failed") => (ERROR, "critical"),
        "gap" => (WARN, "warning"),
        _ => (INFO, "info"),
    }
}

fn resource(node: &NodeId) -> Value {
    json!({"attributes": [
        attribute("service.name", "selvedge"),
        attribute("service.version", env!("CARGO_PKG_VERSION")),
        attribute("service.instance.id", node.as_str()),
    ]})
}

fn scope() -> Value {
    json!({"name": "selvedge", "version": env!("CARGO_PKG_VERSION")})
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Nanoseconds since 1970, as text; 0, which is "unknown", for a time before.
fn nanos(t_ms: i64) -> String {
    u64::try_from(t_ms).unwrap_or_default().saturating_mul(1_000_000).to_string()
}

/// Any JSON as an `AnyValue`.
fn any(value: &Value) -> Value {
    match value {
        // A value that is not set.
        Value::Null => json!({}),
        Value::Bool(value) => json!({"boolValue": value}),
        Value::String(text) => json!({"stringValue": text}),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => json!({"intValue": whole.to_string()}),
            None => json!({"doubleValue": number}),
        },
        Value::Array(values) => json!({"arrayValue": {"values": values.iter().map(any).collect::<Vec<_>>()}}),
        Value::Object(fields) => {
            let fields: Vec<Value> =
                fields.iter().map(|(key, value)| json!({"key": key, "value": any(value)})).collect();
            json!({"kvlistValue": {"values": fields}})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use wire::id::StreamName;
    use wire::world::ClockQuality;

    fn item(kind: &str, body: &str) -> Item {
        Item {
            id: "life-decisions-7".to_owned(),
            node: NodeId::new("oslo-7").unwrap(),
            stream: StreamName::new("decisions").unwrap(),
            seq: 7,
            kind: kind.to_owned(),
            part: Some("rule.hot".to_owned()),
            wall_ms: Some(2_000),
            clock: Some(ClockQuality::Unchecked),
            body: RawValue::from_string(body.to_owned()).unwrap(),
        }
    }

    #[test]
    fn a_decision() {
        let body = r#"{"rule":"hot","state":"firing","severity":"critical","source":"pump","at_ms":1000,"value":81.5,"latency_us":40,"why":null}"#;
        let item = item("decision", body);
        let log = log(&item);
        assert_eq!(log["timeUnixNano"], "1000000000");
        assert_eq!(log["observedTimeUnixNano"], "2000000000");
        assert_eq!(log["severityNumber"], 17);
        let fields = log["body"]["kvlistValue"]["values"].as_array().unwrap();
        let field = |name: &str| &fields.iter().find(|field| field["key"] == name).unwrap()["value"];
        assert_eq!(*field("value"), json!({"doubleValue": 81.5}));
        assert_eq!(*field("latency_us"), json!({"intValue": "40"}));
        assert_eq!(*field("why"), json!({}));
        let named: Vec<_> = points(&item).iter().map(|point| (point.name, point.value)).collect();
        assert_eq!(
            named,
            [("selvedge.rule.firing", 1.0), ("selvedge.rule.value", 81.5), ("selvedge.latency", 40.0)]
        );
    }

    #[test]
    fn numbers_of_readings_and_summaries() {
        let readings = r#"{"source":"pump","channels":["p","q"],"t_ms":[1,2],"values":[[1.5,null],[3,4]]}"#;
        let found = points(&item("readings", readings));
        let short: Vec<_> =
            found.iter().map(|point| (point.attributes[1].1.as_str(), point.t_ms, point.value)).collect();
        assert_eq!(short, [("p", 1, 1.5), ("q", 1, 3.0), ("q", 2, 4.0)]);
        let summary = r#"{"source":"pump","from_ms":0,"to_ms":9,"count":2,"channels":[{"channel":"p","min":1,"mean":null,"max":3}],"models":[{"model":"m","score":0.5}]}"#;
        let found = points(&item("summary", summary));
        let short: Vec<_> = found.iter().map(|point| (point.name, point.t_ms, point.value)).collect();
        let expected = [
            ("selvedge.channel.min", 9, 1.0),
            ("selvedge.channel.max", 9, 3.0),
            ("selvedge.model.score", 9, 0.5),
        ];
        assert_eq!(short, expected);
        let request: Value =
            serde_json::from_slice(&metrics_request(&NodeId::new("n").unwrap(), &found)).unwrap();
        let metrics = &request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        assert_eq!(metrics.as_array().unwrap().len(), 3);
        assert_eq!(metrics[0]["gauge"]["dataPoints"][0]["timeUnixNano"], "9000000");
        assert!(points(&item("summary", "7")).is_empty());
    }

    #[test]
    fn what_a_receiver_leaves_out() {
        let check = |answer: &str, expected: Option<(u64, &str)>| {
            let expected = expected.map(|(count, why)| (count, why.to_owned()));
            assert_eq!(left_out(answer.as_bytes()), expected, "{answer}");
        };
        check("{}", None);
        check("", None);
        check(r#"{"partialSuccess":{}}"#, None);
        check(r#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"no\n"}}"#, Some((2, "no")));
        check(r#"{"partialSuccess":{"rejectedDataPoints":3}}"#, Some((3, "")));
        check(r#"{"partialSuccess":{"rejectedDataPoints":"0","errorMessage":"slow"}}"#, None);
    }
}
