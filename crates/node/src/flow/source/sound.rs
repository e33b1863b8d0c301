//! `type = "sound"`: a WAV file, a microphone, or a program that prints samples.

use std::path::Path;
use std::time::Duration;

use crate::config::part::{Part, Placed};
use crate::config::quantity::duration_ms;
use crate::source::sound::settings::{From, SoundSettings};

/// The most channels of a sound.
const CHANNELS_MAX: usize = 16;

/// Reads it; `None` after a problem. `times`: how fast a file is played, `None` for as fast as it goes.
pub(super) fn read(
    folder: &Path,
    declared: &mut Option<Vec<String>>,
    times: Option<f64>,
    part: &mut Part<'_, '_>,
) -> Option<SoundSettings> {
    let rate = part.take_or("rate_hz", 16_000u32, "16000");
    if !(100..=192_000).contains(&rate.value) {
        part.problem(rate.span.clone(), "`rate_hz` is from 100 to 192000", "write `rate_hz = 16000`");
    }
    let (file, device) = (part.take::<String>("file"), part.take::<String>("device"));
    let command = part.take::<Vec<String>>("command");
    let channels = declared.get_or_insert_with(|| vec!["sound".to_owned()]).clone();
    if channels.len() > CHANNELS_MAX {
        let message = format!("a sound has at most {CHANNELS_MAX} channels");
        part.problem(part.span.clone(), message, "write `channels = [\"left\", \"right\"]`");
    }
    let from = match (file, device, command) {
        (Some(file), None, None) => {
            let repeat = part.take_or("repeat", false, "false").value;
            From::File { file: folder.join(file.value), times, repeat }
        }
        (None, Some(device), None) => {
            program(folder, of_device(&device.value, rate.value, channels.len()), part)
        }
        (None, None, Some(Placed { value, .. })) if !value.is_empty() => program(folder, value, part),
        (_, _, command) => {
            let span = command.map_or(part.span.clone(), |placed| placed.span);
            let help =
                "write `device = \"default\"`, `file = \"sound.wav\"`, or a `command` that prints samples";
            part.problem(span, "a sound comes from a file, a device or a command, one of the three", help);
            return None;
        }
    };
    Some(SoundSettings { from, rate_hz: rate.value, channels })
}

fn program(folder: &Path, command: Vec<String>, part: &mut Part<'_, '_>) -> From {
    let silence = part.take_text_or("silence", "5s", |text| match duration_ms(text)? {
        ms @ 1..=86_400_000 => Ok(Duration::from_millis(ms as u64)),
        _ => Err("must be from 1 ms to a day".to_owned()),
    });
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    From::Program { command, folder: folder.to_path_buf(), silence: silence.value }
}

/// What prints the samples of an ALSA device: `arecord`, of the package `alsa-utils`.
fn of_device(device: &str, rate_hz: u32, channels: usize) -> Vec<String> {
    let words = [
        "arecord",
        "--quiet",
        &format!("--device={device}"),
        "--file-type=raw",
        "--format=S16_LE",
        &format!("--rate={rate_hz}"),
        &format!("--channels={channels}"),
    ];
    words.map(str::to_owned).to_vec()
}
