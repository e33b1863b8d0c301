//! The golden set: questions whose answers are known, which a device asks a model before it trusts it; and what answers
//! may cost there.
//!
//! Our engine for language models gives the same bits on every processor, so tokens must be equal. Networks run on what
//! strangers built, so their numbers may differ, by as much as the set says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::form::{self, FormError, wrong_value};

/// The most cases of a set.
const CASES_MAX: usize = 1024;

/// The most tokens of an answer.
const TOKENS_MAX: usize = 4096;

/// A golden set as it stands in `golden.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// `1`.
    pub form: u32,
    /// The kind of the variant, in the words of [`crate::requirement::Kind`].
    pub kind: String,
    /// What is asked, in this order.
    pub cases: Vec<Case>,
    /// What answers may cost.
    #[serde(default)]
    pub budget: Budget,
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Case {
    /// A language model goes on.
    Text(Text),
    /// A text becomes a vector.
    Embedding(Embedding),
    /// Tensors become tensors.
    Tensors(Tensors),
}

/// A prompt, and the tokens that the most likely answer has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// What is asked.
    pub prompt: String,
    /// How many tokens are answered at most.
    pub max_tokens: usize,
    /// The answer, always the likeliest token.
    pub tokens: Vec<u32>,
}

/// A text, and its vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// The text.
    pub embed: String,
    /// Its vector.
    pub vector: Vec<f32>,
    /// The least cosine of the angle between the vector and the answer.
    pub cosine_min: f64,
}

/// Tensors that go in, and tensors that come out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensors {
    /// By name.
    pub input: BTreeMap<String, Tensor>,
    /// By name.
    pub output: BTreeMap<String, Tensor>,
    /// By how much each number may differ.
    pub abs_tol: f64,
}

/// Numbers in rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// The size of each dimension, slowest first.
    pub shape: Vec<u64>,
    /// The numbers, row-major.
    #[serde(rename = "f32")]
    pub values: Vec<f32>,
}

/// What answers may cost. What is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// From bytes that were proven to the first question, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ms: Option<f64>,
    /// Of a token or a window: 95 of 100 stay below, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// The most memory of the process, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
}

/// What answers did cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// From bytes that were proven to the first question, in milliseconds.
    pub load_ms: f64,
    /// Of a token or a window: 95 of 100 stayed below, in milliseconds.
    pub p95_ms: f64,
    /// The most memory of the process, in bytes.
    pub rss_bytes: u64,
}

/// An answer that a model gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Case::Text`].
    Tokens(Vec<u32>),
    /// To [`Case::Embedding`].
    Vector(Vec<f32>),
    /// To [`Case::Tensors`].
    Tensors(BTreeMap<String, Tensor>),
}

/// An answer that should have been another, or that cost too much.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Wrong {
    /// A question without answer, or an answer without question.
    #[error("the golden set has {expected} cases, and {found} were answered")]
    Count {
        /// Questions.
        expected: usize,
        /// Answers.
        found: usize,
    },
    /// A vector for tokens, or a tensor of another name or shape.
    #[error("golden case {case}: the answer has another form")]
    Form {
        /// Which case, from 0.
        case: usize,
    },
    /// Other tokens.
    #[error("golden case {case}: the answer parts at token {token}")]
    Token {
        /// Which case, from 0.
        case: usize,
        /// The first token that differs, from 0.
        token: usize,
    },
    /// Another vector.
    #[error("golden case {case}: the cosine is {cosine:.6}, and must be {least} at least")]
    Cosine {
        /// Which case, from 0.
        case: usize,
        /// Between the answer and the vector; not a number if one of them is none.
        cosine: f64,
        /// What it must be.
        least: f64,
    },
    /// Another number.
    #[error("golden case {case}: {tensor}[{at}] differs by {difference:e}, and may by {most:e}")]
    Number {
        /// Which case, from 0.
        case: usize,
        /// Which tensor.
        tensor: String,
        /// Which number of it.
        at: usize,
        /// By how much.
        difference: f64,
        /// By how much it may.
        most: f64,
    },
    /// Dearer than allowed.
    #[error("{what} is {found}, and may be {most}")]
    Budget {
        /// Which figure, with its unit.
        what: &'static str,
        /// What it was.
        found: f64,
        /// What it may be.
        most: f64,
    },
}

/// Whether a model answers as it should.
pub type Verdict = Result<(), Wrong>;

impl Golden {
    /// Reads a set of at most [`form::DOCUMENT_MAX_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Golden, FormError> {
        let golden: Golden = form::read("golden set", bytes)?;
        if golden.form != 1 {
            let found = golden.form.to_string();
            return Err(FormError::Unsupported { what: "form of a golden set", found, known: "1" });
        }
        match golden.cases.len() {
            0 => return Err(FormError::Missing { key: "a golden case" }),
            1..=CASES_MAX => {}
            found => return Err(FormError::TooMany { what: "golden cases", found, most: CASES_MAX }),
        }
        golden.cases.iter().try_for_each(Case::check)?;
        Ok(golden)
    }

    /// The set as JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        form::write(self)
    }

    /// Whether `answers`, one for each case, are what they should be. The error is the first that is not.
    pub fn judge(&self, answers: &[Answer]) -> Verdict {
        let (expected, found) = (self.cases.len(), answers.len());
        if expected != found {
            return Err(Wrong::Count { expected, found });
        }
        self.cases.iter().zip(answers).enumerate().try_for_each(|(case, (asked, answer))| {
            match (asked, answer) {
                (Case::Text(asked), Answer::Tokens(tokens)) => same_tokens(case, &asked.tokens, tokens),
                (Case::Embedding(asked), Answer::Vector(vector)) => near(case, asked, vector),
                (Case::Tensors(asked), Answer::Tensors(tensors)) => close(case, asked, tensors),
                _ => Err(Wrong::Form { case }),
            }
        })
    }
}

impl Case {
    fn check(&self) -> Result<(), FormError> {
        match self {
            Case::Text(text) if text.max_tokens > TOKENS_MAX || text.tokens.len() > text.max_tokens => {
                let why = format_args!("at most {TOKENS_MAX}, and no more than the answer may have");
                Err(wrong_value("max_tokens", &text.max_tokens.to_string(), why))
            }
            Case::Embedding(text) if !(-1.0..=1.0).contains(&text.cosine_min) => {
                Err(wrong_value("cosine_min", &text.cosine_min.to_string(), "must be a cosine"))
            }
            Case::Tensors(Tensors { abs_tol, .. }) if *abs_tol < 0.0 => {
                Err(wrong_value("abs_tol", &abs_tol.to_string(), "must not be negative"))
            }
            Case::Tensors(Tensors { input, output, .. }) => {
                input.iter().chain(output).try_for_each(|(name, tensor)| tensor.check(name))
            }
            Case::Text(_) | Case::Embedding(_) => Ok(()),
        }
    }
}

impl Tensor {
    fn check(&self, name: &str) -> Result<(), FormError> {
        let size = self.shape.iter().try_fold(1_u64, |size, dimension| size.checked_mul(*dimension));
        if size == Some(self.values.len() as u64) {
            return Ok(());
        }
        let (shape, found) = (&self.shape, self.values.len());
        Err(wrong_value("tensor", name, format_args!("{found} numbers do not fill the shape {shape:?}")))
    }
}

impl Budget {
    /// Of each figure the smaller: what the package promises and what this machine allows.
    #[must_use]
    pub fn and(self, other: Budget) -> Budget {
        let least = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::min);
        Budget {
            load_ms: least(self.load_ms, other.load_ms),
            p95_ms: least(self.p95_ms, other.p95_ms),
            rss_bytes: self.rss_bytes.into_iter().chain(other.rss_bytes).min(),
        }
    }

    /// Whether what answers cost is within the budget. The error is the first figure that is not.
    pub fn judge(&self, cost: &Cost) -> Verdict {
        let rss = (cost.rss_bytes as f64, self.rss_bytes.map(|bytes| bytes as f64));
        let figures = [
            ("time to load, in ms,", cost.load_ms, self.load_ms),
            ("time of a token (p95), in ms,", cost.p95_ms, self.p95_ms),
            ("memory, in bytes,", rss.0, rss.1),
        ];
        figures.into_iter().try_for_each(|(what, found, most)| match most {
            Some(most) if found > most || found.is_nan() => Err(Wrong::Budget { what, found, most }),
            _ => Ok(()),
        })
    }
}

fn same_tokens(case: usize, expected: &[u32], found: &[u32]) -> Verdict {
    if expected == found {
        return Ok(());
    }
    let alike = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    Err(Wrong::Token { case, token: alike })
}

fn near(case: usize, asked: &Embedding, found: &[f32]) -> Verdict {
    if asked.vector.len() != found.len() {
        return Err(Wrong::Form { case });
    }
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let lengths = dot(&asked.vector, &asked.vector).sqrt() * dot(found, found).sqrt();
    let (cosine, least) = (dot(&asked.vector, found) / lengths, asked.cosine_min);
    match cosine >= least {
        true => Ok(()),
        false => Err(Wrong::Cosine { case, cosine, least }), // also when it is not a number
    }
}

fn close(case: usize, asked: &Tensors, found: &BTreeMap<String, Tensor>) -> Verdict {
    if !asked.output.keys().eq(found.keys()) {
        return Err(Wrong::Form { case });
    }
    for ((name, expected), found) in asked.output.iter().zip(found.values()) {
        if expected.shape != found.shape || expected.values.len() != found.values.len() {
            return Err(Wrong::Form { case });
        }
        for (at, (expected, found)) in expected.values.iter().zip(&found.values).enumerate() {
            let difference = (f64::from(*expected) - f64::from(*found)).abs();
            if difference > asked.abs_tol || difference.is_nan() {
                let (tensor, most) = (name.clone(), asked.abs_tol);
                return Err(Wrong::Number { case, tensor, at, difference, most });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = concat!(
        r#"{"form":1,"kind":"lm","cases":["#,
        r#"{"prompt":"Once","max_tokens":3,"tokens":[1,2,3]},"#,
        r#"{"embed":"cat","vector":[0.6,0.8],"cosine_min":0.999},"#,
        r#"{"input":{"x":{"shape":[1,2],"f32":[1.0,2.0]}},"output":{"y":{"shape":[1],"f32":[0.5]}},"abs_tol":0.001}],"#,
        r#""budget":{"load_ms":900.0,"rss_bytes":1000}}"#
    );

    fn right() -> [Answer; 3] {
        let y = Tensor { shape: vec![1], values: vec![0.5005] };
        [
            Answer::Tokens(vec![1, 2, 3]),
            Answer::Vector(vec![3.0, 4.0]),
            Answer::Tensors(BTreeMap::from([("y".to_owned(), y)])),
        ]
    }

    #[test]
    fn a_set_reads_back() {
        let golden = Golden::parse(SET.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(golden.to_bytes()).unwrap(), SET);
        assert_eq!(golden.judge(&right()), Ok(()));
    }

    #[test]
    fn a_set_that_proves_nothing_is_refused() {
        fn check(from: &str, to: &str, expected: &str) {
            assert!(SET.contains(from));
            let error = Golden::parse(SET.replacen(from, to, 1).as_bytes()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        check("\"form\":1", "\"form\":2", "not supported");
        check("\"max_tokens\":3", "\"max_tokens\":2", "max_tokens");
        check("\"max_tokens\":3", "\"max_tokens\":4097", "max_tokens");
        check("0.999", "1.5", "cosine_min");
        check("0.001", "-0.001", "abs_tol");
        check("[1,2]", "[1,3]", "do not fill");
        check("[1,2]", "[4294967296,4294967296,2]", "do not fill");
        check("\"prompt\"", "\"prompt2\"", "golden set");
        let empty = br#"{"form":1,"kind":"lm","cases":[]}"#;
        assert!(matches!(Golden::parse(empty), Err(FormError::Missing { .. })));
    }

    #[test]
    fn wrong_answers_are_told() {
        let golden = Golden::parse(SET.as_bytes()).unwrap();
        let wrong = |at: usize, answer: Answer| {
            let mut answers = right();
            answers[at] = answer;
            golden.judge(&answers).unwrap_err()
        };
        assert_eq!(wrong(0, Answer::Tokens(vec![1, 2, 4])), Wrong::Token { case: 0, token: 2 });
        assert_eq!(wrong(0, Answer::Tokens(vec![1, 2])), Wrong::Token { case: 0, token: 2 });
        assert_eq!(wrong(0, Answer::Tokens(vec![1, 2, 3, 4])), Wrong::Token { case: 0, token: 3 });
        assert_eq!(wrong(0, Answer::Vector(vec![])), Wrong::Form { case: 0 });
        assert!(matches!(wrong(1, Answer::Vector(vec![4.0, 3.0])), Wrong::Cosine { case: 1, .. }));
        assert!(matches!(wrong(1, Answer::Vector(vec![0.0, 0.0])), Wrong::Cosine { case: 1, .. }));
        assert!(matches!(wrong(1, Answer::Vector(vec![f32::NAN, 1.0])), Wrong::Cosine { case: 1, .. }));
        assert_eq!(wrong(1, Answer::Vector(vec![3.0])), Wrong::Form { case: 1 });
        let tensor = |name: &str, shape: &[u64], value: f32| {
            let tensor = Tensor { shape: shape.to_vec(), values: vec![value] };
            Answer::Tensors(BTreeMap::from([(name.to_owned(), tensor)]))
        };
        assert!(matches!(wrong(2, tensor("y", &[1], 0.502)), Wrong::Number { case: 2, at: 0, .. }));
        assert!(matches!(wrong(2, tensor("y", &[1], f32::NAN)), Wrong::Number { .. }));
        assert_eq!(wrong(2, tensor("z", &[1], 0.5)), Wrong::Form { case: 2 });
        assert_eq!(wrong(2, tensor("y", &[1, 1], 0.5)), Wrong::Form { case: 2 });
        assert_eq!(golden.judge(&right()[..2]), Err(Wrong::Count { expected: 3, found: 2 }));
    }

    #[test]
    fn the_budget_holds() {
        let budget = Golden::parse(SET.as_bytes()).unwrap().budget;
        let cost = Cost { load_ms: 900.0, p95_ms: 1e6, rss_bytes: 1000 };
        assert_eq!(budget.judge(&cost), Ok(()));
        for cost in [
            Cost { load_ms: 900.1, ..cost.clone() },
            Cost { load_ms: f64::NAN, ..cost.clone() },
            Cost { rss_bytes: 1001, ..cost },
        ] {
            assert!(matches!(budget.judge(&cost), Err(Wrong::Budget { .. })), "{cost:?}");
        }
        let here = Budget { load_ms: Some(950.0), p95_ms: Some(5.0), rss_bytes: Some(10) };
        assert_eq!(budget.and(here), Budget { load_ms: Some(900.0), p95_ms: Some(5.0), rss_bytes: Some(10) });
        assert_eq!(Budget::default().and(budget), budget);
        let error = budget.judge(&Cost { load_ms: 950.0, p95_ms: 0.0, rss_bytes: 0 }).unwrap_err();
        assert_eq!(error.to_string(), "time to load, in ms, is 950, and may be 900");
    }
}
