//! How much a record matters: the order in which streams are sent, and the reverse order in which they are dropped.

use serde::{Deserialize, Serialize};

/// The class of a stream. Declared from the most to the least precious, so `Ord` is the order of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Decisions, starts, anything an auditor asks for. On disk before the next step is taken; never dropped for
    /// the sake of another class.
    Audit,
    /// What models found and what happened to sources.
    Event,
    /// Summaries: what a chart or a drift watcher needs, without the raw values.
    Metric,
    /// Readings as they came. They leave the node only if its data policy says so.
    Raw,
}

impl Class {
    /// All classes, the most precious first.
    pub const ALL: [Class; 4] = [Class::Audit, Class::Event, Class::Metric, Class::Raw];

    /// The word used in encodings and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Audit => "audit",
            Class::Event => "event",
            Class::Metric => "metric",
            Class::Raw => "raw",
        }
    }

    /// The inverse of [`Class::as_str`]; `None` for a class this version does not know.
    pub fn parse(word: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.as_str() == word)
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_order() {
        for class in Class::ALL {
            assert_eq!(Class::parse(class.as_str()), Some(class));
            assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{class}\""));
        }
        assert_eq!(Class::parse("gold"), None);
        assert!(Class::Audit < Class::Event && Class::Event < Class::Metric && Class::Metric < Class::Raw);
    }
}
