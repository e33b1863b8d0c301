//! Counts what a source cannot use, and tells of the 1st, 10th, 100th … with its reason.

use super::queue::{Event, Inlet, SourceState, Stopped};

/// What was refused so far.
#[derive(Debug, Default)]
pub(super) struct Refusals(u64);

impl Refusals {
    /// One more. `what`: which one, in words; `state`: how the source is all the same.
    pub(super) fn refuse(
        &mut self,
        what: &str,
        why: &str,
        state: SourceState,
        inlet: &mut Inlet,
    ) -> Result<(), Stopped> {
        self.0 += 1;
        inlet.set_refused(self.0);
        if self.0 == 10u64.pow(self.0.ilog10()) {
            let shown: String = what.chars().take(100).collect();
            let reason = format!("{} refused; the last, {shown:?}: {why}", self.0);
            inlet.tell(Event::State { state, reason })?;
        }
        Ok(())
    }
}
