//! Reads how payloads become readings: `payload`, `values`, `time`, `devices`, `gather`, `max_payload`.

use crate::config::part::{Part, Placed};
use crate::config::problem::did_you_mean;
use crate::config::quantity::{duration_ms, size_bytes};
use crate::flow::pairs::{Pair, pairs};
use crate::source::funnel::FunnelSettings;
use crate::source::payload::place::Place;
use crate::source::payload::{Form, Network};

/// What a source may say of its payloads.
pub(super) struct Allowed {
    /// The words for `payload`, the default first.
    pub(super) forms: &'static [&'static str],
    /// How long values are gathered if nothing is said, for payloads of one value.
    pub(super) gather: &'static str,
}

/// Reads it. `declared`: the channels that the source lists; filled in where the payload says what they are.
pub(super) fn funnel(
    allowed: &Allowed,
    declared: &mut Option<Vec<String>>,
    part: &mut Part<'_, '_>,
) -> Option<(FunnelSettings, Placed<String>)> {
    let word = part.take_or("payload", allowed.forms[0].to_owned(), &format!("{:?}", allowed.forms[0]));
    let form = match word.value.as_str() {
        other if !allowed.forms.contains(&other) => {
            let help = did_you_mean(other, allowed.forms.iter().copied());
            part.problem(word.span, format!("`{}` knows no payload {other:?}", part.path), help);
            return None;
        }
        "json" => {
            let values = places(part);
            let time = part.take_text("time", Place::read).map(|placed| placed.value);
            Form::Json { values, time }
        }
        "number" => {
            let values = pairs(part, "values", "{ pressure = \"plant/pump/pressure\" }");
            let mut fed = Vec::new();
            for Pair { name, text, span } in values {
                if mqtt_v5::mqttbytes::valid_filter(&text) {
                    fed.push((name, text));
                } else {
                    let message = format!("{text:?} is no topic");
                    part.problem(span, message, "write \"plant/pump/pressure\", with `+` for any one level");
                }
            }
            if fed.is_empty() && declared.is_none() {
                let (span, message) =
                    (part.span.clone(), format!("`{}` does not say what its numbers are", part.path));
                let help = "add `channels = [\"pressure\"]` (the last level of the topic), or `values = { pressure = \"plant/pump/p\" }`";
                part.problem(span, message, help);
            }
            Form::Number { values: fed }
        }
        "lines" => {
            let unit = part.take_text_or("precision", "ns", |text| match text {
                "ns" => Ok(1),
                "us" => Ok(1_000),
                "ms" => Ok(1_000_000),
                "s" => Ok(1_000_000_000),
                _ => Err("must be \"ns\", \"us\", \"ms\" or \"s\"".to_owned()),
            });
            Form::Lines { unit_ns: unit.value }
        }
        "columns" => {
            if declared.is_none() {
                let message = format!("`{}` does not say what its columns are", part.path);
                part.problem(word.span.clone(), message, "add `channels = [\"pressure\", \"flow\"]`");
            }
            Form::Columns
        }
        preset => {
            let network = if preset == "ttn" { Network::Ttn } else { Network::ChirpStack };
            let values = places(part);
            let devices = pairs(part, "devices", "{ north = \"24e124136b502217\" }");
            if values.is_empty() && !devices.is_empty() && declared.is_none() {
                let message = format!("`{}` names devices, and not what they measure", part.path);
                let help = "add `values = { moisture = \"soil_moisture\" }`: places in what the codec gives";
                part.problem(part.span.clone(), message, help);
            }
            let devices = devices.into_iter().map(|Pair { name, text, .. }| (name, text)).collect();
            Form::Uplink { network, devices, values }
        }
    };
    if let Some(channels) = form.channels() {
        if declared.is_some() {
            let message = format!("`{}` names its channels twice", part.path);
            part.problem(part.span.clone(), message, "take out `channels`: `values` names them");
        }
        *declared = Some(channels);
    }
    let single = matches!(form, Form::Number { .. });
    let default = if single { allowed.gather } else { "0s" };
    let gather = part.take_text_or("gather", default, duration_ms);
    let most = part.take_text_or("max_payload", "256KiB", |text| {
        let bytes = size_bytes(text)?;
        if (1..=1 << 20).contains(&bytes) {
            Ok(bytes as usize)
        } else {
            Err("must be from 1 B to 1 MiB".to_owned())
        }
    });
    let settings = FunnelSettings { form, gather_ms: gather.value, max_payload_bytes: most.value };
    Some((settings, word))
}

fn places(part: &mut Part<'_, '_>) -> Vec<(String, Place)> {
    let mut values = Vec::new();
    for Pair { name, text, span } in pairs(part, "values", "{ pressure = \"data.p\" }") {
        match Place::read(&text) {
            Ok(place) => values.push((name, place)),
            Err(message) => part.problem(span, message, "write \"data.list[0].p\", or \"/data/list/0/p\""),
        }
    }
    values
}
