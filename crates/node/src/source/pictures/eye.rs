//! What sources of pictures that come by themselves share: the first picture opens the source, the newest wins, and what is none is
//! counted and told.

use net::picture::Picture;
use wire::hash::Hash;
use wire::world::WallMs;

use crate::source::frame::{Frame, channels};
use crate::source::measure::Measure;
use crate::source::queue::{Event, Inlet, SourceState, Stopped};
use crate::source::refusals::Refusals;

/// Shows pictures, over several lives of what gives them.
#[derive(Debug, Default)]
pub(super) struct Eye {
    measure: Measure,
    refusals: Refusals,
    opened: bool,
}

impl Eye {
    /// What gives the pictures begins anew; `reason` says what is waited for.
    pub(super) fn begin(&mut self, reason: String, inlet: &mut Inlet) -> Result<(), Stopped> {
        self.opened = false;
        inlet.tell(Event::State { state: SourceState::Waiting, reason })
    }

    /// Whether a picture was shown since it began.
    #[cfg(feature = "cameras")]
    pub(super) fn is_open(&self) -> bool {
        self.opened
    }

    /// A picture with what is measured of it.
    pub(super) fn frame(&mut self, t_ms: WallMs, picture: Picture, digest: Hash) -> Frame {
        self.measure.frame(t_ms, picture, digest)
    }

    /// Shows a picture in the place of the one that waits.
    pub(super) fn show(&mut self, frame: Frame, inlet: &mut Inlet) -> Result<(), Stopped> {
        if !std::mem::replace(&mut self.opened, true) {
            inlet.tell(Event::Opened { channels: channels() })?;
        }
        inlet.show(frame)
    }

    /// Counts a picture that is none.
    pub(super) fn refuse(&mut self, why: &str, inlet: &mut Inlet) -> Result<(), Stopped> {
        let state = if self.opened { SourceState::Running } else { SourceState::Waiting };
        self.refusals.refuse("a picture", why, state, inlet)
    }
}
