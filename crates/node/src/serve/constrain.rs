//! `response_format`, and what else an answer must follow.
//!
//! Beside OpenAI's `text`, `json_object` and `json_schema` there are `regex` (`{"type": "regex", "regex": …}`) and
//! `grammar` (`{"type": "grammar", "grammar": …, "syntax": "gbnf" | "lark"}`).

use lm::constraint::{Constraint, ConstraintError, Grammar};
use serde_json::Value;

use super::limits::SCHEMA_BYTES;
use super::load::Loaded;
use super::problem::Problem;

/// Reads a response format; `None` is any text. `param` names it in errors.
pub(super) fn read(format: Option<&Value>, param: &'static str) -> Result<Option<Grammar>, Problem> {
    let Some(format) = format.filter(|format| !format.is_null()) else { return Ok(None) };
    let kind = format.get("type").and_then(Value::as_str);
    let text = |key: &str| {
        let text = format.get(key).and_then(Value::as_str);
        text.ok_or_else(|| Problem::invalid(param, format!("`{param}.{key}` must be a string")))
    };
    bounded(format, param)?;
    let grammar = match kind {
        Some("text") => return Ok(None),
        Some("json_object") => Grammar::json_object(),
        Some("json_schema") => {
            // The responses API has no object between.
            let inner = format.get("json_schema").unwrap_or(format);
            let schema = inner.get("schema").filter(|schema| schema.is_object());
            let schema = schema.ok_or_else(|| {
                Problem::invalid(
                    param,
                    format!("`{param}` of type json_schema needs a `schema`, a JSON schema"),
                )
            })?;
            let strict = inner.get("strict").and_then(Value::as_bool).unwrap_or(false);
            Grammar::json_schema(schema.clone(), strict)
        }
        Some("regex") => Grammar::regex(text("regex")?),
        Some("grammar") => match format.get("syntax").and_then(Value::as_str).unwrap_or("gbnf") {
            "gbnf" => Grammar::gbnf(text("grammar")?).map_err(|error| problem(&error, param))?,
            "lark" => Grammar::lark(text("grammar")?),
            other => {
                let message = format!("`{param}.syntax` is gbnf or lark, not {other:?}");
                return Err(Problem::invalid(param, message));
            }
        },
        _ => {
            let message = format!("`{param}.type` is one of text, json_object, json_schema, regex, grammar");
            return Err(Problem::invalid(param, message));
        }
    };
    Ok(Some(grammar))
}

/// Refuses what is too long to be compiled in good time.
pub(super) fn bounded(schema: &Value, param: &'static str) -> Result<(), Problem> {
    let len = schema.to_string().len();
    if len <= SCHEMA_BYTES {
        return Ok(());
    }
    Err(Problem::invalid(param, format!("`{param}` has {len} bytes, and may have {SCHEMA_BYTES}")))
}

/// The constraint of a grammar over a model's words. Keeps a core busy.
pub(super) fn compile(
    grammar: &Grammar,
    loaded: &Loaded,
    param: &'static str,
) -> Result<Constraint, Problem> {
    let vocabulary = loaded.vocabulary().map_err(|reason| Problem::unsupported(param, reason))?;
    Constraint::new(grammar, &vocabulary).map_err(|error| problem(&error, param))
}

/// What is wrong with a grammar is the caller's to mend.
pub(super) fn problem(error: &ConstraintError, param: &'static str) -> Problem {
    match error {
        ConstraintError::Unsupported { .. } => Problem::unsupported(param, format!("`{param}`: {error}")),
        _ => Problem::invalid(param, format!("`{param}`: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_are_read_or_refused_by_name() {
        let schema = json!({ "type": "object" });
        for format in [
            json!({ "type": "json_object" }),
            json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } }),
            json!({ "type": "json_schema", "name": "x", "schema": schema, "strict": true }),
            json!({ "type": "regex", "regex": "[a-z]+" }),
            json!({ "type": "grammar", "grammar": "start: \"a\"", "syntax": "lark" }),
        ] {
            assert!(read(Some(&format), "response_format").unwrap().is_some(), "{format}");
        }
        assert_eq!(read(None, "response_format").unwrap(), None);
        assert_eq!(read(Some(&json!({ "type": "text" })), "response_format").unwrap(), None);
        for format in [
            json!({}),
            json!("json"),
            json!({ "type": "yaml" }),
            json!({ "type": "json_schema" }),
            json!({ "type": "json_schema", "json_schema": { "schema": 3 } }),
            json!({ "type": "regex" }),
            json!({ "type": "grammar", "grammar": "x", "syntax": "yacc" }),
            json!({ "type": "regex", "regex": "a".repeat(SCHEMA_BYTES) }),
        ] {
            let problem = read(Some(&format), "response_format").expect_err("refused");
            assert_eq!(problem.param.as_deref(), Some("response_format"));
        }
    }
}
