//! `type = "images"`, `"rtsp"` and `"camera"`: sources that give pictures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::part::{Part, Placed};
use crate::config::quantity::{duration_ms, size_bytes};
use crate::source::pictures::settings::{After, CameraSettings, Form, ImagesSettings, Limits, RtspSettings};

/// The most pixels that may be allowed: three bytes each, and a few pictures at once.
const PIXELS_MAX: usize = 50_000_000;
/// The largest file that may be allowed.
const BYTES_MAX: u64 = 32 << 20;

/// Reads a folder; `None` after a problem.
pub(super) fn images(folder: &Path, part: &mut Part<'_, '_>) -> Option<ImagesSettings> {
    let place = part.require::<String>("folder", "\"uploads\"");
    let every = time(part, "every", "1s");
    let after = part.take_text_or("after", "keep", |word| match word {
        "keep" => Ok("keep"),
        "delete" => Ok("delete"),
        "move" => Ok("move"),
        other => Err(format!("there is no {other:?}: write \"keep\", \"delete\" or \"move\"")),
    });
    let to = part.take::<String>("to");
    let from = part.take_text_or("from", "beginning", |word| match word {
        "beginning" => Ok(false),
        "now" => Ok(true),
        other => Err(format!("there is no {other:?}: write \"beginning\" or \"now\"")),
    });
    let of_file = part.take_text_or("time", "file", |word| match word {
        "file" => Ok(true),
        "arrival" => Ok(false),
        other => Err(format!("there is no {other:?}: write \"file\" or \"arrival\"")),
    });
    let limits = limits(part);
    let place = folder.join(place?.value);
    let after = match (after.value, to) {
        ("move", Some(Placed { value, span })) => {
            let to = folder.join(value);
            if to == place {
                part.problem(span, "pictures would be moved to where they are", "write another folder");
            }
            After::Move(to)
        }
        ("move", None) => {
            part.problem(after.span, "`after = \"move\"` does not say where to", "add `to = \"seen\"`");
            return None;
        }
        (_, Some(Placed { span, .. })) => {
            part.problem(
                span,
                "`to` is for pictures that are moved",
                "write `after = \"move\"`, or take it out",
            );
            return None;
        }
        ("delete", None) => After::Delete,
        (_, None) => After::Keep,
    };
    Some(ImagesSettings {
        folder: place,
        every,
        after,
        from_now: from.value,
        time_of_file: of_file.value,
        limits,
    })
}

/// Reads a camera that streams; `None` after a problem.
pub(super) fn rtsp(folder: &Path, part: &mut Part<'_, '_>) -> Option<RtspSettings> {
    let url = part.take_text("url", |text| {
        let rest = text.strip_prefix("rtsp://").ok_or("must begin with rtsp://")?;
        let host = rest.split('/').next().unwrap_or_default();
        match () {
            () if host.contains('@') => {
                Err("user and password have settings of their own: `user`, `password_file`".to_owned())
            }
            () if host.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
                Err("it has no host".to_owned())
            }
            () => Ok(text.to_owned()),
        }
    });
    if url.is_none() {
        part.require_key("url", "\"rtsp://10.0.0.8:554/stream1\"");
    }
    let user = part.take::<String>("user").map(|placed| placed.value);
    let password = part.take::<String>("password_file");
    if let (true, Some(Placed { span, .. })) = (user.is_none() != password.is_none(), &password) {
        part.problem(span.clone(), "there is a password and no user", "add `user = \"…\"`");
    }
    if let (Some(_), None) = (&user, &password) {
        let help = "add `password_file = \"camera.password\"`: its first line is the password";
        part.problem(part.span.clone(), "there is a user and no password", help);
    }
    let password_file: Option<PathBuf> = password.map(|placed| folder.join(placed.value));
    let every = time(part, "every", "200ms");
    let keys = part.take_text_or("frames", "all", |word| match word {
        "all" => Ok(false),
        "key" => Ok(true),
        other => Err(format!("there is no {other:?}: write \"all\" or \"key\"")),
    });
    let (silence, pixels) = (time(part, "silence", "10s"), pixels(part));
    Some(RtspSettings { url: url?.value, user, password_file, every, keys_only: keys.value, silence, pixels })
}

/// Reads a camera behind a program; `None` after a problem.
pub(super) fn camera(folder: &Path, part: &mut Part<'_, '_>) -> Option<CameraSettings> {
    let device = part.take::<String>("device");
    let command = part.take::<Vec<String>>("command");
    let size = part.take::<[usize; 2]>("size");
    let is_yuyv = part.take_text_or("form", "mjpeg", |word| match word {
        "mjpeg" => Ok(false),
        "yuyv" => Ok(true),
        other => Err(format!("there is no {other:?}: write \"mjpeg\" or \"yuyv\"")),
    });
    let (every, silence, limits) = (time(part, "every", "200ms"), time(part, "silence", "10s"), limits(part));
    let sides = size.as_ref().map(|placed| placed.value);
    if let (Some([width, height]), Some(Placed { span, .. })) = (sides, &size)
        && (width < 2 || height == 0 || width % 2 == 1 || width.saturating_mul(height) > limits.pixels)
    {
        let message = "`size` is an even width and a height, within `max_pixels`";
        part.problem(span.clone(), message, "write `size = [1280, 720]`");
        return None;
    }
    let form = match (is_yuyv.value, sides) {
        (false, _) => Form::Mjpeg,
        (true, Some([width, height])) => Form::Yuyv { width, height },
        (true, None) => {
            part.problem(is_yuyv.span, "plain pixels need a size", "add `size = [640, 480]`");
            return None;
        }
    };
    let command = match (command, device) {
        (Some(Placed { span, value }), None) if value.is_empty() => {
            part.problem(span, "`command` names no program", "write what prints the pictures");
            return None;
        }
        (Some(command), None) => command.value,
        (None, Some(device)) => of_device(&device.value, form, sides),
        (command, _) => {
            let span = command.map_or(part.span.clone(), |placed| placed.span);
            let help = "write `device = \"/dev/video0\"`, or a `command` that prints pictures";
            part.problem(span, "a camera has a device or a command, one of the two", help);
            return None;
        }
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    Some(CameraSettings { command, folder: folder.to_path_buf(), form, every, silence, limits })
}

/// What prints the pictures of a V4L2 device: `v4l2-ctl`, of the package `v4l-utils`.
fn of_device(device: &str, form: Form, size: Option<[usize; 2]>) -> Vec<String> {
    let pixels = match form {
        Form::Mjpeg => "MJPG",
        Form::Yuyv { .. } => "YUYV",
    };
    let sides = size.map_or_else(String::new, |[width, height]| format!("width={width},height={height},"));
    let words = [
        "v4l2-ctl".to_owned(),
        format!("--device={device}"),
        format!("--set-fmt-video={sides}pixelformat={pixels}"),
        "--stream-mmap".to_owned(),
        "--stream-to=-".to_owned(),
    ];
    words.to_vec()
}

fn limits(part: &mut Part<'_, '_>) -> Limits {
    let bytes = part.take_text_or("max_bytes", "16MiB", |text| match size_bytes(text)? {
        bytes @ 1..=BYTES_MAX => Ok(bytes),
        _ => Err("must be from 1 B to 32 MiB".to_owned()),
    });
    Limits { bytes: bytes.value, pixels: pixels(part) }
}

fn pixels(part: &mut Part<'_, '_>) -> usize {
    let pixels = part.take_or("max_pixels", 16_000_000usize, "16000000");
    if !(1..=PIXELS_MAX).contains(&pixels.value) {
        let message = format!("`max_pixels` is from 1 to {PIXELS_MAX}");
        part.problem(pixels.span, message, "write `max_pixels = 16000000`");
    }
    pixels.value
}

fn time(part: &mut Part<'_, '_>, key: &'static str, default: &str) -> Duration {
    let placed = part.take_text_or(key, default, |text| match duration_ms(text)? {
        ms @ 1..=86_400_000 => Ok(Duration::from_millis(ms as u64)),
        _ => Err("must be from 1 ms to a day".to_owned()),
    });
    placed.value
}
