//! `type = "mqtt"`: a source that listens to topics of a broker.

use std::path::Path;

use super::payload::{Allowed, funnel};
use crate::config::part::Part;
use crate::config::quantity::duration_ms;
use crate::flow::broker::{broker, client_id};
use crate::source::mqtt::settings::MqttSettings;

/// The most filters of one source.
const MAX_TOPICS: usize = 100;

/// Reads it; `None` after a problem.
pub(super) fn read(
    folder: &Path,
    declared: &mut Option<Vec<String>>,
    part: &mut Part<'_, '_>,
) -> Option<MqttSettings> {
    let broker = broker(folder, part);
    let client_id = client_id(part);
    let allowed = Allowed { forms: &["json", "number", "lines", "chirpstack", "ttn"], gather: "1s" };
    let funnel = funnel(&allowed, declared, part);
    let preset = match funnel.as_ref().map(|(_, word)| word.value.as_str()) {
        Some("chirpstack") => Some("application/+/device/+/event/up"),
        Some("ttn") => Some("v3/+/devices/+/up"),
        _ => None,
    };
    let topics = match preset {
        Some(preset) => Some(part.take_or("topics", vec![preset.to_owned()], &format!("[{preset:?}]"))),
        None => part.require::<Vec<String>>("topics", "[\"plant/pump/#\"]"),
    };
    if let Some(topics) = &topics {
        let bad = topics.value.iter().find(|topic| !mqtt_v5::mqttbytes::valid_filter(topic));
        let message = match bad {
            Some(bad) => Some(format!("{bad:?} is no filter of topics")),
            None if topics.value.is_empty() || topics.value.len() > MAX_TOPICS => {
                Some(format!("a source has 1 to {MAX_TOPICS} filters, not {}", topics.value.len()))
            }
            None => None,
        };
        if let Some(message) = message {
            let help = "write `topics = [\"plant/pump/#\"]`: `+` is any one level, `#` all that follow";
            part.problem(topics.span.clone(), message, help);
        }
    }
    let qos = part.take_or("qos", 1u8, "1");
    if qos.value > 1 {
        let help = "write `qos = 1`: what comes twice is what QoS 2 would spare, at twice the cost";
        part.problem(qos.span, "`qos` is 0 or 1", help);
    }
    let session = part.take_text_or("session", "7d", |text| match text {
        "forever" => Ok(u32::MAX),
        text => {
            let seconds = duration_ms(text)? / 1_000;
            u32::try_from(seconds).map_err(|_| "is longer than brokers count: write \"forever\"".to_owned())
        }
    });
    let retained = part.take_or("retained", false, "false").value;
    Some(MqttSettings {
        broker: broker?,
        client_id,
        topics: topics?.value,
        qos: qos.value,
        session_s: session.value,
        retained,
        funnel: funnel?.0,
    })
}
