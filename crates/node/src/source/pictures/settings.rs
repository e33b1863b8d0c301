//! What a flow says of sources of pictures. Data only.

use std::path::PathBuf;
use std::time::Duration;

/// A folder into which pictures come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagesSettings {
    /// The folder.
    pub folder: PathBuf,
    /// How often it is looked into.
    pub every: Duration,
    /// What becomes of a picture that was looked at.
    pub after: After,
    /// Whether pictures that are there at the very first look are left alone.
    pub from_now: bool,
    /// Whether a picture's time is that of its file, and not that of its arrival here.
    pub time_of_file: bool,
    /// What is taken of a picture.
    pub limits: Limits,
}

/// What becomes of a picture that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// It stays.
    Keep,
    /// It is removed.
    Delete,
    /// It goes into another folder.
    Move(PathBuf),
}

/// How large a picture may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of its file.
    pub bytes: u64,
    /// Its pixels, which take three bytes each.
    pub pixels: usize,
}

/// A camera that streams over RTSP.
#[derive(Clone, PartialEq, Eq)]
pub struct RtspSettings {
    /// Where it is, without user and password.
    pub url: String,
    /// Who asks, if it wants to know.
    pub user: Option<String>,
    /// Where that one's password stands.
    pub password_file: Option<PathBuf>,
    /// At least so long from one picture to the next that is looked at.
    pub every: Duration,
    /// Whether only key frames are decoded: less work, and as often as the camera sends them.
    pub keys_only: bool,
    /// Silent for longer, the camera is called anew.
    pub silence: Duration,
    /// The most pixels of a picture.
    pub pixels: usize,
}

impl std::fmt::Debug for RtspSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RtspSettings").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A camera behind a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraSettings {
    /// The program and its arguments; no shell is between.
    pub command: Vec<String>,
    /// The folder it runs in.
    pub folder: PathBuf,
    /// What it prints.
    pub form: Form,
    /// At least so long from one picture to the next that is looked at.
    pub every: Duration,
    /// Silent for longer, it is started again.
    pub silence: Duration,
    /// What is taken of a picture.
    pub limits: Limits,
}

/// How a program prints pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JPEG after the other.
    Mjpeg,
    /// Pictures of this width and height, two bytes a pixel: Y U Y V.
    Yuyv {
        /// Pixels in a row, an even number.
        width: usize,
        /// Rows.
        height: usize,
    },
}
