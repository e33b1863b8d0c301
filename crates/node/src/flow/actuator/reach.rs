//! Reads how an actuator is reached: a file, a program, a server, a broker, a device of Modbus.

use std::collections::BTreeMap;
use std::path::Path;

use crate::act::device::modbus::Modbus;
use crate::act::device::mqtt::{Mqtt, Payload};
use crate::act::device::{Driver, Exec, Http};
use crate::act::limits::Allowed;
use crate::config::part::{Part, Placed};
use crate::flow::broker::{broker, client_id};
use crate::flow::bus;
use crate::flow::within::within;
use crate::source::modbus::map::{Kind, Register, Table};

/// The words for all of them.
pub(super) const KINDS: [&str; 6] = ["simulated", "exec", "http", "mqtt", "modbus-tcp", "modbus-rtu"];

/// The most bytes of what a device is told.
const PAYLOAD_MAX_BYTES: usize = 4_096;

/// Reads it; `None` after a problem. `kind` is one of [`KINDS`].
pub(super) fn driver(
    kind: &str,
    folder: &Path,
    allowed: &Allowed,
    part: &mut Part<'_, '_>,
) -> Option<Driver> {
    match kind {
        "simulated" => simulated(folder, part),
        "exec" => exec(part),
        "http" => http(folder, part),
        "mqtt" => mqtt(folder, allowed, part).map(Box::new).map(Driver::Mqtt),
        "modbus-tcp" => modbus(false, allowed, part).map(Driver::Modbus),
        _ => modbus(true, allowed, part).map(Driver::Modbus),
    }
}

fn timeout(part: &mut Part<'_, '_>) -> u64 {
    part.take_text_or("timeout", "2s", |text| within(text, 10, 5_000)).value
}

fn simulated(folder: &Path, part: &mut Part<'_, '_>) -> Option<Driver> {
    let file = part.require::<String>("file", "\"valve.txt\"")?;
    Some(Driver::Simulated { file: folder.join(file.value) })
}

fn exec(part: &mut Part<'_, '_>) -> Option<Driver> {
    let command = part.require::<Vec<String>>("command", "[\"/usr/local/bin/valve\", \"{value}\"]");
    let read = part.take::<Vec<String>>("read");
    let timeout_ms = timeout(part);
    for Placed { value, span } in [&command, &read].into_iter().flatten() {
        if value.first().is_none_or(String::is_empty) {
            let help = "write the program and its arguments, each as a text of its own";
            part.problem(span.clone(), "there is no program to run", help);
            return None;
        }
    }
    let command = command?;
    if !command.value.iter().skip(1).any(|word| word.contains("{value}")) {
        let help = "write `{value}` where the setting goes, as in `[\"/usr/local/bin/valve\", \"{value}\"]`";
        part.problem(command.span, "the program is not told what to set", help);
        return None;
    }
    let read = read.map(|placed| placed.value);
    Some(Driver::Exec(Exec { command: command.value, read, timeout_ms }))
}

fn http(folder: &Path, part: &mut Part<'_, '_>) -> Option<Driver> {
    let address = |text: &str| match reqwest::Url::parse(text) {
        Ok(url) if ["http", "https"].contains(&url.scheme()) && url.host().is_some() => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no address: it begins with http:// or https:// and names a host")),
    };
    part.require_key("url", "\"http://192.168.0.7/valve\"");
    let url = part.take_text("url", address);
    let method = part.take_text_or("method", "PUT", |text| match text {
        "PUT" | "POST" | "GET" => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is none of PUT, POST and GET")),
    });
    let body = part.take::<String>("body").map(|placed| placed.value);
    let read_url = part.take_text("read_url", address).map(|placed| placed.value);
    let pointer = part.take_text_or("pointer", "", pointer);
    let token_file = part.take::<String>("token_file").map(|placed| folder.join(placed.value));
    let timeout_ms = timeout(part);
    let Placed { value: url, span } = url?;
    if !url.contains("{value}") && !body.as_ref().is_some_and(|body| body.contains("{value}")) {
        let help = "write `body = '{\"state\": {value}}'`, or `{value}` in `url`";
        part.problem(span, "the device is not told what to set", help);
        return None;
    }
    let (method, pointer) = (method.value, pointer.value);
    Some(Driver::Http(Http { url, method, body, read_url, pointer, token_file, timeout_ms }))
}

fn pointer(text: &str) -> Result<String, String> {
    match text.is_empty() || text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no place in JSON: write `/state/valve`")),
    }
}

fn topic(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.len() <= 1_024 && mqtt_v5::mqttbytes::valid_topic(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no topic that can be published to")),
    }
}

fn mqtt(folder: &Path, allowed: &Allowed, part: &mut Part<'_, '_>) -> Option<Mqtt> {
    let broker = broker(folder, part);
    let client_id = client_id(part);
    part.require_key("topic", "\"farm/valve/set\"");
    let told = part.take_text("topic", topic);
    let payload = payload(allowed, part);
    let retain = part.take_or("retain", false, "false").value;
    let will = part.take_or("will", true, "true").value;
    let read_topic = part.take_text("read_topic", |text| {
        match text.len() <= 1_024 && mqtt_v5::mqttbytes::valid_filter(text) {
            true => Ok(text.to_owned()),
            false => Err(format!("{text:?} is no filter of topics")),
        }
    });
    let pointer = part.take_text_or("pointer", "", pointer).value;
    let ask_topic = part.take_text("ask_topic", topic);
    let ask_payload = part.take::<String>("ask_payload");
    if let (None, Some(Placed { span, .. })) = (&read_topic, &ask_topic) {
        let message = format!("`{}` is asked what it is set to, and nobody listens", part.path);
        part.problem(span.clone(), message, "add `read_topic = \"farm/valve/state\"`");
    }
    if let (None, Some(Placed { span, .. })) = (&ask_topic, &ask_payload) {
        let message = format!("`{}` does not say where it is asked", part.path);
        part.problem(span.clone(), message, "add `ask_topic = \"farm/valve/get\"`");
    }
    // Connecting, telling and being told, each so long, come to their end before the guard is given up.
    let timeout = part.take_text_or("timeout", "2s", |text| within(text, 10, 4_000));
    Some(Mqtt {
        broker: broker?,
        client_id,
        topic: told?.value,
        payload: payload?,
        retain,
        will,
        read_topic: read_topic.map(|placed| placed.value),
        pointer,
        ask: ask_topic.map(|topic| (topic.value, ask_payload.map(|placed| placed.value).unwrap_or_default())),
        timeout_ms: timeout.value,
    })
}

/// Reads `payload` or `payloads`.
fn payload(allowed: &Allowed, part: &mut Part<'_, '_>) -> Option<Payload> {
    let form = part.take::<String>("payload");
    let words = part.take::<BTreeMap<String, String>>("payloads");
    let long = |text: &str| text.len() > PAYLOAD_MAX_BYTES;
    match (form, words) {
        (None, None) => Some(Payload::Plain),
        (Some(form), None) => {
            if !form.value.contains("{value}") || long(&form.value) {
                let help = format!(
                    "write `payload = '{{\"state\": {{value}}}}'`, of at most {PAYLOAD_MAX_BYTES} bytes, or leave it out"
                );
                part.problem(form.span, "the device is not told what to set", help);
                return None;
            }
            Some(Payload::Form(form.value))
        }
        (None, Some(Placed { value, span })) => {
            let Allowed::Words(known) = allowed else {
                let message = format!("`payloads` is for words, and `{}` is set to numbers", part.path);
                part.problem(span, message, "write `payload = '{\"level\": {value}}'`");
                return None;
            };
            if !fits(&value, known) || value.values().any(|text| long(text)) {
                let message =
                    format!("`payloads` of `{}` must have a text for each of its values", part.path);
                let help =
                    format!("there are {}; a text has at most {PAYLOAD_MAX_BYTES} bytes", known.join(", "));
                part.problem(span, message, help);
                return None;
            }
            Some(Payload::Words(value.into_iter().collect()))
        }
        (Some(_), Some(Placed { span, .. })) => {
            let message = format!("`{}` has `payload` and `payloads`", part.path);
            part.problem(span, message, "one form for all, or a text for each: take one out");
            None
        }
    }
}

/// Whether a table has an entry for each word, and no other.
fn fits<T>(table: &BTreeMap<String, T>, words: &[String]) -> bool {
    table.len() == words.len() && words.iter().all(|word| table.contains_key(word))
}

fn modbus(rtu: bool, allowed: &Allowed, part: &mut Part<'_, '_>) -> Option<Modbus> {
    let line = bus::line(rtu, part);
    // `unit` is what its numbers are in.
    let unit = bus::station(rtu, "station", part);
    let order = bus::word_order(part);
    part.require_key("register", "\"coil@3\"");
    let register = part.take_text("register", Register::read);
    let read = part.take_text("read", Register::read);
    let codes = part.take::<BTreeMap<String, f64>>("codes");
    let timeout_ms = timeout(part);
    let Placed { value: register, span } = register?;
    if !matches!(register.table, Table::Coil | Table::Holding) {
        let message = format!("{} {} cannot be written", register.table, register.address);
        part.problem(span, message, "a device is set by a coil (`coil@3`) or a holding register (`u16@10`)");
        return None;
    }
    let numbers: Vec<f64> = match (allowed, &codes) {
        (Allowed::Range { min, max }, None) => vec![*min, *max],
        (Allowed::Words(words), Some(Placed { value, span })) => {
            let mut numbers: Vec<f64> = value.values().copied().collect();
            numbers.sort_by(f64::total_cmp);
            if !fits(value, words) || numbers.windows(2).any(|pair| pair[0] == pair[1]) {
                let message = format!(
                    "`codes` of `{}` must have a number of its own for each of its values",
                    part.path
                );
                part.problem(span.clone(), message, format!("there are {}", words.join(", ")));
                return None;
            }
            numbers
        }
        (Allowed::Words(words), None) => {
            let message = format!("`{}` does not say which number each of its words stands for", part.path);
            let codes: Vec<String> =
                words.iter().zip(0..).map(|(word, code)| format!("{word} = {code}")).collect();
            part.problem(part.span.clone(), message, format!("write `codes = {{ {} }}`", codes.join(", ")));
            return None;
        }
        (Allowed::Range { .. }, Some(Placed { span, .. })) => {
            let message = format!("`codes` is for words, and `{}` is set to numbers", part.path);
            part.problem(span.clone(), message, "take it out");
            return None;
        }
    };
    if let Some(why) = numbers.iter().find_map(|number| register.words(*number, order).err()) {
        let message = format!("`register` of `{}` does not hold all that it may be set to: {why}", part.path);
        part.problem(span, message, "take a larger kind of register, or a smaller range");
        return None;
    }
    if register.kind == Kind::Bit && matches!(allowed, Allowed::Range { .. }) {
        let message = format!("`{}` is set to numbers, and a coil is on or off", part.path);
        part.problem(
            span,
            message,
            "write `values = [\"open\", \"closed\"]` and `codes = { open = 1, closed = 0 }`",
        );
        return None;
    }
    let read = read.map_or_else(|| register.clone(), |placed| placed.value);
    let codes = codes.map(|placed| placed.value.into_iter().collect()).unwrap_or_default();
    Some(Modbus { line: line?, unit, order, register, read, codes, timeout_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_each_word() {
        let words = ["open".to_owned(), "closed".to_owned()];
        let table =
            |words: &[&str]| words.iter().map(|word| ((*word).to_owned(), 0)).collect::<BTreeMap<_, _>>();
        assert!(fits(&table(&["closed", "open"]), &words));
        assert!(!fits(&table(&["open"]), &words));
        assert!(!fits(&table(&["open", "ajar"]), &words));
        assert!(!fits(&table(&["open", "closed", "ajar"]), &words));
    }
}
