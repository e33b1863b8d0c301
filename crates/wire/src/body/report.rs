//! What happened in a shift, told to people: the body of records of kind `report`.

use serde::{Deserialize, Serialize};

use super::Body;
use crate::id::PartName;
use crate::world::WallMs;

/// What happened in a shift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which report of the flow.
    pub report: PartName,
    /// The shift's begin, by the node's clock.
    pub from_ms: WallMs,
    /// The shift's end.
    pub to_ms: WallMs,
    /// The report.
    pub text: String,
    /// Who wrote the text.
    pub writer: Writer,
    /// Why not a language model, where one was asked; which one, where it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The numbers behind it.
    pub figures: Vec<Figure>,
}

/// Who wrote a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writer {
    /// Sentences that stand ready, with numbers put in.
    Template,
    /// A language model, from the same numbers.
    Model,
}

/// A number of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is of: `farm.moisture`, `rule.dry`.
    pub of: String,
    /// What of it: `mean`, `fired`.
    pub what: String,
    /// How much.
    pub value: f64,
}

impl Body for Report {
    const KIND: &'static str = "report";
}
