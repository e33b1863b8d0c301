//! Stands for the proof of language models in a build without them: nothing is known of them here.

use std::num::NonZeroUsize;

use package::digest::Digest;
use package::disk::system::System;
use package::golden::Golden;
use package::store::Store;
use wire::world::Clock;

use super::answers::{Answers, Trouble};
use crate::install::UNSERVED;
use crate::install::keys::Keys;

/// There are no answers, and the model is not to blame.
pub(super) fn answers(
    _store: &Store<System>,
    _keys: &Keys,
    _manifest: &Digest,
    _golden: Option<&Golden>,
    _threads: NonZeroUsize,
    _clock: &dyn Clock,
) -> Result<Answers, Trouble> {
    Err(Trouble::NotHere(UNSERVED.to_owned()))
}
