//! Smaller variants at the table: they take the place of slots' models while memory is short, and give it back.
//!
//! A spare comes as a release follows another: its bytes are checked while the larger one answers, which then writes what is under
//! way and goes; only then is the spare loaded, so the two never stand in memory together. It also answers for what was unloaded
//! when no requests were taken, as soon as they are again. The larger one is *away* meanwhile and comes as anything comes again.

use std::sync::Arc;

use wire::world::MonoNs;

use super::{Seat, Seats, Table};
use crate::pressure::Squeeze;
use crate::serve::slots::Witness;

impl Table {
    /// Lets spares answer: for slots' models that are away, and, at [`Squeeze::Variants`], for those that are loaded.
    pub(super) fn stand_in(self: &Arc<Table>, seats: &mut Seats, squeeze: Squeeze, now_ns: MonoNs) {
        if seats.closed || squeeze == Squeeze::Answers {
            return;
        }
        let with_spare = |witness: &Arc<Witness>| Some((Arc::clone(witness), Arc::new(witness.spare()?)));
        let mut pairs: Vec<(Arc<Witness>, Arc<Witness>)> =
            seats.away.models.iter().filter_map(with_spare).collect();
        let went = pairs.len();
        if squeeze == Squeeze::Variants {
            let seated = seats.all.values().filter(|seat| !seat.leaving && seat.is_ready());
            pairs.extend(seated.filter_map(|seat| with_spare(seat.witness.as_ref()?)));
        }
        for (at, (larger, spare)) in pairs.into_iter().enumerate() {
            let (name, is_away) = (larger.model().as_str().to_owned(), at < went);
            // Another that is on its way, or here, comes first.
            let is_taken = |seat: &Seat| !seat.leaving && (is_away || !seat.is_of(larger.manifest()));
            if seats.of(&name).any(|(_, seat)| is_taken(seat)) {
                continue;
            }
            tracing::warn!(model = name, spare = %spare.manifest(), "memory is short: a smaller variant takes over");
            match self.place(seats, spare.offer(), Some(spare)) {
                Ok(()) if is_away => {}
                Ok(()) => seats.away.went(larger, now_ns),
                Err(error) => tracing::warn!(%error, "the system gives no thread for a smaller variant"),
            }
        }
    }
}
