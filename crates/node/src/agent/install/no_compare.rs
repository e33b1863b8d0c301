//! Stands for comparisons of language models in a build without them: nothing is compared, and nothing is to blame.

use package::name::ModelName;
use package::trust::shadow::Limits;
use wire::world::World;

use super::errand::Reach;
use crate::install::UNSERVED;
use crate::install::event::{Agreement, Event, Stood};
use crate::install::state::Slot;

/// Nothing was compared; its trial waits.
pub(super) async fn shadow<W: World + Clone + 'static>(
    _reach: &Reach<W>,
    _model: &ModelName,
    slot: Slot,
) -> Event {
    Event::Shadowed(slot.manifest, Agreement { compared: 0, agreed: 0 })
}

/// It waits, too.
pub(super) async fn beside<W: World + Clone + 'static>(
    _reach: &Reach<W>,
    _model: &ModelName,
    slot: Slot,
    _limits: Limits,
) -> Event {
    Event::Stood(slot.manifest, Stood::Aside(UNSERVED.to_owned()))
}
