//! `type = "exec"` and `type = "serial"`: sources of lines of text.

use std::path::Path;
use std::time::Duration;

use super::payload::{Allowed, funnel};
use crate::config::part::Part;
use crate::config::problem::did_you_mean;
use crate::config::quantity::duration_ms;
use crate::source::exec::ExecSettings;
use crate::source::serial::{Parity, Port, SerialSettings};

const ALLOWED: Allowed = Allowed { forms: &["json", "lines", "columns"], gather: "0s" };

/// Reads a program; `None` after a problem.
pub(super) fn exec(
    folder: &Path,
    declared: &mut Option<Vec<String>>,
    part: &mut Part<'_, '_>,
) -> Option<ExecSettings> {
    let command = part.require::<Vec<String>>("command", "[\"./read-sensor\", \"--every\", \"1s\"]");
    let once = part.take_or("once", false, "false").value;
    let silence = silence(part);
    let funnel = funnel(&ALLOWED, declared, part);
    let command = command?;
    if command.value.is_empty() {
        let message = format!("`command` of `{}` names no program", part.path);
        part.problem(command.span, message, "write `command = [\"./read-sensor\"]`");
        return None;
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder = folder.to_path_buf();
    Some(ExecSettings { command: command.value, folder, once, silence, funnel: funnel?.0 })
}

/// Reads a serial line; `None` after a problem.
pub(super) fn serial(declared: &mut Option<Vec<String>>, part: &mut Part<'_, '_>) -> Option<SerialSettings> {
    let port = port(part, "none");
    let silence = silence(part);
    let funnel = funnel(&ALLOWED, declared, part);
    Some(SerialSettings { port: port?, silence, funnel: funnel?.0 })
}

/// Reads `device`, `baud`, `parity` and `stop_bits`; `None` after a problem.
pub(in crate::flow) fn port(part: &mut Part<'_, '_>, parity: &str) -> Option<Port> {
    let device = part.require::<String>("device", "\"/dev/ttyUSB0\"");
    let baud = part.take_or("baud", 9_600u32, "9600");
    if !(50..=12_000_000).contains(&baud.value) {
        part.problem(baud.span, "`baud` is from 50 to 12000000", "write `baud = 9600`");
    }
    let parity = part.take_text_or("parity", parity, |text| match text {
        "none" => Ok(Parity::None),
        "even" => Ok(Parity::Even),
        "odd" => Ok(Parity::Odd),
        other => Err(did_you_mean(other, ["none", "even", "odd"])),
    });
    let stop = part.take_or("stop_bits", 1u8, "1");
    if !(1..=2).contains(&stop.value) {
        part.problem(stop.span, "`stop_bits` is 1 or 2", "write `stop_bits = 1`");
    }
    let (baud, parity, stop_bits) = (baud.value, parity.value, stop.value);
    Some(Port { device: device?.value.into(), baud, parity, stop_bits })
}

fn silence(part: &mut Part<'_, '_>) -> Option<Duration> {
    let placed = part.take_text("silence", |text| {
        let ms = duration_ms(text)?;
        if ms > 0 {
            Ok(Duration::from_millis(ms as u64))
        } else {
            Err("must be longer than nothing".to_owned())
        }
    })?;
    Some(placed.value)
}
