//! Stands for cameras over RTSP in a build without them: says so.

use super::settings::RtspSettings;
use crate::source::bring::{Source, SourceError};
use crate::source::queue::Inlet;

/// Nothing.
pub struct Rtsp;

impl Rtsp {
    /// A source that says that there is none.
    pub fn new(_settings: RtspSettings) -> Rtsp {
        Rtsp
    }
}

impl Source for Rtsp {
    fn run(&mut self, _inlet: &mut Inlet) -> Result<String, SourceError> {
        let message = "this program was built without cameras over RTSP: build it with the feature `cameras`";
        Err(SourceError::Outside(message.to_owned()))
    }
}
