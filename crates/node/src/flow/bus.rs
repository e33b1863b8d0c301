//! Reads how a source or an actuator reaches a device of Modbus: its address or its serial line, which one there, its order of words.

use super::source::lines::port;
use crate::config::part::Part;
use crate::source::modbus::line::Line;
use crate::source::modbus::map::WordOrder;

/// Reads `address`, or the serial line; `None` after a problem.
pub(super) fn line(rtu: bool, part: &mut Part<'_, '_>) -> Option<Line> {
    if rtu {
        // What the standard asks for; many devices are set to none.
        return port(part, "even").map(Line::Rtu);
    }
    let address = part.require::<String>("address", "\"10.0.0.7:502\"")?;
    match host_and_port(&address.value) {
        Ok((host, port)) => Some(Line::Tcp { host, port }),
        Err(message) => {
            let message = format!("`address` of `{}`: {message}", part.path);
            part.problem(address.span, message, "write \"10.0.0.7:502\"");
            None
        }
    }
}

/// Reads which device is meant of those that are reached so; `key`: what it is called.
pub(super) fn station(rtu: bool, key: &'static str, part: &mut Part<'_, '_>) -> u8 {
    let station = part.take_or(key, 1u8, "1");
    let most = if rtu { 247 } else { 255 };
    if !(1..=most).contains(&station.value) {
        part.problem(station.span, format!("`{key}` is from 1 to {most}"), format!("write `{key} = 1`"));
    }
    station.value
}

/// Reads `word_order`.
pub(super) fn word_order(part: &mut Part<'_, '_>) -> WordOrder {
    let order = part.take_text_or("word_order", "big", |text| match text {
        "big" => Ok(WordOrder::Big),
        "little" => Ok(WordOrder::Little),
        _ => Err("must be \"big\" (the highest word first) or \"little\"".to_owned()),
    });
    order.value
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| format!("{port:?} is no port"))?)
        }
        _ => (text, 502),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains(['/', ' ']) {
        return Err(format!("{host:?} is no host"));
    }
    Ok((host.to_owned(), port))
}
