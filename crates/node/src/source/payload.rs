//! What programs and devices send, as readings: JSON with places, a bare number, line protocol, the uplinks of LoRaWAN
//! networks.
//!
//! Stands inside the sources that take messages or lines of text (MQTT, `exec`, serial lines). The channels are known from the flow, or
//! fixed by the first message; what a message does not bring is missing. A message that cannot be understood is
//! refused as a whole, and never more than its own size is held.

pub mod place;
pub mod refused;
mod uplink;

use std::collections::HashMap;

use serde_json::Value;
use wire::world::WallMs;

use super::http::brought::{Brought, check_channels};
use super::http::line;
use super::time::TimeReader;
use place::Place;
use refused::{BadPayload, bad};
pub use uplink::Network;

/// How payloads are written, and where in them the channels are.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// An object.
    Json {
        /// Each channel and its place; empty: every number of the object is a channel by its name.
        values: Vec<(String, Place)>,
        /// Where its time is, if it has one.
        time: Option<Place>,
    },
    /// A number alone. The topic says of what.
    Number {
        /// Each channel and the topics it comes by; empty: the last level of the topic is the channel.
        values: Vec<(String, String)>,
    },
    /// Numbers beside one another, between commas, semicolons or blanks, in the order of the channels.
    Columns,
    /// Influx line protocol.
    Lines {
        /// Nanoseconds of one unit of its timestamps.
        unit_ns: i64,
    },
    /// What a LoRaWAN network hands on.
    Uplink {
        /// Which one.
        network: Network,
        /// What devices are called here, and their EUI or their name in the network; empty: there is one device, any.
        devices: Vec<(String, String)>,
        /// As with JSON, inside of what the network has decoded; `rssi`, `snr`, `f_cnt` and `f_port` stand beside it.
        values: Vec<(String, Place)>,
    },
}

/// One reading, or a part of one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// When, by whoever measured.
    pub device_ms: Option<WallMs>,
    /// Place of the channel, value; NaN where it says that there is none.
    pub values: Vec<(usize, f64)>,
}

/// Reads payloads.
#[derive(Debug)]
pub struct Reader {
    form: Form,
    channels: Vec<String>,
    places: HashMap<String, usize>,
    times: TimeReader,
    /// The device that a source of one device has heard first.
    device: Option<String>,
}

impl Reader {
    /// A reader; `declared`: channels that the flow names by themselves.
    pub fn new(form: Form, declared: Option<&[String]>) -> Reader {
        let known = declared.map(<[String]>::to_vec).or_else(|| form.channels()).unwrap_or_default();
        let mut reader = Reader {
            form,
            channels: Vec::new(),
            places: HashMap::new(),
            times: TimeReader::default(),
            device: None,
        };
        reader.fix(known);
        reader
    }

    /// The channels, once they are known.
    pub fn channels(&self) -> Option<&[String]> {
        if self.channels.is_empty() { None } else { Some(&self.channels) }
    }

    fn fix(&mut self, channels: Vec<String>) {
        self.places = channels.iter().enumerate().map(|(at, name)| (name.clone(), at)).collect();
        self.channels = channels;
    }

    /// Reads a payload into `samples`; nothing of it if it is refused.
    pub fn read(&mut self, topic: &str, payload: &[u8], samples: &mut Vec<Sample>) -> Result<(), BadPayload> {
        match &self.form {
            Form::Json { values, time } => {
                let document = json(payload)?;
                let device_ms = match time {
                    None => None,
                    Some(place) => Some(read_time(&mut self.times, place, &document)?),
                };
                let found =
                    if values.is_empty() { flat("", &document)? } else { at_places(values, &document)? };
                samples.push(Sample { device_ms, values: self.arrange(found)? });
            }
            Form::Number { values } => {
                let text = text(payload)?.trim();
                let value = number(text).ok_or_else(|| bad(format!("{} is no number", shown(text))))?;
                let channel = if values.is_empty() {
                    topic.rsplit('/').next().unwrap_or(topic).to_owned()
                } else {
                    let fits = |(_, filter): &&(String, String)| mqtt_v5::mqttbytes::matches(topic, filter);
                    let (channel, _) = values
                        .iter()
                        .find(fits)
                        .ok_or_else(|| bad(format!("no channel is fed by the topic {}", shown(topic))))?;
                    channel.clone()
                };
                let values = self.arrange(vec![(channel, value)])?;
                samples.push(Sample { device_ms: None, values });
            }
            Form::Columns => {
                let cells: Vec<&str> = columns(text(payload)?).collect();
                if cells.len() != self.channels.len() {
                    let wanted = self.channels.len();
                    return Err(bad(format!("it has {} columns, not {wanted}", cells.len())));
                }
                let mut values = Vec::with_capacity(cells.len());
                for (at, cell) in cells.iter().enumerate() {
                    let missing = cell.is_empty() || cell.eq_ignore_ascii_case("nan") || *cell == "null";
                    let value = if missing { Some(f64::NAN) } else { number(cell) };
                    let value = value.ok_or_else(|| bad(format!("{} is no number", shown(cell))))?;
                    values.push((at, value));
                }
                if values.iter().all(|(_, value)| value.is_nan()) {
                    return Err(bad("it has no number for any channel"));
                }
                samples.push(Sample { device_ms: None, values });
            }
            Form::Lines { unit_ns } => {
                let brought =
                    line::read(text(payload)?, *unit_ns).map_err(|refusal| bad(refusal.to_string()))?;
                if brought.is_empty() {
                    return Err(bad("it has no reading"));
                }
                let before = samples.len();
                for Brought { t_ms, values, .. } in brought {
                    match self.arrange(values) {
                        Ok(values) => samples.push(Sample { device_ms: t_ms, values }),
                        Err(refused) => {
                            samples.truncate(before);
                            return Err(refused);
                        }
                    }
                }
            }
            Form::Uplink { network, devices, values } => {
                let document = json(payload)?;
                let uplink = uplink::read(*network, &document)?;
                let prefix = if devices.is_empty() {
                    match &self.device {
                        Some(device) if *device != uplink.device => {
                            let message = format!(
                                "it comes from {}, this source hears {device}: name both in `devices`",
                                shown(&uplink.device)
                            );
                            return Err(bad(message));
                        }
                        Some(_) => {}
                        None => self.device = Some(uplink.device.clone()),
                    }
                    String::new()
                } else {
                    let known = devices.iter().find(|(_, id)| uplink.is_from(id));
                    let (name, _) =
                        known.ok_or_else(|| bad(format!("{} is not in `devices`", shown(&uplink.device))))?;
                    format!("{name}_")
                };
                let device_ms = uplink.time.as_deref().and_then(|text| self.times.read(text));
                let found = if values.is_empty() {
                    flat(&prefix, &uplink.fields)?
                } else {
                    let found = at_places(values, &uplink.fields)?;
                    found.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)).collect()
                };
                samples.push(Sample { device_ms, values: self.arrange(found)? });
            }
        }
        Ok(())
    }

    /// Names to places; the first message fixes the channels if nothing else did.
    fn arrange(&mut self, found: Vec<(String, f64)>) -> Result<Vec<(usize, f64)>, BadPayload> {
        if self.channels.is_empty() {
            check_channels("the first message", &found).map_err(|refusal| bad(refusal.to_string()))?;
            self.fix(found.iter().map(|(name, _)| name.clone()).collect());
        }
        // Of an object without places only what is declared is looked at: messages have numbers that are no measure.
        let strict = matches!(self.form, Form::Lines { .. } | Form::Number { .. });
        let mut values = Vec::with_capacity(found.len());
        for (name, value) in found {
            match self.places.get(&name) {
                Some(place) => values.push((*place, value)),
                None if strict => {
                    return Err(bad(format!("there is no channel {} in this source", shown(&name))));
                }
                None => {}
            }
        }
        if values.iter().all(|(_, value)| value.is_nan()) {
            return Err(bad("it has no number for any channel"));
        }
        Ok(values)
    }
}

impl Form {
    /// The channels that the form itself names.
    pub fn channels(&self) -> Option<Vec<String>> {
        let names: Vec<String> = match self {
            Form::Json { values, .. } => values.iter().map(|(name, _)| name.clone()).collect(),
            Form::Number { values } => values.iter().map(|(name, _)| name.clone()).collect(),
            Form::Columns | Form::Lines { .. } => Vec::new(),
            Form::Uplink { devices, values, .. } if devices.is_empty() => {
                values.iter().map(|(name, _)| name.clone()).collect()
            }
            Form::Uplink { devices, values, .. } => devices
                .iter()
                .flat_map(|(device, _)| values.iter().map(move |(name, _)| format!("{device}_{name}")))
                .collect(),
        };
        if names.is_empty() { None } else { Some(names) }
    }
}

/// Cells between the first separator that is there: commas, semicolons, tabs, or runs of blanks.
fn columns(text: &str) -> Box<dyn Iterator<Item = &str> + '_> {
    match [',', ';', '\t'].into_iter().find(|separator| text.contains(*separator)) {
        Some(separator) => Box::new(text.split(separator).map(str::trim)),
        None => Box::new(text.split_whitespace()),
    }
}

fn text(payload: &[u8]) -> Result<&str, BadPayload> {
    std::str::from_utf8(payload).map_err(|_| bad("it is not UTF-8 text"))
}

fn json(payload: &[u8]) -> Result<Value, BadPayload> {
    serde_json::from_slice(payload).map_err(|error| bad(format!("it is no JSON: {error}")))
}

fn read_time(times: &mut TimeReader, place: &Place, document: &Value) -> Result<WallMs, BadPayload> {
    let found = place.find(document);
    let read = match found {
        Some(Value::String(text)) => times.read(text),
        Some(Value::Number(number)) => times.read(&number.to_string()),
        _ => None,
    };
    read.ok_or_else(|| bad(format!("there is no time at `{place}`")))
}

/// The numbers of an object, by name.
fn flat(prefix: &str, document: &Value) -> Result<Vec<(String, f64)>, BadPayload> {
    let Value::Object(fields) = document else { return Err(bad("it is no JSON object")) };
    let numbers = fields.iter().filter_map(|(name, value)| match value {
        Value::Number(_) | Value::Bool(_) | Value::Null => {
            Some((format!("{prefix}{name}"), as_number(value)?))
        }
        _ => None,
    });
    Ok(numbers.collect())
}

fn at_places(values: &[(String, Place)], document: &Value) -> Result<Vec<(String, f64)>, BadPayload> {
    let mut found = Vec::with_capacity(values.len());
    for (name, place) in values {
        let Some(value) = place.find(document) else { continue };
        let number = as_number(value)
            .ok_or_else(|| bad(format!("`{place}` is {}, which is no number", shown(&value.to_string()))))?;
        found.push((name.clone(), number));
    }
    Ok(found)
}

/// A number, a truth value, `null` for a missing one, or a number as a text, as some devices write it.
fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        Value::Null => Some(f64::NAN),
        Value::String(text) => number(text.trim()),
        _ => None,
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "true" | "True" | "TRUE" | "on" | "ON" | "On" => return Some(1.0),
        "false" | "False" | "FALSE" | "off" | "OFF" | "Off" => return Some(0.0),
        _ => {}
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::read(text).unwrap()
    }

    fn values(pairs: &[(&str, &str)]) -> Vec<(String, Place)> {
        pairs.iter().map(|(name, at)| ((*name).to_owned(), place(at))).collect()
    }

    fn check(reader: &mut Reader, topic: &str, payload: &str, expected: Result<&[(&str, f64)], &str>) {
        let mut samples = Vec::new();
        match (reader.read(topic, payload.as_bytes(), &mut samples), expected) {
            (Ok(()), Ok(expected)) => {
                let channels = reader.channels().unwrap();
                let found: Vec<(&str, f64)> = samples
                    .iter()
                    .flat_map(|sample| {
                        sample.values.iter().map(|(at, value)| (channels[*at].as_str(), *value))
                    })
                    .collect();
                assert_eq!(found, expected, "{payload}");
            }
            (Err(bad), Err(part)) => {
                assert!(bad.to_string().contains(part), "{payload}: {bad}");
                assert!(samples.is_empty());
            }
            (found, _) => panic!("{payload}: {found:?}"),
        }
    }

    #[test]
    fn json_with_places() {
        let form = Form::Json {
            values: values(&[("pressure", "data.p"), ("flow", "data.list[1]"), ("on", "/state/on")]),
            time: Some(place("ts")),
        };
        let mut reader = Reader::new(form, None);
        assert_eq!(reader.channels().unwrap(), ["pressure", "flow", "on"]);
        let body = r#"{"ts":"2026-01-31T10:00:00Z","data":{"p":1.5,"list":[0,"2.5"]},"state":{"on":true}}"#;
        check(&mut reader, "", body, Ok(&[("pressure", 1.5), ("flow", 2.5), ("on", 1.0)]));
        check(&mut reader, "", r#"{"ts":1769853600,"data":{"p":1}}"#, Ok(&[("pressure", 1.0)]));
        check(&mut reader, "", r#"{"data":{"p":1}}"#, Err("no time at `ts`"));
        check(&mut reader, "", r#"{"ts":5,"data":{"p":[1]}}"#, Err("no number"));
        check(&mut reader, "", r#"{"ts":5,"data":{}}"#, Err("no number for any"));
        check(&mut reader, "", r#"{"ts":5,"data":{"p":null}}"#, Err("no number for any"));
        check(&mut reader, "", "{", Err("no JSON"));
        check(&mut reader, "", &"[".repeat(100_000), Err("no JSON"));
        let mut samples = Vec::new();
        reader.read("", body.as_bytes(), &mut samples).unwrap();
        assert_eq!(samples[0].device_ms, Some(1_769_853_600_000));
    }

    #[test]
    fn json_whose_first_message_fixes_the_channels() {
        let mut reader = Reader::new(Form::Json { values: Vec::new(), time: None }, None);
        assert_eq!(reader.channels(), None);
        let mut samples = Vec::new();
        let first = br#"{"a":1,"name":"x","b":null,"c":{"d":1}}"#;
        reader.read("", first, &mut samples).unwrap();
        assert_eq!(reader.channels().unwrap(), ["a", "b"]);
        assert!(samples[0].values[1].1.is_nan());
        check(&mut reader, "", r#"{"b":2,"z":3}"#, Ok(&[("b", 2.0)]));
        check(&mut reader, "", r#"{"z":3}"#, Err("no number for any"));
    }

    #[test]
    fn numbers() {
        let mut reader = Reader::new(Form::Number { values: Vec::new() }, Some(&["t".into(), "p".into()]));
        check(&mut reader, "plant/1/t", " 21.5\n", Ok(&[("t", 21.5)]));
        check(&mut reader, "plant/1/p", "on", Ok(&[("p", 1.0)]));
        check(&mut reader, "plant/1/x", "1", Err("no channel \"x\""));
        check(&mut reader, "plant/1/t", "warm", Err("\"warm\" is no number"));
        check(&mut reader, "plant/1/t", "inf", Err("no number"));
        let fed = vec![("inlet".to_owned(), "a/+/t".to_owned()), ("outlet".to_owned(), "b/t".to_owned())];
        let mut reader = Reader::new(Form::Number { values: fed }, None);
        check(&mut reader, "a/7/t", "3", Ok(&[("inlet", 3.0)]));
        check(&mut reader, "b/t", "4", Ok(&[("outlet", 4.0)]));
        check(&mut reader, "c/t", "4", Err("no channel is fed"));
    }

    #[test]
    fn columns_of_numbers() {
        let mut reader = Reader::new(Form::Columns, Some(&["a".into(), "b".into(), "c".into()]));
        check(&mut reader, "", "1, 2.5,-3e2", Ok(&[("a", 1.0), ("b", 2.5), ("c", -300.0)]));
        check(&mut reader, "", " 1  2\t3", Err("2 columns, not 3"));
        check(&mut reader, "", "1 2   3 ", Ok(&[("a", 1.0), ("b", 2.0), ("c", 3.0)]));
        check(&mut reader, "", "1;2", Err("2 columns, not 3"));
        check(&mut reader, "", "1;x;2", Err("\"x\" is no number"));
        check(&mut reader, "", ",,nan", Err("no number for any"));
    }

    #[test]
    fn lines() {
        let mut reader = Reader::new(Form::Lines { unit_ns: 1_000_000 }, None);
        check(
            &mut reader,
            "",
            "m a=1,b=2 5\nm a=3,b=4 6",
            Ok(&[("a", 1.0), ("b", 2.0), ("a", 3.0), ("b", 4.0)]),
        );
        check(&mut reader, "", "m a=1 5\nm z=3 6", Err("no channel \"z\""));
        check(&mut reader, "", "", Err("no reading"));
    }

    const CHIRPSTACK: &str = r#"{"deduplicationId":"3ac7e3c4","time":"2026-01-31T10:00:00.123456789+00:00",
        "deviceInfo":{"applicationName":"farm","deviceName":"field-7","devEui":"24e124136b502217"},
        "fCnt":12,"fPort":85,"data":"AXVk","object":{"soil":{"moisture":31.5},"battery":98},
        "rxInfo":[{"gatewayId":"a","rssi":-101,"snr":-3.5},{"gatewayId":"b","rssi":-57,"snr":9.25}]}"#;
    const TTN: &str = r#"{"end_device_ids":{"device_id":"field-7","dev_eui":"24E124136B502217"},
        "received_at":"2026-01-31T10:00:01Z","uplink_message":{"f_port":85,"f_cnt":12,"frm_payload":"AXVk",
        "decoded_payload":{"soil":{"moisture":31.5},"battery":98},
        "rx_metadata":[{"rssi":-57,"snr":9.25}],"received_at":"2026-01-31T10:00:00.123Z"}}"#;

    #[test]
    fn uplinks_of_lorawan_networks() {
        for (network, body) in [(Network::ChirpStack, CHIRPSTACK), (Network::Ttn, TTN)] {
            let form = Form::Uplink {
                network,
                devices: vec![
                    ("north".into(), "24E124136b502217".into()),
                    ("south".into(), "field-8".into()),
                ],
                values: values(&[("moisture", "soil.moisture"), ("rssi", "rssi")]),
            };
            let mut reader = Reader::new(form, None);
            let channels = ["north_moisture", "north_rssi", "south_moisture", "south_rssi"];
            assert_eq!(reader.channels().unwrap(), channels);
            check(&mut reader, "", body, Ok(&[("north_moisture", 31.5), ("north_rssi", -57.0)]));
            let mut samples = Vec::new();
            reader.read("", body.as_bytes(), &mut samples).unwrap();
            assert_eq!(samples[0].device_ms, Some(1_769_853_600_123), "{network:?}");
            let other = body.replace("24e124136b502217", "ff").replace("24E124136B502217", "ff");
            check(&mut reader, "", &other, Err("is not in `devices`"));
            let south = other.replace("field-7", "field-8");
            check(&mut reader, "", &south, Ok(&[("south_moisture", 31.5), ("south_rssi", -57.0)]));

            let any = Form::Uplink { network, devices: Vec::new(), values: Vec::new() };
            let mut reader = Reader::new(any, None);
            let mut samples = Vec::new();
            reader.read("", body.as_bytes(), &mut samples).unwrap();
            let mut channels = reader.channels().unwrap().to_vec();
            channels.sort();
            assert_eq!(channels, ["battery", "f_cnt", "f_port", "rssi", "snr"]);
            check(&mut reader, "", &south, Err("name both in `devices`"));
        }
        let undecoded = r#"{"deviceInfo":{"devEui":"1"},"data":"AXVk"}"#;
        let any = Form::Uplink { network: Network::ChirpStack, devices: Vec::new(), values: Vec::new() };
        check(&mut Reader::new(any, None), "", undecoded, Err("codec"));
    }
}
