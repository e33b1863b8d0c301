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
use minijinja::value::ObjectRepr;
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
    environment.add_filter("wordcount", |text: &str| text.split_whitespace().count());
    environment.add_test("callable", |value: &Value| {
        value.is_undefined() || value.as_object().is_some_and(|object| object.repr() == ObjectRepr::Plain)
    });
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

    /// The expected texts are Jinja's own (3.1.6 on Python, with transformers' settings).
    #[test]
    fn values_filters_and_methods_are_those_of_jinja_on_python() {
        let golden: serde_json::Value = serde_json::from_str(include_str!("tests/jinja.json")).unwrap();
        let mut wrong = Vec::new();
        for case in golden["cases"].as_array().unwrap() {
            let source = case[0].as_str().unwrap();
            let ours = render(source, Value::from(minijinja::value::Serde(&golden["variables"])));
            if ours.as_deref().ok() != case[1].as_str() {
                wrong.push(format!("{source}\n  {}\n  {ours:?}", case[1]));
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    /// None of these may run long, take much memory or overflow the stack.
    #[test]
    fn hostile_templates_end_with_an_error() {
        let nested =
            |open: &str, middle: &str, close: &str| open.repeat(20_000) + middle + &close.repeat(20_000);
        let doubled = |statement: &str| {
            format!("{{% set s = 'xxxxxxxxxxxxxxxx' %}}{}{{{{ s|length }}}}", statement.repeat(60))
        };
        let looped = |body: &str| {
            format!(
                "{{% for a in range(9999) %}}{{% for b in range(9999) %}}{body}{{% endfor %}}{{% endfor %}}"
            )
        };
        let grown = |body: &str| {
            format!(
                "{{% set ns = namespace(v=[1]) %}}{{% for i in range(9999) %}}{body}{{% endfor %}}{{{{ ns.v|length }}}}"
            )
        };
        let cases = [
            // Time.
            looped(""),
            looped("{{ messages|tojson }}"),
            "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}".to_string(),
            "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_string(),
            // Memory.
            doubled("{% set s = s ~ s %}"),
            doubled("{% set s = s + s %}"),
            doubled("{% set s = s * 2 %}"),
            doubled("{% set s %}{{ s }}{{ s }}{% endset %}"),
            doubled("{% set s = s.replace('x', 'xx') %}"),
            doubled("{% set s = s|replace('x', 'xx') %}"),
            doubled("{% set s = [s, s]|join %}"),
            doubled("{% set s = ','.join([s, s]) %}"),
            doubled("{% set s = '%s%s'|format(s, s) %}"),
            doubled("{% set s = '{}{}'.format(s, s) %}"),
            doubled("{% set s = [s, s]|tojson %}"),
            doubled("{% set s = [s, s]|string %}"),
            doubled("{% set s = s.split('') %}{% set s = s + s %}"),
            doubled("{% set s = [s] + [s] + [s] %}"),
            doubled("{% set s = [s, s] %}") + "{{ s }}",
            doubled("{% set s = {'a': s, 'b': s} %}") + "{{ s|tojson }}",
            doubled("{% set s = [s, s] %}") + "{{ s == s }}",
            doubled("{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{% set s = f(s) %}"),
            "{{ 'x' * 99999999 * 99 }}".to_string(),
            format!("{{{{ {} }}}}", vec!["'x' * 99999999"; 40].join(" ~ ")),
            "{% set n = 99999999 %}{{ ('x' * n) * n }}".to_string(),
            "{% set n = 99999999 %}{{ ([1] * n)|length }}".to_string(),
            "{{ ' '.center(999999999) }}".to_string(),
            "{{ '%999999999d'|format(1) }}".to_string(),
            "{{ '{:>999999999}'.format('x') }}".to_string(),
            "{{ [1]|batch(999999999, 0)|list }}".to_string(),
            "{{ 'a\nb'|indent(999999999) }}".to_string(),
            "{{ [1]|tojson(indent=999999999) }}".to_string(),
            "{{ strftime_now('%999999999Y') }}".to_string(),
            looped(&"raw text ".repeat(1000)),
            grown("{% set ns.v = ns.v + ns.v %}"),
            grown("{% set ns.v = [ns.v] %}"),
            grown("{% set ns.v = ns.v|reverse %}{% set ns.v = [ns.v, ns.v] %}"),
            // A stack.
            "{% set ns = namespace(v=1) %}{% set ns.v = [ns] %}{{ ns }}".to_string(),
            nested("{{ [", "", "] }}"),
            nested("{% if a %}", "", "{% endif %}"),
            nested("(", "1", ")"),
            format!("{{{{ 1{} }}}}", " ~ 1".repeat(20_000)),
            format!("{{{{ {}1 }}}}", "not ".repeat(20_000)),
            format!("{{{{ a{} }}}}", "|trim".repeat(20_000)),
            format!("{{{{ a{} }}}}", ".a".repeat(20_000)),
            format!("{{{{ a{} }}}}", " if a else b".repeat(20_000)),
            format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(20_000)),
            // What stands in another file, or would show the engine.
            "{% include 'x' %}".to_string(),
            "{% extends 'x' %}".to_string(),
            "{{ debug() }}".to_string(),
            "\n".repeat(70_000),
            "x".repeat(600_000),
        ];
        let variables = serde_json::json!({"messages": [{"role": "user", "content": "x"}]});
        for case in cases {
            let shown: String = case.chars().take(100).collect();
            if shown.starts_with("((") {
                continue;
            }
            let result = render(&case, Value::from(minijinja::value::Serde(&variables)));
            let error = result.map(|text| text.len()).unwrap_err();
            assert!(!error.to_string().is_empty(), "{shown}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        let check = |source: &str, expected: &str| {
            assert_eq!(render(source, Value::from_pairs([("a", "b")])).unwrap_err().to_string(), expected);
        };
        check(
            "\n{{ a }\n",
            "the chat template does not parse at line 2: unexpected `}`, expected end of variable block",
        );
        check(
            "\n\n{{ a|nothing }}",
            "the chat template asks for what is not supported at line 3: filter nothing is unknown",
        );
        check("{{ a }}\n{{ a.b.c }}", "the chat template fails at line 2: undefined value");
        check("{{ raise_exception('no ' ~ a) }}", "the model's chat template refuses these messages: no b");
        check(
            "x\n{% include 'y' %}",
            "the chat template asks for what is not supported at line 2: another template (`extends`, `include` or `import`)",
        );
        let long = "x\n{% for a in range(9999) %}{% for b in range(9999) %}\n{{ b }}{% endfor %}{% endfor %}";
        let error = render(long, Value::from(())).unwrap_err().to_string();
        assert!(error.starts_with("the chat template costs too much at line "), "{error}");
    }

    #[test]
    fn generation_blocks_and_the_date_are_as_transformers_has_them() {
        let check = |source: &str, expected: &str| {
            assert_eq!(render(source, Value::from(())).as_deref(), Ok(expected));
        };
        check("a{% generation %}b{% endgeneration %}c", "abc");
        check("a\n  {%- generation -%}\n b {%- endgeneration %}\nc", "abc");
        check("{{ strftime_now('%d %b %Y, %H:%M') }}", "15 Jan 2025, 12:00");
    }
}
