//! A source that takes pictures from a program: `v4l2-ctl` for a camera of this machine, `rpicam-vid`, `ffmpeg`, `gst-launch-1.0`.
//!
//! A program and not a library of ours: a driver that hangs or a decoder that dies takes no node with it, there is nothing to link,
//! and the cameras of small boards speak to their own program only. The newest picture wins: of what came together only the
//! last is decoded, and one that still waits for the networks is displaced.

use std::time::Duration;

use net::picture::Picture;
use wire::hash::Hash;
use wire::world::MonoNs;

use super::eye::Eye;
use super::mjpeg::{Cutter, whole};
use super::settings::{CameraSettings, Form};
use super::yuyv;
use crate::source::bring::{Source, SourceError, wait_for};
use crate::source::child::Program;
use crate::source::queue::Inlet;
use crate::why::why;

/// Bytes taken from the program at a time.
const PIECE: usize = 1 << 18;

/// Takes what a program prints.
pub struct Camera {
    settings: CameraSettings,
    eye: Eye,
    /// When the next picture is looked at.
    due_ns: MonoNs,
}

/// What has come of a picture that is not whole.
enum Cut {
    Mjpeg(Cutter),
    /// Plain pixels: pictures follow each other without a mark, so what is cut off shifts all that follow, and is not repaired.
    Yuyv {
        held: Vec<u8>,
        bytes: usize,
    },
}

impl Cut {
    fn new(settings: &CameraSettings) -> Cut {
        match settings.form {
            Form::Mjpeg => Cut::Mjpeg(Cutter::new(settings.limits.bytes as usize)),
            Form::Yuyv { width, height } => Cut::Yuyv { held: Vec::new(), bytes: 2 * width * height },
        }
    }

    /// The pictures that are whole now.
    fn push(&mut self, piece: &[u8]) -> Vec<Vec<u8>> {
        match self {
            Cut::Mjpeg(cutter) => cutter.push(piece),
            Cut::Yuyv { held, bytes } => {
                held.extend_from_slice(piece);
                let count = held.len() / *bytes;
                let rest = held.split_off(count * *bytes);
                let whole = std::mem::replace(held, rest);
                whole.chunks_exact(*bytes).map(<[u8]>::to_vec).collect()
            }
        }
    }

    fn broken(&self) -> u64 {
        match self {
            Cut::Mjpeg(cutter) => cutter.broken(),
            Cut::Yuyv { .. } => 0,
        }
    }
}

impl Camera {
    /// A source.
    pub fn new(settings: CameraSettings) -> Camera {
        Camera { settings, eye: Eye::default(), due_ns: 0 }
    }

    async fn watch(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        let mut program = Program::start(&self.settings.command, &self.settings.folder)?;
        self.eye.begin(format!("`{}` runs", self.settings.command[0]), inlet)?;
        let ended = self.take(&mut program, inlet).await;
        program.end().await;
        ended
    }

    async fn take(&mut self, program: &mut Program, inlet: &mut Inlet) -> Result<String, SourceError> {
        let mut cut = Cut::new(&self.settings);
        let mut room = vec![0; PIECE];
        let (mut broken, mut last_ns) = (0, inlet.clock().mono_ns());
        loop {
            // Bytes that never become a picture are silence, too.
            let since = Duration::from_nanos(inlet.clock().mono_ns().saturating_sub(last_ns));
            let Some(left) = self.settings.silence.checked_sub(since) else {
                let message =
                    "it prints bytes, and no picture is whole: `form` and `size` must be what it prints";
                return Err(SourceError::Outside(message.to_owned()));
            };
            let bytes = program.read(&mut room, left, inlet).await?;
            let mut pictures = cut.push(&room[..bytes]);
            if cut.broken() > broken {
                broken = cut.broken();
                self.eye.refuse("it was broken off, or has more than the bytes of `max_bytes`", inlet)?;
            }
            // What came before it in one piece is older, and nobody asks for it.
            let Some(picture) = pictures.pop() else { continue };
            last_ns = inlet.clock().mono_ns();
            if last_ns < self.due_ns {
                continue;
            }
            self.due_ns = last_ns + self.settings.every.as_nanos() as u64;
            let t_ms = inlet.clock().wall_ms();
            match self.decode(&picture) {
                Ok(decoded) => {
                    let frame = self.eye.frame(t_ms, decoded, Hash::of(&picture));
                    self.eye.show(frame, inlet)?;
                }
                Err(why) => self.eye.refuse(&why, inlet)?,
            }
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<Picture, String> {
        match self.settings.form {
            Form::Mjpeg => Picture::decode_within(&whole(bytes), self.settings.limits.pixels)
                .map_err(|error| why(&error)),
            Form::Yuyv { width, height } => yuyv::picture(width, height, bytes)
                .ok_or_else(|| "it has more or fewer bytes than `size` says".to_owned()),
        }
    }
}

impl Source for Camera {
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        wait_for(self.watch(inlet))
    }
}
