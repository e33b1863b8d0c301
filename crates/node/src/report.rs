//! Reports: what happened in a shift, told in plain words to those who come next.
//!
//! In reading order:
//!
//! - [`shift`]: when a shift begins and ends;
//! - [`gather`]: records of a shift to its figures, purely;
//! - [`tell`]: figures to sentences, which is always possible;
//! - [`numbers`]: whether a text of somebody else states only numbers that it was given;
//! - [`writer`]: asks a language model of this machine for such a text.
//!
//! `agent::reporting` is the thread that joins them: it reads the journal when a shift is over. Docs: `docs/flows.md`.

pub mod gather;
pub mod numbers;
pub mod shift;
pub mod tell;
pub mod writer;

use wire::id::PartName;

use self::shift::Shifts;
use self::writer::WriterSettings;

/// A report as declared.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportConfig {
    /// Its name.
    pub name: PartName,
    /// What stands above it.
    pub title: String,
    /// When.
    pub shifts: Shifts,
    /// Of which parts: `source.farm`, `rule.*`; empty: all.
    pub inputs: Vec<String>,
    /// Channels by their path, `farm.moisture`, and what people call them; empty: all channels, by their own names.
    pub names: Vec<(String, String)>,
    /// Who may write it in other words.
    pub writer: Option<WriterSettings>,
}

impl ReportConfig {
    /// Whether it tells of a part.
    pub fn tells_of(&self, part: &str) -> bool {
        self.inputs.is_empty()
            || self.inputs.iter().any(|input| match input.strip_suffix('*') {
                Some(begin) => part.starts_with(begin),
                None => part == input,
            })
    }
}
