//! Output that must follow a JSON schema, a regular expression or a grammar.
//!
//! Stands beside the sampler: before each token [`Constraint::mask`] says which tokens may come, after it
//! [`Constraint::accept`] takes the one that came. The work is `llguidance`'s; this file gives it limits, our errors and
//! a face that knows no engine. `constraint/vocabulary.rs` is the vocabulary it works over, built once per model;
//! `constraint/gbnf.rs` reads llama.cpp's grammars. What always holds: a hostile schema, expression or grammar ends
//! with an error, in bounded time and memory, and what was accepted to the end follows the grammar.

mod gbnf;
pub mod vocabulary;

use std::fmt;
use std::sync::Arc;

use llguidance::api::{GrammarWithLexer, StopReason, TopLevelGrammar};
use llguidance::toktrie::SimpleVob;
use llguidance::{JsonCompileOptions, Matcher};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::constraint::gbnf::GbnfError;
use crate::constraint::vocabulary::Vocabulary;

/// The longest schema, expression or grammar. The compiler's own documentation knows schemas of 4 MB.
const MAX_GRAMMAR_BYTES: usize = 4 << 20;
/// White space between two parts of JSON: without a bound a small model may write nothing else. Enough for a line break
/// and an indent of 8 levels of 4.
const JSON_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,33}";

/// What the output must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Grammar {
    body: Body,
    reasoning: Option<Reasoning>,
}

#[derive(Clone, Debug, PartialEq)]
enum Body {
    Schema { schema: Value, strict: bool },
    Regex(String),
    Lark(String),
}

/// Free text that may come before the output itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reasoning {
    /// What begins it, `<think>`; none if the prompt has already begun it, so that it must be ended first.
    pub open: Option<String>,
    /// What ends it.
    pub close: String,
}

/// Why there is no constraint, or why it ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConstraintError {
    /// The schema or grammar asks for what cannot be kept here.
    #[error("{what} (not supported in a constraint)")]
    Unsupported {
        /// The keyword, format or construct.
        what: String,
    },
    /// The schema, expression or grammar is itself wrong, or nothing can follow it.
    #[error("{reason}")]
    Wrong {
        /// What is wrong.
        reason: String,
    },
    /// Following it would cost too much.
    #[error("the schema or grammar is too large or too complex: {reason}")]
    TooLarge {
        /// The limit that was met.
        reason: String,
    },
    /// A token that the mask did not allow.
    #[error("token {token} does not follow the grammar here")]
    NotAllowed {
        /// The token.
        token: u32,
    },
}

impl ConstraintError {
    /// The compiler has one type of error, whose text says which it is.
    fn from_text(text: &str) -> ConstraintError {
        // The lines after the first show its own state.
        let text = text.split("\n<backtrace>").next().unwrap_or(text);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it cannot be compiled");
        let place = text.lines().find(|line| line.trim_start().starts_with("while processing"));
        let reason = match place {
            Some(place) if place != line => format!("{line}, {}", place.trim()),
            _ => line.to_string(),
        };
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if has(&["too large", "too many", "too complex", "too deep", "exceeded", "limit", "fuel", "panic"]) {
            ConstraintError::TooLarge { reason }
        } else if has(&[
            "not supported",
            "only supported",
            "Unimplemented",
            "Unknown format",
            "unsupported",
            "Retrieving",
        ]) {
            ConstraintError::Unsupported { what: reason }
        } else {
            ConstraintError::Wrong { reason }
        }
    }
}

impl From<GbnfError> for ConstraintError {
    fn from(error: GbnfError) -> ConstraintError {
        match error {
            GbnfError::Wrong { .. } => ConstraintError::Wrong { reason: error.to_string() },
            GbnfError::Unsupported { .. } => ConstraintError::Unsupported { what: error.to_string() },
            GbnfError::TooLarge { .. } => ConstraintError::TooLarge { reason: error.to_string() },
        }
    }
}

impl Grammar {
    /// JSON that a schema allows. `strict`: what of the schema cannot be kept is an error; otherwise it is not kept.
    pub fn json_schema(schema: Value, strict: bool) -> Grammar {
        Grammar { body: Body::Schema { schema, strict }, reasoning: None }
    }

    /// Any JSON object.
    pub fn json_object() -> Grammar {
        Grammar::json_schema(json!({"type": "object"}), true)
    }

    /// A regular expression (the syntax of the crate `regex`) that the whole output must match.
    pub fn regex(expression: &str) -> Grammar {
        Grammar { body: Body::Regex(expression.to_string()), reasoning: None }
    }

    /// A grammar in the dialect of Lark that llguidance reads; it begins at `start`.
    pub fn lark(text: &str) -> Grammar {
        Grammar { body: Body::Lark(text.to_string()), reasoning: None }
    }

    /// A grammar as llama.cpp writes them (GBNF); it begins at `root`.
    pub fn gbnf(text: &str) -> Result<Grammar, ConstraintError> {
        if text.len() > MAX_GRAMMAR_BYTES {
            return Err(too_long(text.len()));
        }
        Ok(Grammar::lark(&gbnf::to_lark(text)?))
    }

    /// The same, after free text.
    pub fn after(mut self, reasoning: Option<Reasoning>) -> Grammar {
        self.reasoning = reasoning;
        self
    }

    fn compile(&self, vocabulary: &Vocabulary) -> Result<TopLevelGrammar, ConstraintError> {
        let body = match &self.body {
            Body::Schema { schema, strict } => {
                let length = schema.to_string().len();
                if length > MAX_GRAMMAR_BYTES {
                    return Err(too_long(length));
                }
                GrammarWithLexer::from_json_schema(with_options(schema, *strict))
            }
            Body::Regex(text) | Body::Lark(text) if text.len() > MAX_GRAMMAR_BYTES => {
                return Err(too_long(text.len()));
            }
            Body::Regex(text) => GrammarWithLexer::from_regex(text),
            Body::Lark(text) => GrammarWithLexer::from_lark(text.clone()),
        };
        let Some(reasoning) = &self.reasoning else { return Ok(TopLevelGrammar::from_grammar(body)) };
        let mut body = body;
        body.name = Some("answer".to_string());
        let close = match vocabulary.special(&reasoning.close) {
            Some(token) => format!("thoughts: /(.|\\n)*/ <[{token}]> SPACE\n"),
            None => format!("thoughts: free SPACE\nfree[lazy]: /(.|\\n)*/ {}\n", json!(reasoning.close)),
        };
        let start = match reasoning.open.as_deref().map(|open| (open, vocabulary.special(open))) {
            None => "start: thoughts @answer\n".to_string(),
            Some((_, Some(token))) => format!("start: (<[{token}]> thoughts)? @answer\n"),
            Some((open, None)) => format!("start: ({} thoughts)? @answer\n", json!(open)),
        };
        let prefix = GrammarWithLexer::from_lark(format!("{start}{close}SPACE: /[ \\n]{{0,4}}/\n"));
        Ok(TopLevelGrammar { grammars: vec![prefix, body], max_tokens: None })
    }
}

fn too_long(length: usize) -> ConstraintError {
    ConstraintError::TooLarge { reason: format!("{length} bytes; at most {MAX_GRAMMAR_BYTES} are read") }
}

/// The schema with our options in it, in place of any that it brings.
pub(crate) fn with_options(schema: &Value, strict: bool) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    let options = JsonCompileOptions {
        whitespace_pattern: Some(JSON_SPACE.to_string()),
        lenient: !strict,
        ..JsonCompileOptions::default()
    };
    let mut members: Map<String, Value> = members.clone();
    // It is a struct of plain fields, so it is an object.
    members.insert("x-guidance".to_string(), serde_json::to_value(options).unwrap_or(Value::Null));
    Value::Object(members)
}

/// Where an output stands in its grammar. A clone goes on by itself, and costs little.
#[derive(Clone)]
pub struct Constraint {
    matcher: Matcher,
    vocabulary_size: usize,
    ends: Arc<[u32]>,
}

impl fmt::Debug for Constraint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Constraint").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}

impl Constraint {
    /// At the beginning of an output.
    pub fn new(grammar: &Grammar, vocabulary: &Vocabulary) -> Result<Constraint, ConstraintError> {
        let grammar = grammar.compile(vocabulary)?;
        let parser = llguidance::panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| {
            vocabulary.factory().create_parser(grammar)
        }));
        let matcher = Matcher::new(parser);
        match matcher.get_error() {
            Some(text) => Err(ConstraintError::from_text(&text)),
            None => Ok(Constraint { matcher, vocabulary_size: vocabulary.len(), ends: vocabulary.ends() }),
        }
    }

    /// The tokens that may come next; after the end of the output only the tokens that end a turn.
    pub fn mask(&mut self) -> Result<TokenMask, ConstraintError> {
        let set = self
            .matcher
            .compute_mask_or_eos()
            .map_err(|error| ConstraintError::from_text(&error.to_string()))?;
        Ok(TokenMask { set, len: self.vocabulary_size })
    }

    /// Takes the token that came. A token that ends a turn is accepted where the output may end.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        if token as usize >= self.vocabulary_size {
            return Err(ConstraintError::NotAllowed { token });
        }
        if self.is_done() && self.matcher.stop_reason().is_ok() {
            // Nothing but the end can follow.
            return if self.ends.contains(&token) {
                Ok(())
            } else {
                Err(ConstraintError::NotAllowed { token })
            };
        }
        match self.matcher.try_consume_tokens(&[token]) {
            Ok(1) => Ok(()),
            Ok(_) => Err(ConstraintError::NotAllowed { token }),
            Err(error) => Err(ConstraintError::from_text(&error.to_string())),
        }
    }

    /// How many of these tokens may come next, one after the other; takes none of them.
    pub fn allowed_prefix(&mut self, tokens: &[u32]) -> usize {
        if tokens.iter().any(|token| *token as usize >= self.vocabulary_size) {
            return 0;
        }
        self.matcher.validate_tokens(tokens).unwrap_or(0)
    }

    /// Tokens that must come next, so that the model need not be asked. Empty without an encoder in the vocabulary.
    /// Takes none of them: each is still given to [`Constraint::accept`].
    pub fn forced(&mut self) -> Vec<u32> {
        self.matcher.compute_ff_tokens()
    }

    /// Tokens that will probably come next, as whatever follows begins with their bytes: those that must come, or without an
    /// encoder the longest ones, but for the last, which may go on. Takes none of them.
    pub fn probable(&mut self) -> Vec<u32> {
        let forced = self.forced();
        if !forced.is_empty() {
            return forced;
        }
        let bytes = self.matcher.compute_ff_bytes();
        let Ok(environment) = self.matcher.tok_env() else { return forced };
        let mut tokens = environment.tok_trie().greedy_tokenize(&bytes);
        tokens.pop();
        tokens
    }

    /// Whether the output may end here.
    pub fn may_end(&mut self) -> bool {
        self.matcher.is_accepting().unwrap_or(false)
    }

    /// Whether the output is complete: nothing can follow, or a token that ends a turn was taken.
    pub fn is_done(&self) -> bool {
        self.matcher.stop_reason() != StopReason::NotStopped
    }
}

/// A set of tokens.
#[derive(Clone, Debug)]
pub struct TokenMask {
    set: SimpleVob,
    len: usize,
}

impl TokenMask {
    /// Whether a token is in it.
    pub fn allows(&self, token: u32) -> bool {
        (token as usize) < self.len && self.set.is_allowed(token)
    }

    /// How many tokens are in it.
    pub fn count(&self) -> usize {
        self.set.num_set()
    }

    /// The tokens in it, smallest first.
    pub fn tokens(&self) -> impl Iterator<Item = u32> + '_ {
        self.set.iter()
    }

    /// Sets the logit of every other token to negative infinity. `logits`: `[vocabulary]`, or longer where a model has
    /// more rows than its vocabulary has tokens.
    pub fn apply(&self, logits: &mut [f32]) {
        let words = self.set.as_slice();
        for (chunk, logits) in logits.chunks_mut(32).enumerate() {
            let word = words.get(chunk).copied().unwrap_or(0);
            if word == u32::MAX && (chunk + 1) * 32 <= self.len {
                continue;
            }
            for (bit, logit) in logits.iter_mut().enumerate() {
                if word & (1 << bit) == 0 || chunk * 32 + bit >= self.len {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}
