//! Records in words: what was decided, by what, on which input, why, and how sure it was.

use anyhow::Context as _;
use serde_json::Value;
use wire::body::Body as _;
use wire::body::act::{Act, Receipt};
use wire::record::Record;

use crate::recording::show_time;

/// A record, for whoever it is about, or has to understand it.
pub(crate) fn in_words(record: &Record) -> anyhow::Result<String> {
    let body: Value = serde_json::from_str(record.body.get()).context("a record is not JSON")?;
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    let when = format!("{} UTC", show_time(record.wall_ms));
    if record.kind.as_str() == Act::KIND
        && let Ok(act) = serde_json::from_str::<Act>(record.body.get())
    {
        return Ok(act_in_words(&when, &act));
    }
    if record.kind.as_str() != "decision" {
        return Ok(format!("{when}  {}  {body}", record.kind));
    }
    let by = match &body["model"]["name"] {
        Value::String(name) => {
            let variant = body["model"]["variant"].as_str().unwrap_or_default();
            let digest = body["model"]["digest"].as_str().unwrap_or("learnt on this node");
            format!("the model {name} ({variant}; {digest})")
        }
        _ => "a rule alone, without a model".to_owned(),
    };
    let sure = match body["confidence"].as_f64() {
        Some(sure) => format!("{:.1} %", 100.0 * sure),
        None => "not known".to_owned(),
    };
    Ok(format!(
        "{when}  {} {}\n  condition   {}\n  value       {}\n  why         {}\n  decided by  {by}\n  input       {}\n  how sure    {sure}",
        text("rule"),
        text("state"),
        text("when"),
        body["value"],
        text("why"),
        text("input"),
    ))
}

/// What an actuator was asked, by whom, and what came of it.
fn act_in_words(when: &str, act: &Act) -> String {
    let Act { actuator, who, asked, outcome, why, receipt, .. } = act;
    let device = match receipt {
        Some(Receipt { read: Some(read), took_ms, .. }) => format!("it says {read}, after {took_ms} ms"),
        Some(Receipt { set, read: None, .. }) => format!("it took {set}, and cannot be asked"),
        None => "not asked".to_owned(),
    };
    format!(
        "{when}  {actuator}\n  asked by    {who}\n  for         {asked}\n  outcome     {}\n  why         {why}\n  device      {device}",
        outcome.as_str()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use wire::id::{BootId, PartName};
    use wire::world::{ClockQuality, Simulated};

    use super::*;

    fn record(kind: &str, body: &str) -> Record {
        Record {
            seq: 1,
            kind: PartName::new(kind).unwrap(),
            boot: BootId::random(&mut Simulated::new(1)),
            mono_ns: 0,
            wall_ms: 0,
            clock: ClockQuality::Unchecked,
            body: RawValue::from_string(body.to_owned()).unwrap(),
        }
    }

    #[test]
    fn an_asking_says_who_asked_for_what_and_what_came_of_it() {
        let body = "{\"actuator\":\"valve\",\"who\":{\"kind\":\"agent\",\"name\":\"bot\"},\"asked\":\"open\",\
                    \"outcome\":\"refused\",\"why\":\"its interlock does not hold\"}";
        let words = in_words(&record("act", body)).unwrap();
        let lines: Vec<&str> = words.lines().collect();
        assert_eq!(lines[0], "1970-01-01 00:00:00.000 UTC  valve");
        assert_eq!(lines[1], "  asked by    agent bot");
        assert!(words.contains("refused") && words.contains("its interlock does not hold"), "{words}");
        // A newer node may say it in another way.
        assert!(in_words(&record("act", "{\"x\":1}")).unwrap().contains("act  {\"x\":1}"));
    }
}
