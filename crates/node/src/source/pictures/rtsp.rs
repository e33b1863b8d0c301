//! A source that calls a camera over RTSP and decodes its H.264 video, all of it over one TCP connection.
//!
//! Video is made of differences: a picture can be decoded only after those before it, back to a key frame. So all are decoded
//! (or, with `frames = "key"`, key frames alone), and one is looked at each `every`. Where decoding falls behind, or something was
//! lost, pictures are passed over until the next key frame, and counted. A camera that is silent, ends, or fails is called anew
//! by whoever supervises sources.

use std::time::Duration;

use futures_util::StreamExt as _;
use net::picture::Picture;
use openh264::decoder::Decoder;
use openh264::formats::YUVSource as _;
use reqwest::Url;
use retina::client::{Credentials, Demuxed, PlayOptions, Session, SessionOptions, SetupOptions};
use retina::codec::{CodecItem, FrameFormat, ParametersRef, VideoFrame};
use tokio::time::timeout;
use wire::hash::Hash;
use wire::world::WallMs;

use super::eye::Eye;
use super::settings::RtspSettings;
use super::stamps::{Behind, Stamps};
use crate::config::token::read_token;
use crate::source::bring::{Source, SourceError, wait_for};
use crate::source::child::stopped;
use crate::source::frame::Frame;
use crate::source::moment::moment;
use crate::source::queue::{Inlet, Stopped};
use crate::why::why;

/// A step back in time of up to this much is unsteadiness of clocks, and not shown.
const STEADY_MS: i64 = 2_000;
/// After so many key frames in a row that cannot be decoded the camera is called anew.
const BROKEN_KEYS: u32 = 10;

/// Calls a camera.
pub struct Rtsp {
    settings: RtspSettings,
    eye: Eye,
    stamps: Stamps,
    misdated: bool,
    last_ms: WallMs,
}

/// What is known of the video while it plays.
struct Play {
    stream: usize,
    decoder: Decoder,
    behind: Behind,
    /// Nothing can be decoded before a key frame.
    wants_key: bool,
    broken_keys: u32,
    /// The count at which the next picture is looked at, in milliseconds.
    due_ms: i64,
    /// Pictures passed over since one was shown.
    dropped: u64,
}

impl Rtsp {
    /// A source.
    pub fn new(settings: RtspSettings) -> Rtsp {
        Rtsp {
            settings,
            eye: Eye::default(),
            stamps: Stamps::default(),
            misdated: false,
            last_ms: WallMs::MIN,
        }
    }

    async fn watch(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        self.eye.begin(format!("{} is called", self.settings.url), inlet)?;
        let called = tokio::select! {
            biased;
            () = stopped(inlet) => return Err(Stopped.into()),
            called = timeout(self.settings.silence, self.call()) => called,
        };
        let silence_s = self.settings.silence.as_secs_f64();
        let silent = || SourceError::Outside(format!("the camera said nothing for {silence_s} s"));
        let (mut video, stream) = called.map_err(|_| silent())??;
        let decoder = Decoder::new()
            .map_err(|error| SourceError::Outside(format!("the decoder cannot be started: {error}")))?;
        let behind = Behind::default();
        let mut play =
            Play { stream, decoder, behind, wants_key: true, broken_keys: 0, due_ms: i64::MIN, dropped: 0 };
        self.stamps.begin();
        let mut last_ns = inlet.clock().mono_ns();
        loop {
            let since = Duration::from_nanos(inlet.clock().mono_ns().saturating_sub(last_ns));
            let left = self.settings.silence.checked_sub(since).ok_or_else(silent)?;
            let item = tokio::select! {
                biased;
                () = stopped(inlet) => return Err(Stopped.into()),
                item = timeout(left, video.next()) => item.map_err(|_| silent())?,
            };
            match item {
                None => return Err(SourceError::Outside("the camera ended the video".to_owned())),
                Some(Err(error)) => return Err(SourceError::Outside(first_line(&error.to_string()))),
                Some(Ok(CodecItem::Rtcp(packets))) if packets.stream_id() == stream => {
                    let report = packets.pkts().next().and_then(|it| it.as_sender_report().ok().flatten());
                    if let (Some(report), Some(count)) = (report, packets.rtp_timestamp()) {
                        self.stamps.report(count_ms(count), report.ntp_timestamp().0);
                    }
                }
                Some(Ok(CodecItem::VideoFrame(frame))) => {
                    last_ns = inlet.clock().mono_ns();
                    self.check_size(&video, &frame, &play)?;
                    if let Some(frame) = self.take(&frame, &mut play, inlet)? {
                        self.eye.show(frame, inlet)?;
                    }
                }
                Some(Ok(_)) => {}
            }
        }
    }

    /// Asks for the video.
    async fn call(&self) -> Result<(Demuxed, usize), SourceError> {
        let RtspSettings { url, user, password_file, .. } = &self.settings;
        let outside = |error: String| SourceError::Outside(error);
        let target = Url::parse(url).map_err(|error| outside(format!("{url} is no address: {error}")))?;
        let credentials = match (user, password_file) {
            (Some(user), Some(file)) => {
                let password = read_token(file).map_err(|error| outside(why(&error)))?;
                Some(Credentials { username: user.clone(), password })
            }
            _ => None,
        };
        let failed = |error: retina::Error| {
            outside(match (error.status_code(), user) {
                (Some(401 | 403), Some(user)) => {
                    format!(
                        "the camera refuses `{user}` with this password: correct `user` or `password_file`"
                    )
                }
                (Some(401 | 403), None) => {
                    "the camera wants to know who asks: add `user` and `password_file`".to_owned()
                }
                (Some(404), _) => format!("the camera has nothing at {url}: its manual knows the path"),
                _ => first_line(&error.to_string()),
            })
        };
        let options = SessionOptions::default().creds(credentials).user_agent("selvedge".to_owned());
        let mut session = Session::describe(target, options).await.map_err(failed)?;
        let is_ours =
            |stream: &retina::client::Stream| stream.media() == "video" && stream.encoding_name() == "h264";
        let Some(stream) = session.streams().iter().position(is_ours) else {
            let there: Vec<String> =
                session.streams().iter().map(|it| format!("{} {}", it.media(), it.encoding_name())).collect();
            let there = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
            return Err(outside(format!("the camera gives {there}: set it to H.264")));
        };
        // Over the same TCP connection, which is what this library does unless told otherwise.
        let setup = SetupOptions::default().frame_format(FrameFormat::SIMPLE);
        session.setup(stream, setup).await.map_err(failed)?;
        let playing = session.play(PlayOptions::default()).await.map_err(failed)?;
        Ok((playing.demuxed().map_err(failed)?, stream))
    }

    /// The size that the video declares is believed only up to a limit, before any of it is decoded.
    fn check_size(&self, video: &Demuxed, frame: &VideoFrame, play: &Play) -> Result<(), SourceError> {
        if !frame.has_new_parameters() && self.eye.is_open() {
            return Ok(());
        }
        let Some(ParametersRef::Video(declared)) = video.streams()[play.stream].parameters() else {
            return Ok(());
        };
        let (width, height) = declared.coded_pixel_dimensions();
        match u64::from(width) * u64::from(height) <= self.settings.pixels as u64 {
            true => Ok(()),
            false => Err(SourceError::Outside(format!(
                "the video has {width}×{height} pixels, more than the {} of `max_pixels`",
                self.settings.pixels
            ))),
        }
    }

    /// Decodes a picture, and gives it if it is to be looked at.
    fn take(
        &mut self,
        frame: &VideoFrame,
        play: &mut Play,
        inlet: &mut Inlet,
    ) -> Result<Option<Frame>, SourceError> {
        let is_key = frame.is_random_access_point();
        let count_ms = count_ms(frame.timestamp());
        let now_ms = (inlet.clock().mono_ns() / 1_000_000) as i64;
        let is_late = play.behind.is_late(count_ms, now_ms);
        play.wants_key |= frame.loss() > 0 || is_late;
        if !is_key && (play.wants_key || self.settings.keys_only) {
            play.dropped += u64::from(!self.settings.keys_only);
            return Ok(None);
        }
        if is_late {
            play.behind.catch_up();
        }
        play.wants_key = false;
        let decoded = match play.decoder.decode(frame.data()) {
            Ok(decoded) => decoded,
            Err(error) => {
                play.wants_key = true;
                play.broken_keys += u32::from(is_key);
                self.eye.refuse(&format!("it cannot be decoded: {error}"), inlet)?;
                return match play.broken_keys < BROKEN_KEYS {
                    true => Ok(None),
                    false => Err(SourceError::Outside(format!("its video cannot be decoded: {error}"))),
                };
            }
        };
        play.broken_keys = 0;
        let every_ms = self.settings.every.as_millis() as i64;
        // What is due later than that is due by a count that was set back since.
        if (1..=every_ms).contains(&play.due_ms.saturating_sub(count_ms)) {
            return Ok(None);
        }
        let Some(yuv) = decoded else { return Ok(None) };
        let arrived_ms = inlet.clock().wall_ms();
        let Some(own_ms) = self.stamps.date(count_ms, arrived_ms) else { return Ok(None) };
        let (width, height) = yuv.dimensions();
        let mut rgb = vec![0; width.saturating_mul(height).saturating_mul(3)];
        yuv.write_rgb8(&mut rgb);
        let digest = Hash::of(&rgb);
        let Some(picture) = Picture::new(width, height, rgb) else { return Ok(None) };
        // On time, the next is due so much after this one was; late, so much after this one is.
        let (next_ms, last_ms) = (play.due_ms.saturating_add(every_ms), count_ms.saturating_add(every_ms));
        play.due_ms = if (count_ms + 1..=last_ms).contains(&next_ms) { next_ms } else { last_ms };
        let (t_ms, misdated) = moment(Some(own_ms), arrived_ms);
        if misdated && !std::mem::replace(&mut self.misdated, true) {
            tracing::warn!(
                "the camera's clock cannot be believed: its pictures get the time of their arrival"
            );
        }
        let is_unsteady = (0..=STEADY_MS).contains(&self.last_ms.saturating_sub(t_ms));
        self.last_ms = if is_unsteady { self.last_ms } else { t_ms };
        let mut shown = self.eye.frame(self.last_ms, picture, digest);
        shown.dropped = std::mem::take(&mut play.dropped);
        Ok(Some(shown))
    }
}

/// A stream's count as milliseconds.
fn count_ms(count: retina::Timestamp) -> i64 {
    let ms = i128::from(count.elapsed()) * 1_000 / i128::from(count.clock_rate().get());
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// The library tells of connections and packets in further lines.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

impl Source for Rtsp {
    fn run(&mut self, inlet: &mut Inlet) -> Result<String, SourceError> {
        wait_for(self.watch(inlet))
    }
}
