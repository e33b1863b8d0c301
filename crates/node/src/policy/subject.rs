//! Finds the records that are about somebody: by the name that the policy gives them, or by the word itself where it stands plainly.

use std::path::Path;

use serde_json::Value;
use wire::id::StreamName;
use wire::record::Record;

use super::pseudonym::{KeyError, Pseudonyms};
use crate::journal::reader::Reader;
use crate::journal::{DatabaseError, STREAMS_MAX};

/// Somebody whom records are about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What the records may call them.
    words: Vec<String>,
}

impl Subject {
    /// Somebody, as the node with this data folder may call them.
    pub fn of(word: &str, data: &Path) -> Result<Subject, KeyError> {
        let mut words = vec![word.to_owned()];
        match Pseudonyms::open(data) {
            Ok(pseudonyms) => words.push(pseudonyms.of(word)),
            // Nothing was ever hidden here.
            Err(KeyError::None { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(Subject { words })
    }

    /// The name to be told to others: the pseudonym if there is one, and no word of the data otherwise.
    pub fn told(&self) -> &str {
        self.words.get(1).map_or("somebody", String::as_str)
    }

    /// Whether a record with this body is about them: the word stands in it as a text of its own, or as the name of a field.
    pub fn is_meant(&self, body: &str) -> bool {
        // Most bodies are told apart without being read.
        let may_be = self.words.iter().any(|word| body.contains(word.as_str()) || !word.is_ascii());
        may_be && serde_json::from_str(body).is_ok_and(|body| self.stands_in(&body))
    }

    fn stands_in(&self, value: &Value) -> bool {
        let is_word = |text: &str| self.words.iter().any(|word| word == text);
        match value {
            Value::String(text) => is_word(text),
            Value::Array(items) => items.iter().any(|item| self.stands_in(item)),
            Value::Object(fields) => {
                fields.iter().any(|(name, value)| is_word(name) || self.stands_in(value))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// All kept records about them, stream by stream, oldest first.
    pub fn records(&self, reader: &Reader) -> Result<Vec<(StreamName, Record)>, DatabaseError> {
        let mut found = Vec::new();
        for position in reader.positions()?.iter().take(STREAMS_MAX) {
            reader.each(position, |record, _| {
                if self.is_meant(record.body.get()) {
                    found.push((position.stream.clone(), record));
                }
                true
            })?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let subject = Subject::of("patient-17", folder.path()).unwrap();
        assert!(subject.is_meant("{\"a\":[{\"subject\":\"patient-17\"}]}"));
        assert!(subject.is_meant("{\"patient-17\":1}"));
        assert!(!subject.is_meant("{\"subject\":\"patient-170\"}"));
        assert!(!subject.is_meant("{\"why\":\"patient-17 was late\"}"), "a text is not searched");
        assert!(!subject.is_meant("no json, patient-17"));
        assert_eq!(subject.told(), "somebody");
        let mut world = wire::world::Simulated::new(1);
        let names = Pseudonyms::open_or_make(folder.path(), &mut world).unwrap();
        let subject = Subject::of("patient-17", folder.path()).unwrap();
        assert!(subject.is_meant(&format!("{{\"subject\":\"{}\"}}", names.of("patient-17"))));
        assert_eq!(subject.told(), names.of("patient-17"));
        let escaped = Subject::of("zoë", folder.path()).unwrap();
        assert!(escaped.is_meant("{\"subject\":\"zo\\u00eb\"}"));
    }
}
