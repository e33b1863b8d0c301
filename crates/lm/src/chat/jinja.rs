//! Runs one chat template on one set of variables, as transformers would, within limits.
//!
//! Below `template.rs`, which chooses the template and shapes the variables. The settings are those of transformers'
//! `apply_chat_template`: `trim_blocks`, `lstrip_blocks`, break and continue, `raise_exception`, `strftime_now`,
//! `tojson` without HTML escapes, `generation` blocks. The time comes in as a value.

use std::sync::{Arc, Mutex};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use minijinja::machinery::{CompiledTemplate, TemplateConfig, eval, make_string_output};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use thiserror::Error as ThisError;

use crate::chat::bounds::{
    Budget, Limits, REFUSED_FILTERS, REFUSED_FUNCTIONS, check_source, guard, refused, with_guards,
};
use crate::chat::python::{method, text_of, tojson};

/// Why a template gave no prompt.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum TemplateError {
    /// The text is no template.
    #[error("the chat template does not parse{}: {reason}", at(.line))]
    Syntax {
        /// Counted from 1.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// The template asks for something that is not known here.
    #[error("the chat template asks for what is not supported{}: {what}", at(.line))]
    Unsupported {
        /// Counted from 1.
        line: Option<usize>,
        /// The filter, function or statement.
        what: String,
    },
    /// The template itself refuses these messages (`raise_exception`), in its own words.
    #[error("the model's chat template refuses these messages: {message}")]
    Refused {
        /// The template's words.
        message: String,
    },
    /// Running it failed: it reads what is not there, or computes what cannot be.
    #[error("the chat template fails{}: {reason}", at(.line))]
    Failed {
        /// Counted from 1.
        line: Option<usize>,
        /// What failed.
        reason: String,
    },
    /// It would run too long or make too much.
    #[error("the chat template costs too much{}: {reason}", at(.line))]
    TooMuch {
        /// Counted from 1.
        line: Option<usize>,
        /// The limit it met.
        reason: String,
    },
}

fn at(line: &Option<usize>) -> String {
    line.map(|line| format!(" at line {line}")).unwrap_or_default()
}

impl TemplateError {
    fn from_engine(error: &Error, refusal: &Mutex<Option<String>>) -> TemplateError {
        if let Ok(mut refusal) = refusal.lock()
            && let Some(message) = refusal.take()
        {
            return TemplateError::Refused { message };
        }
        let line = error.line().filter(|line| *line > 0);
        let reason = match error.detail() {
            Some(detail) => detail.to_string(),
            None => error.kind().to_string(),
        };
        match error.kind() {
            ErrorKind::SyntaxError | ErrorKind::InvalidDelimiter => TemplateError::Syntax { line, reason },
            ErrorKind::OutOfFuel => {
                let reason = if error.detail().is_none() { "it runs too long".to_string() } else { reason };
                TemplateError::TooMuch { line, reason }
            }
            ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod
            | ErrorKind::TemplateNotFound => TemplateError::Unsupported { line, what: reason },
            _ => TemplateError::Failed { line, reason },
        }
    }
}

/// The text of a template, checked: it parses, and holds nothing that is refused.
#[derive(Clone, Debug)]
pub(super) struct Source(Arc<str>);

impl Source {
    /// Checks a template's text.
    pub(super) fn new(text: &str) -> Result<Source, TemplateError> {
        let source = Source(Arc::from(without_generation(text)));
        check_source(&source.0, &syntax())
            .map_err(|(line, what)| TemplateError::Unsupported { line, what })?;
        source.compile().map(drop)?;
        Ok(source)
    }

    /// The template's text.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    fn compile(&self) -> Result<CompiledTemplate<'_>, TemplateError> {
        let config = TemplateConfig {
            syntax_config: syntax(),
            default_auto_escape: Arc::new(|_: &str| AutoEscape::None),
        };
        let mut compiled = CompiledTemplate::new("chat_template", &self.0, &config)
            .map_err(|error| TemplateError::from_engine(&error, &Mutex::new(None)))?;
        let unsupported = |(line, what)| TemplateError::Unsupported { line, what };
        compiled.instructions = with_guards(&compiled.instructions).map_err(unsupported)?;
        for block in compiled.blocks.values_mut() {
            *block = with_guards(block).map_err(unsupported)?;
        }
        Ok(compiled)
    }

    /// The template's text for these variables, a map. `now`: seconds since 1970, for `strftime_now`.
    pub(super) fn render(&self, variables: Value, now: i64, limits: Limits) -> Result<String, TemplateError> {
        // Compiling takes about as long as rendering one message (0.1 ms); keeping the result would need an owner
        // that borrows from itself.
        let compiled = self.compile()?;
        let refusal = Arc::new(Mutex::new(None));
        let environment = environment(now, limits, &refusal);
        let mut text = String::new();
        let mut out = make_string_output(&mut text);
        let result = eval(
            &environment,
            &compiled.instructions,
            variables,
            &compiled.blocks,
            &mut out,
            AutoEscape::None,
        )
        .map(drop);
        match result {
            Ok(()) => Ok(text),
            Err(error) => Err(TemplateError::from_engine(&error, &refusal)),
        }
    }
}

fn syntax() -> SyntaxConfig {
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    // Only delimiters can be wrong, and these are the usual ones.
    syntax.build().unwrap_or_default()
}

fn environment<'a>(now: i64, limits: Limits, refusal: &Arc<Mutex<Option<String>>>) -> Environment<'a> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_fuel(Some(limits.fuel));
    environment.set_recursion_limit(200);
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", |value: &Value, arguments| tojson(value, arguments));
    environment.add_filter("string", |value: &Value| text_of(value));
    for name in REFUSED_FILTERS {
        environment.add_filter(name, refused(name));
    }
    for name in REFUSED_FUNCTIONS {
        environment.add_function(name, refused(name));
    }
    let refusal = refusal.clone();
    environment.add_function("raise_exception", move |message: &Value| -> Result<Value, Error> {
        if let Ok(mut refusal) = refusal.lock() {
            *refusal = Some(text_of(message));
        }
        Err(Error::new(ErrorKind::InvalidOperation, text_of(message)))
    });
    environment.add_function("strftime_now", move |format: &str| strftime(now, format));
    guard(&mut environment, &Budget::new(limits));
    environment
}

/// `datetime.now().strftime(format)` for a clock that stands at `now`.
fn strftime(now: i64, format: &str) -> Result<String, Error> {
    let invalid = |reason: String| Error::new(ErrorKind::InvalidOperation, reason);
    // Each directive can make at most a date and a time; a width is no part of Python's.
    if format.len() > 1000 || format.chars().any(|character| character.is_ascii_digit()) {
        return Err(invalid("a time format of over 1000 bytes or with a width".to_string()));
    }
    let time = Timestamp::from_second(now).map_err(|error| invalid(error.to_string()))?;
    let time = Zoned::new(time, TimeZone::UTC);
    jiff::fmt::strtime::format(format, &time).map_err(|error| invalid(error.to_string()))
}

/// `{% generation %}` marks what a trainer learns from; for a prompt its body is plain text.
fn without_generation(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let inner = tag[2..].find("%}").map(|end| &tag[2..2 + end]);
        let word = inner.map(|inner| inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+'));
        let statement = match word {
            Some("generation") => "if true",
            Some("endgeneration") => "endif",
            _ => {
                out.push_str("{%");
                rest = &tag[2..];
                continue;
            }
        };
        let inner = inner.unwrap_or_default();
        let word = word.unwrap_or_default();
        out.push_str("{%");
        out.push_str(&inner.replacen(word, statement, 1));
        out.push_str("%}");
        rest = &tag[2 + inner.len() + 2..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, variables: Value) -> Result<String, TemplateError> {
        Source::new(source)?.render(variables, 1_736_942_400, Limits::for_input(1000, 10))
    }

    #[test]
    fn shared_data_templates_as_jinja_on_python_renders_them() {
        let Some(folder) = crate::chat::shared_data("structured") else { return };
        let golden: serde_json::Value = serde_json::from_str(
            &std::fs::read_to_string(folder.join("chat-templates.expected.json")).unwrap(),
        )
        .unwrap();
        let mut wrong = Vec::new();
        for case in golden["cases"].as_array().unwrap() {
            let name = case["template"].as_str().unwrap();
            let text = std::fs::read_to_string(folder.join("chat-templates").join(name)).unwrap();
            let mut variables = golden["conversations"][case["conv"].as_str().unwrap()].clone();
            variables["bos_token"] = golden["bos_token"].clone();
            variables["eos_token"] = golden["eos_token"].clone();
            let ours = render(&text, Value::from(minijinja::value::Serde(&variables)));
            let same = match (&ours, case["expected"].as_str(), case["error"].as_str()) {
                (Ok(ours), Some(expected), _) => ours == expected,
                (Err(TemplateError::Refused { message }), _, Some(error)) => {
                    error == format!("TemplateError: {message}")
                }
                _ => false,
            };
            if !same {
                wrong.push(format!("{name} {}\n  {:?}\n  {ours:?}", case["conv"], case["expected"]));
            }
        }
        assert!(golden["cases"].as_array().unwrap().len() >= 72);
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
}
