//! `type = "modbus-tcp"` and `type = "modbus-rtu"`: sources that ask a device for its registers.

use std::time::Duration;

use crate::config::part::Part;
use crate::config::quantity::duration_ms;
use crate::flow::bus;
use crate::flow::pairs::{Pair, pairs};
use crate::source::modbus::ModbusSettings;
use crate::source::modbus::map::Register;

/// Reads it; `None` after a problem.
pub(super) fn read(
    rtu: bool,
    declared: &mut Option<Vec<String>>,
    part: &mut Part<'_, '_>,
) -> Option<ModbusSettings> {
    let (line, unit) = (bus::line(rtu, part), bus::station(rtu, "unit", part));
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
    let order = bus::word_order(part);
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
    Some(ModbusSettings { line: line?, unit, every, timeout, order, registers })
}
