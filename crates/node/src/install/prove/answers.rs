//! What whoever is proven answered, and what that cost.

use package::golden::Answer;
use serde::{Deserialize, Serialize};
use wire::world::MonoNs;

use crate::install::weights::WeightsError;
use crate::why::why;

/// The answers to a golden set, and what they cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// One for each case.
    pub answers: Vec<Answer>,
    /// From bytes that were proven to a model that can be asked.
    pub load_ms: f64,
    /// Of each token but those that a prompt is read for; of each text that became a vector.
    pub answer_ms: Vec<f64>,
    /// The most memory of the process; absent where the system does not tell.
    pub rss_bytes: Option<u64>,
    /// How much more that is than it had before it looked at the model: what it took for its file and to answer.
    #[serde(default)]
    pub own_bytes: Option<u64>,
}

/// Why there are no answers.
pub(super) enum Trouble {
    Weights(WeightsError),
    Failed(String),
    /// This build cannot ask it.
    #[cfg(not(feature = "language"))]
    NotHere(String),
}

impl From<WeightsError> for Trouble {
    fn from(error: WeightsError) -> Trouble {
        Trouble::Weights(error)
    }
}

pub(super) fn failed(error: impl std::error::Error) -> Trouble {
    Trouble::Failed(why(&error))
}

/// Milliseconds since then.
pub(crate) fn ms_since(now_ns: &dyn Fn() -> MonoNs, begun_ns: MonoNs) -> f64 {
    now_ns().saturating_sub(begun_ns) as f64 / 1e6
}
