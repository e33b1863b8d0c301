//! `type = "modbus-tcp"` and `type = "modbus-rtu"`: sources that ask a device for its registers.

use std::time::Duration;

use super::lines::port;
use crate::config::part::Part;
use crate::config::quantity::duration_ms;
use crate::flow::pairs::{Pair, pairs};
use crate::source::modbus::map::{Register, WordOrder};
use crate::source::modbus::{Line, ModbusSettings};

/// Reads it; `None` after a problem.
pub(super) fn read(
    rtu: bool,
    declared: &mut Option<Vec<String>>,
    part: &mut Part<'_, '_>,
) -> Option<ModbusSettings> {
    let line = if rtu {
        // What the standard asks for; many devices are set to none.
        port(part, "even").map(Line::Rtu)
    } else {
        let address = part.require::<String>("address", "\"10.0.0.7:502\"");
        address.and_then(|address| match host_and_port(&address.value) {
            Ok((host, port)) => Some(Line::Tcp { host, port }),
            Err(message) => {
                let message = format!("`address` of `{}`: {message}", part.path);
                part.problem(address.span, message, "write \"10.0.0.7:502\"");
                None
            }
        })
    };
    let unit = part.take_or("unit", 1u8, "1");
    if unit.value == 0 || rtu && unit.value > 247 {
        let message = if rtu { "`unit` is from 1 to 247" } else { "`unit` is from 1 to 255" };
        part.problem(unit.span, message, "write `unit = 1`");
    }
    let duration = |part: &mut Part<'_, '_>, key: &'static str, default: &str| {
        let placed = part.take_text_or(key, default, |text| {
            let ms = duration_ms(text)?;
            if (1..=86_400_000).contains(&ms) {
                Ok(Duration::from_millis(ms as u64))
            } else {
                Err("must be from 1 ms to a day".to_owned())
            }
        });
        placed.value
    };
    let (every, timeout) = (duration(part, "every", "1s"), duration(part, "timeout", "1s"));
    let order = part.take_text_or("word_order", "big", |text| match text {
        "big" => Ok(WordOrder::Big),
        "little" => Ok(WordOrder::Little),
        _ => Err("must be \"big\" (the highest word first) or \"little\"".to_owned()),
    });
    if declared.is_some() {
        let message = format!("`{}` names its channels twice", part.path);
        part.problem(part.span.clone(), message, "take out `channels`: `registers` names them");
    }
    let example = "{ pressure = \"f32@100\", flow = \"i16@5*0.1\" }";
    part.require_key("registers", example);
    let mut registers = Vec::new();
    for Pair { name, text, span } in pairs(part, "registers", example) {
        match Register::read(&text) {
            Ok(register) => registers.push((name, register)),
            Err(message) => {
                part.problem(span, message, "addresses count from 0: 40101 in a manual is `@100`");
            }
        }
    }
    if registers.is_empty() {
        return None;
    }
    *declared = Some(registers.iter().map(|(name, _)| name.clone()).collect());
    Some(ModbusSettings { line: line?, unit: unit.value, every, timeout, order: order.value, registers })
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
