//! One timestamped sample of a source, the atom of every stream.

use serde::{Deserialize, Serialize};

/// What a source measured at one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The source's own time, milliseconds since the Unix epoch.
    pub t_ms: i64,
    /// Shape: `[channels]`, in the sensor's own units; NaN marks a missing cell.
    pub values: Vec<f64>,
}
