//! What something was judged on, as the digest in a record stands for it: readings, or a picture.

use serde::Serialize;
use wire::body::Readings;
use wire::hash::Hash;
use wire::id::PartName;
use wire::world::WallMs;

/// What one source gave.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Input {
    /// A run of readings.
    Readings(Readings),
    /// A picture.
    Picture {
        /// Who gave it.
        source: PartName,
        /// When.
        t_ms: WallMs,
        /// Its own digest.
        picture: Hash,
    },
}

/// The digest of what came of some sources, in the order of the flow: of readings as the JSON of a body, of a picture alone its own.
pub(super) fn digest(inputs: &[Input]) -> Hash {
    // Numbers, strings and lists.
    let json = |bytes: serde_json::Result<Vec<u8>>| bytes.expect("readings are plain data");
    match inputs {
        [Input::Picture { picture, .. }] => *picture,
        [Input::Readings(readings)] => Hash::of(&json(serde_json::to_vec(readings))),
        several => Hash::of(&json(serde_json::to_vec(several))),
    }
}
