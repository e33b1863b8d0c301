//! A model's config.json: typed values, with errors that name the key.
//!
//! The text model of a multimodal config is moved to the top, and what older files leave out is filled with the values
//! that transformers itself takes for the family. A null counts as absent.

use serde_json::{Map, Value};

/// A config that says too little or something else than it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such key.
    #[error("config.json does not say {key:?}")]
    Missing {
        /// The first of the names it could have.
        key: String,
    },
    /// A value of another type, or out of range.
    #[error("config.json says {key:?} is {found}, wanted is {wanted}")]
    Wrong {
        /// Which key.
        key: String,
        /// What would do.
        wanted: &'static str,
        /// What stands there, shortened.
        found: String,
    },
}

/// The values of a config.json, or of an object in it.
#[derive(Clone, Debug, Default)]
pub struct Config {
    values: Map<String, Value>,
}

impl Config {
    /// Takes the object of a config.json.
    pub fn new(mut values: Map<String, Value>) -> Config {
        if let Some(Value::Object(text)) = values.get("text_config").cloned() {
            values.extend(text);
        }
        values.retain(|_, value| !value.is_null());
        Config { values }
    }

    /// Sets what is not there.
    pub fn fill(&mut self, key: &str, value: impl Into<Value>) {
        self.values.entry(key).or_insert_with(|| value.into());
    }

    /// The first of these keys that is there.
    pub fn get(&self, keys: &[&str]) -> Option<&Value> {
        keys.iter().find_map(|key| self.values.get(*key))
    }

    fn find<T>(
        &self,
        keys: &[&str],
        wanted: &'static str,
        pick: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((key, value)) = keys.iter().find_map(|key| Some((*key, self.values.get(*key)?))) else {
            return Ok(None);
        };
        match pick(value) {
            Some(picked) => Ok(Some(picked)),
            None => {
                let found = value.to_string().chars().take(80).collect();
                Err(ConfigError::Wrong { key: key.to_owned(), wanted, found })
            }
        }
    }

    /// A count, if it is there.
    pub fn find_count(&self, keys: &[&str]) -> Result<Option<u32>, ConfigError> {
        self.find(keys, "a count below 2^32", |value| u32::try_from(value.as_u64()?).ok())
    }

    /// A count.
    pub fn count(&self, keys: &[&str]) -> Result<u32, ConfigError> {
        self.find_count(keys)?.ok_or_else(|| missing(keys))
    }

    /// A number, if it is there.
    pub fn find_number(&self, keys: &[&str]) -> Result<Option<f64>, ConfigError> {
        self.find(keys, "a number", Value::as_f64)
    }

    /// A number.
    pub fn number(&self, keys: &[&str]) -> Result<f64, ConfigError> {
        self.find_number(keys)?.ok_or_else(|| missing(keys))
    }

    /// A truth, if it is there.
    pub fn find_truth(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.find(&[key], "true or false", Value::as_bool)
    }

    /// A text, if it is there.
    pub fn find_text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        self.find(&[key], "a text", |value| value.as_str().map(str::to_owned))
    }

    /// Numbers, if they are there.
    pub fn find_numbers(&self, key: &str) -> Result<Option<Vec<f64>>, ConfigError> {
        self.find(&[key], "a list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect())
    }

    /// Texts, if they are there.
    pub fn find_texts(&self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.find(&[key], "a list of texts", |value| value.as_array()?.iter().map(text).collect())
    }

    /// An object inside, if it is there.
    pub fn find_object(&self, key: &str) -> Result<Option<Config>, ConfigError> {
        self.find(&[key], "an object", |value| Some(Config::new(value.as_object()?.clone())))
    }
}

fn missing(keys: &[&str]) -> ConfigError {
    ConfigError::Missing { key: keys.first().copied().unwrap_or_default().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_any_of_their_names() {
        let config = serde_json::json!({
            "n_embd": 8, "big": 4294967296_u64, "eps": 1e-5, "none": null, "text_config": {"layers": 3, "names": ["a"]}
        });
        let config = Config::new(config.as_object().unwrap().clone());
        assert_eq!(config.count(&["hidden_size", "n_embd"]), Ok(8));
        assert_eq!(config.count(&["layers"]), Ok(3));
        assert_eq!(config.number(&["eps"]), Ok(1e-5));
        assert_eq!(config.find_count(&["none"]), Ok(None));
        assert_eq!(config.find_texts("names"), Ok(Some(vec!["a".to_owned()])));
        let errors = [
            (config.count(&["absent"]).unwrap_err(), "config.json does not say \"absent\""),
            (
                config.count(&["big"]).unwrap_err(),
                "config.json says \"big\" is 4294967296, wanted is a count below 2^32",
            ),
            (
                config.count(&["eps"]).unwrap_err(),
                "config.json says \"eps\" is 0.00001, wanted is a count below 2^32",
            ),
            (
                config.find_truth("eps").unwrap_err(),
                "config.json says \"eps\" is 0.00001, wanted is true or false",
            ),
        ];
        for (error, text) in errors {
            assert_eq!(error.to_string(), text);
        }
    }
}
