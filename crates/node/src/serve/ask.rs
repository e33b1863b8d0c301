//! What all requests that write text have in common: how tokens are chosen, where the answer ends, what is told.
//!
//! Fields of OpenAI's API keep their names, ranges and defaults; `top_k`, `min_p`, `typical_p` and
//! `repetition_penalty` are named as elsewhere (vLLM, llama.cpp). Unknown fields are not looked at, as clients send many.

use std::collections::BTreeMap;

use lm::sample::Settings;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::limits::{BIASES, STOP_BYTES, STOPS, at_most};
use super::problem::Problem;

/// How tokens are chosen, as a request says it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Sampling {
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    repetition_penalty: Option<f32>,
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    seed: Option<i64>,
}

impl Sampling {
    /// As the engine wants it. `seed`: what to draw from when the request names none.
    pub(super) fn settings(&self, vocabulary: usize, seed: u64) -> Result<Settings, Problem> {
        let default = Settings::default();
        let bias = self.logit_bias.iter().flatten();
        at_most("logit_bias", bias.clone().count(), BIASES)?;
        let bias = bias.map(|(token, bias)| match token.parse::<u32>() {
            Ok(token) if (token as usize) < vocabulary => Ok((token, *bias)),
            _ => {
                let token: String = token.chars().take(40).collect();
                let message = format!(
                    "`logit_bias` names the token {token:?}, which is none of 0 to {}",
                    vocabulary.saturating_sub(1)
                );
                Err(Problem::invalid("logit_bias", message))
            }
        });
        let settings = Settings {
            temperature: self.temperature.unwrap_or(default.temperature),
            // Both -1 and 0 mean all of them to somebody.
            top_k: usize::try_from(self.top_k.unwrap_or(0).max(0)).unwrap_or(usize::MAX),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            typical_p: self.typical_p.unwrap_or(default.typical_p),
            repetition_penalty: self
                .repetition_penalty
                .or(self.repeat_penalty)
                .unwrap_or(default.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(default.frequency_penalty),
            bias: bias.collect::<Result<_, _>>()?,
            seed: self.seed.map_or(seed, |seed| seed as u64),
        };
        settings.check().map_err(|error| Problem::invalid(error.name, error.to_string()))?;
        if settings.presence_penalty.abs() > 2.0 || settings.frequency_penalty.abs() > 2.0 {
            let name =
                if settings.presence_penalty.abs() > 2.0 { "presence_penalty" } else { "frequency_penalty" };
            return Err(Problem::invalid(name, format!("`{name}` must be from -2 to 2")));
        }
        Ok(settings)
    }

    /// As the request said it, for answers that tell it back.
    pub(super) fn temperature(&self) -> Option<f32> {
        self.temperature
    }

    /// As the request said it.
    pub(super) fn top_p(&self) -> Option<f32> {
        self.top_p
    }
}

/// Where an answer ends, as a request says it: nowhere, at a string, or at the first of several.
#[derive(Debug, Default)]
pub(super) struct Stop(Vec<String>);

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stop, D::Error> {
        one_or_many(deserializer, "a string or an array of strings").map(Stop)
    }
}

impl Stop {
    /// The strings, checked.
    pub(super) fn strings(self) -> Result<Vec<String>, Problem> {
        at_most("stop", self.0.len(), STOPS)?;
        match self.0.iter().map(String::len).find(|len| *len > STOP_BYTES) {
            Some(len) => {
                let message = format!("a stop string has {len} bytes, and may have {STOP_BYTES}");
                Err(Problem::invalid("stop", message))
            }
            None => Ok(self.0),
        }
    }
}

/// Reads a string or an array of strings.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<Vec<String>, D::Error> {
    struct Visitor(&'static str);
    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(vec![text.to_owned()])
        }
        fn visit_unit<E: de::Error>(self) -> Result<Vec<String>, E> {
            Ok(Vec::new())
        }
        fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut all = Vec::new();
            while let Some(text) = list.next_element()? {
                all.push(text);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(Visitor(expected))
}

/// `stream_options`.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub(super) struct StreamOptions {
    /// Tell the tokens of the whole answer in a last piece.
    pub(super) include_usage: Option<bool>,
}

/// What a request asks of us beyond OpenAI's API.
#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct Extras {
    /// How sure the model was of each token.
    pub(super) signals: Option<bool>,
    /// How a model that writes makes one vector of many: `mean`, `first` or `last`.
    pub(super) pooling: Option<String>,
}

/// A bound on what is written, under its old and its new name.
pub(super) fn max_tokens(
    old: Option<u64>,
    new: Option<u64>,
    name: &'static str,
) -> Result<Option<usize>, Problem> {
    match new.or(old) {
        Some(0) => Err(Problem::invalid(name, format!("`{name}` must be 1 or more"))),
        max => Ok(max.map(|max| usize::try_from(max).unwrap_or(usize::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::json;
    use super::*;

    #[test]
    fn settings_that_make_no_distribution_name_their_field() {
        for (body, param) in [
            ("{\"temperature\": -1}", "temperature"),
            ("{\"top_p\": 0}", "top_p"),
            ("{\"min_p\": 2}", "min_p"),
            ("{\"presence_penalty\": 2.5}", "presence_penalty"),
            ("{\"logit_bias\": {\"99\": 1}}", "logit_bias"),
            ("{\"logit_bias\": {\"x\": 1}}", "logit_bias"),
            ("{\"logit_bias\": {\"1\": 101}}", "logit_bias"),
        ] {
            let sampling: Sampling = json(body.as_bytes()).unwrap();
            let problem = sampling.settings(99, 0).expect_err(body);
            assert_eq!(problem.param.as_deref(), Some(param), "{body}");
        }
        let sampling: Sampling =
            json(b"{\"top_k\": -1, \"seed\": -3, \"logit_bias\": {\"98\": -100}, \"repeat_penalty\": 1.1}")
                .unwrap();
        let settings = sampling.settings(99, 7).unwrap();
        assert_eq!((settings.top_k, settings.seed, settings.repetition_penalty), (0, -3i64 as u64, 1.1));
        assert_eq!(settings.bias, [(98, -100.0)]);
        assert_eq!(Sampling::default().settings(99, 7).unwrap(), Settings { seed: 7, ..Settings::default() });
    }

    #[test]
    fn stop_is_nothing_a_string_or_several() {
        let read = |text: &str| json::<Stop>(text.as_bytes());
        assert_eq!(read("null").unwrap().strings().unwrap(), Vec::<String>::new());
        assert_eq!(read("\"x\"").unwrap().strings().unwrap(), ["x"]);
        assert_eq!(read("[\"x\", \"y\"]").unwrap().strings().unwrap(), ["x", "y"]);
        assert!(read("3").is_err());
        let many = format!("[{}\"x\"]", "\"x\",".repeat(STOPS));
        assert_eq!(read(&many).unwrap().strings().unwrap_err().param.as_deref(), Some("stop"));
        let long = format!("\"{}\"", "x".repeat(STOP_BYTES + 1));
        assert_eq!(read(&long).unwrap().strings().unwrap_err().param.as_deref(), Some("stop"));
    }
}
