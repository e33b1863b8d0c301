//! What one node told of its arm's release, and the one figure that is taken of it.
//!
//! It is taken once, after as many requests as the plan says, and never changes: what decides is then a sequence of nodes,
//! and may be looked at after each.

use serde::{Deserialize, Serialize};
use wire::world::WallMs;

use crate::experiment::plan::{Against, Measure};
use crate::experiment::shadow::Count;
use crate::rollout::figures::Hour;

/// One node's figures. Stored as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sheet {
    /// What was told of the arm's release so far.
    pub told: Hour,
    /// How many requests that covers.
    pub asked: u64,
    /// What was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Taken>,
    /// What it compared, of a release that answers beside what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<Count>,
}

/// The figure that was taken of a node.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// When.
    pub at_ms: WallMs,
    /// The figure on the scale on which it is compared; absent: it has none, now or before, and counts nowhere.
    pub value: Option<f64>,
}

impl Sheet {
    /// Takes what a record tells. What comes after the figure was taken counts nowhere.
    pub fn hear(&mut self, told: &Hour, asked: u64) {
        if self.taken.is_none() {
            self.told.add(told);
            self.asked = self.asked.saturating_add(asked);
        }
    }

    /// Whether there is enough for the figure, that was not taken yet.
    pub fn is_enough(&self, measure: &Measure) -> bool {
        self.taken.is_none() && self.asked >= u64::from(measure.answers)
    }

    /// Takes the figure. `before`: the last day before that the node told of.
    pub fn take(&mut self, measure: &Measure, before: Option<&Hour>, now_ms: WallMs) -> Option<f64> {
        let now = self.told.figure(&measure.metric);
        let value = match measure.against {
            Against::Others => now,
            Against::Itself => {
                let before = before.and_then(|before| before.figure(&measure.metric));
                now.zip(before).map(|(now, before)| now - before)
            }
        };
        self.taken = Some(Taken { at_ms: now_ms, value });
        value
    }
}
