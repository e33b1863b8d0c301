//! One line of the page: what was looked at, how it is, and what to do.

use serde::Serialize;

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What: `journal`, `clock`, `source.pump` …
    pub about: String,
    /// How it is.
    pub level: Level,
    /// In words.
    pub says: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Good,
    /// Worth knowing; the node works.
    Note,
    /// It needs somebody.
    Wrong,
}

impl Finding {
    /// As it should be.
    pub fn good(about: &str, says: impl Into<String>) -> Finding {
        Finding { about: about.to_owned(), level: Level::Good, says: says.into(), help: None }
    }

    /// Worth knowing.
    pub fn note(about: &str, says: impl Into<String>, help: impl Into<String>) -> Finding {
        Finding { about: about.to_owned(), level: Level::Note, says: says.into(), help: Some(help.into()) }
    }

    /// Something that needs somebody.
    pub fn wrong(about: &str, says: impl Into<String>, help: impl Into<String>) -> Finding {
        Finding { about: about.to_owned(), level: Level::Wrong, says: says.into(), help: Some(help.into()) }
    }
}
