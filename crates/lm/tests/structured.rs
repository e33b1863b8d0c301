//! Constraints on the public sets of schemas: what must be accepted is, what must be refused is.
//!
//! `SELVEDGE_WHOLE=1` runs every schema (a minute, with the dependencies optimised); otherwise each 20th.

// Test support that prints, unwraps and measures; nothing is asserted of a time.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use lm::chat::answer::Answer;
use lm::chat::dialect::Dialect;
use lm::chat::message::{Tool, ToolChoice};
use lm::chat::tools::grammar;
use lm::constraint::vocabulary::{TokenBytes, Vocabulary};
use lm::constraint::{Constraint, ConstraintError, Grammar};
use lm::gguf::Gguf;
use lm::tokenizer::Tokenizer;
use lm::tokenizer::special::Special;
use serde_json::Value;

fn shared_data(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SELVEDGE_SHARED_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let folder = root.join(folder);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {}: no shared data", folder.display());
    None
}

/// A token for each byte, then one that ends the answer.
fn byte_vocabulary() -> Vocabulary {
    let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
    let tokens = bytes.iter().map(|byte| TokenBytes::Text(byte)).chain([TokenBytes::Special("<end>")]);
    Vocabulary::new(tokens, &[256], None).unwrap()
}

fn every() -> usize {
    if std::env::var_os("SELVEDGE_WHOLE").is_some() { 1 } else { 20 }
}

/// Whether the whole text follows the grammar. Times of single masks go to `micros`.
fn accepts(prototype: &Constraint, text: &str, micros: &mut Vec<u128>) -> Result<bool, ConstraintError> {
    let mut constraint = prototype.clone();
    for byte in text.bytes() {
        let began = Instant::now();
        let mask = constraint.mask()?;
        micros.push(began.elapsed().as_micros());
        if !mask.allows(u32::from(byte)) {
            return Ok(false);
        }
        constraint.accept(u32::from(byte))?;
    }
    Ok(constraint.may_end())
}

/// Figures of a whole run (5,808 schemas): see the assertions, which are those less a margin for the sample.
#[test]
fn shared_data_maskbench_instances_are_accepted_or_refused() {
    let Some(folder) = shared_data("structured") else { return };
    let file = std::fs::File::open(folder.join("maskbench.public.jsonl.gz")).unwrap();
    let vocabulary = byte_vocabulary();
    let (mut schemas, mut unsupported, mut wrong, mut large) = (0, 0, 0, 0);
    let (mut valid, mut valid_refused, mut invalid, mut invalid_accepted, mut failed) = (0, 0, 0, 0, 0);
    let mut micros = Vec::new();
    let mut log = String::new();
    for line in BufReader::new(flate2::read::GzDecoder::new(file)).lines().step_by(every()) {
        let case: Value = serde_json::from_str(&line.unwrap()).unwrap();
        schemas += 1;
        let constraint =
            match Constraint::new(&Grammar::json_schema(case["schema"].clone(), true), &vocabulary) {
                Ok(constraint) => constraint,
                Err(error) => {
                    match &error {
                        ConstraintError::Unsupported { .. } => unsupported += 1,
                        ConstraintError::TooLarge { .. } => large += 1,
                        _ => wrong += 1,
                    }
                    log += &format!("{} compile {error:?}\n", case["id"]);
                    continue;
                }
            };
        for test in case["tests"].as_array().unwrap() {
            let text = test["data"].to_string();
            let should = test["valid"].as_bool().unwrap();
            match (accepts(&constraint, &text, &mut micros), should) {
                (Ok(true), true) => valid += 1,
                (Ok(false), false) => invalid += 1,
                (Ok(true), false) => {
                    invalid_accepted += 1;
                    log += &format!("{} accepted {text}\n", case["id"]);
                }
                (Ok(false), true) => {
                    valid_refused += 1;
                    log += &format!("{} refused {text}\n", case["id"]);
                }
                (Err(error), _) => {
                    failed += 1;
                    log += &format!("{} failed {error}\n", case["id"]);
                }
            }
        }
    }
    micros.sort_unstable();
    let at = |part: f64| micros[(part * (micros.len() - 1) as f64) as usize];
    println!("{schemas} schemas: {unsupported} unsupported, {wrong} wrong, {large} too large");
    println!(
        "valid: {valid} accepted, {valid_refused} refused; invalid: {invalid} refused, {invalid_accepted} accepted; {failed} failed"
    );
    println!("a mask over bytes: p50 {} us, p99 {} us, max {} us", at(0.5), at(0.99), at(1.0));
    if let Some(path) = std::env::var_os("SELVEDGE_LOG") {
        std::fs::write(path, log).unwrap();
    }
    // The whole: 800 schemas do not compile, 4 of 6,464 valid instances are refused, none of 9,486 invalid ones is
    // accepted. llguidance's own published outcomes are the same for 5,807 of the 5,808 schemas.
    assert!(schemas >= 290 && (unsupported + wrong + large) * 100 <= schemas * 16);
    assert!(failed == 0 && invalid_accepted == 0 && valid_refused * 500 <= valid);
}

/// Berkeley's schemas are Python's types in JSON's clothes.
fn as_json_schema(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let each =
                members.iter().filter(|(key, _)| !matches!(key.as_str(), "default" | "optional" | "format"));
            let each = each.map(|(key, value)| match (key.as_str(), value.as_str()) {
                ("type", Some("dict")) => (key.clone(), Value::from("object")),
                ("type", Some("float")) => (key.clone(), Value::from("number")),
                ("type", Some("tuple")) => (key.clone(), Value::from("array")),
                ("type", Some("any")) => ("description".to_string(), Value::from("any")),
                _ => (key.clone(), as_json_schema(value)),
            });
            Value::Object(each.collect())
        }
        Value::Array(items) => items.iter().map(as_json_schema).collect(),
        other => other.clone(),
    }
}

/// Each of the 600 questions has functions and an expected call: the functions make a grammar, which takes the call and
/// refuses it under a wrong name; the answer's reader finds the same call again.
#[test]
fn shared_data_berkeley_calls_follow_the_grammar_of_their_functions() {
    let Some(folder) = shared_data("structured/bfcl") else { return };
    let vocabulary = byte_vocabulary();
    let dialect = Dialect::every()
        .find(|dialect| dialect.calls.name == "hermes" && dialect.thoughts.is_none())
        .unwrap();
    let (mut calls, mut refused) = (0, Vec::new());
    for file in ["BFCL_v4_multiple.json", "BFCL_v4_simple_python.json"] {
        let lines = |path: PathBuf| -> Vec<Value> {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let questions = lines(folder.join(file));
        let answers = lines(folder.join("possible_answer").join(file));
        for (question, answer) in questions.iter().zip(&answers).step_by(if every() == 1 { 1 } else { 4 }) {
            assert_eq!(question["id"], answer["id"]);
            let functions = question["function"].as_array().unwrap().iter();
            let tools: Vec<Value> = functions
                .map(|function| {
                    let parameters = as_json_schema(&function["parameters"]);
                    serde_json::json!({"type": "function", "function": {"name": function["name"], "parameters": parameters, "strict": true}})
                })
                .collect();
            let tools = Tool::list_from_json(&Value::from(tools)).unwrap();
            let grammar =
                grammar(&dialect, &tools, &ToolChoice::Required, false, false, &vocabulary).unwrap().unwrap();
            let constraint = Constraint::new(&grammar, &vocabulary)
                .unwrap_or_else(|error| panic!("{}: {error}", question["id"]));
            let (name, possible) = answer["ground_truth"][0].as_object().unwrap().iter().next().unwrap();
            // The order of the schema's own properties, as the grammar has it; an empty text means it may be left out.
            let tool = tools.iter().find(|tool| tool.name == *name).unwrap();
            let properties = tool.parameters.as_ref().unwrap()["properties"].as_object().unwrap();
            let mut arguments = serde_json::Map::new();
            for key in properties.keys() {
                let values = possible.get(key).and_then(Value::as_array);
                if let Some(value) = values.and_then(|values| values.iter().find(|value| **value != "")) {
                    arguments.insert(key.clone(), plain(value));
                }
            }
            let arguments = Value::from(arguments);
            let text =
                format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>");
            let wrong = text.replacen(&format!("\"{name}\""), "\"no_such_function\"", 1);
            let mut micros = Vec::new();
            calls += 1;
            if !accepts(&constraint, &text, &mut micros).unwrap() {
                refused.push(format!("{} {text} {}", question["id"], tool.parameters.as_ref().unwrap()));
            }
            assert!(!accepts(&constraint, &wrong, &mut micros).unwrap());
            let parsed = Answer::parse(dialect, &tools, false, &text);
            assert_eq!(parsed.calls, [(name.clone(), arguments.to_string())]);
        }
    }
    println!("{calls} calls, {} refused", refused.len());
    // Some expected answers break their own schema: a number where it says text, a value that its list lacks.
    assert!(
        calls >= 140 && refused.len() * 100 <= calls * 3,
        "{} of {calls}:\n{}",
        refused.len(),
        refused.join("\n")
    );
}

/// Inside objects too the expected value is the first of a list of possible ones.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let first = |value: &Value| match value {
                Value::Array(values) => values.first().map_or(Value::Null, plain),
                other => plain(other),
            };
            members.iter().map(|(key, value)| (key.clone(), first(value))).collect()
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}

/// llama.cpp's own pairs of a schema and the grammar it makes of it: both compile here, or say what they lack.
#[test]
fn shared_data_llamacpp_schemas_and_grammars_compile() {
    let Some(folder) = shared_data("structured") else { return };
    let cases = std::fs::read_to_string(folder.join("llamacpp-schema-to-gbnf.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&cases).unwrap();
    let vocabulary = byte_vocabulary();
    let (mut schemas, mut grammars, mut lacking) = (0, 0, Vec::new());
    for case in &cases {
        if case["status"] != "SUCCESS" {
            continue;
        }
        let schema: Value = serde_json::from_str(case["schema"].as_str().unwrap()).unwrap();
        schemas += 1;
        if let Err(error) = Constraint::new(&Grammar::json_schema(schema, true), &vocabulary) {
            lacking.push(format!("{}: {error}", case["name"]));
        }
        let text = case["expected_gbnf"].as_str().unwrap();
        grammars += 1;
        let grammar = Grammar::gbnf(text).unwrap_or_else(|error| panic!("{}: {error}\n{text}", case["name"]));
        Constraint::new(&grammar, &vocabulary)
            .unwrap_or_else(|error| panic!("{}: {error}\n{text}", case["name"]));
    }
    println!("{schemas} schemas, {grammars} grammars; {} lacking:\n{}", lacking.len(), lacking.join("\n"));
    assert!(grammars >= 40 && lacking.len() * 5 <= schemas);
}

/// A model's real vocabulary: 151,936 tokens. Masks, forced tokens and the end of an answer over the model's own tokenizer.
#[test]
fn shared_data_constraints_over_a_real_vocabulary() {
    let Some(folder) = shared_data("vocab-gguf") else { return };
    let file = Gguf::open(&folder.join("ggml-vocab-qwen2.gguf")).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_metadata(file.metadata()).unwrap());
    let began = Instant::now();
    let vocabulary = Vocabulary::of(&tokenizer).unwrap();
    println!("a vocabulary of {} tokens is built in {:?}", vocabulary.len(), began.elapsed());
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "sensor_identifier": {"type": "string", "maxLength": 40},
            "reading": {"type": "number"},
            "state": {"enum": ["nominal", "degraded", "failed"]},
            "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{2,8}$"}, "maxItems": 5},
        },
        "required": ["sensor_identifier", "reading", "state", "tags"],
        "additionalProperties": false,
    });
    let began = Instant::now();
    let mut constraint = Constraint::new(&Grammar::json_schema(schema, true), &vocabulary).unwrap();
    println!("its grammar is compiled in {:?}", began.elapsed());
    let text = r#"{"sensor_identifier": "Pumpe 3 – Süd 東京", "reading": -12.75e2, "state": "degraded", "tags": ["hot", "loud"]}"#;
    let mut rest = tokenizer.encode(text, Special::Plain);
    let whole = rest.len();
    let (mut micros, mut forced) = (Vec::new(), 0);
    while !rest.is_empty() {
        let began = Instant::now();
        let mask = constraint.mask().unwrap();
        micros.push(began.elapsed().as_micros());
        let next = constraint.forced();
        forced += usize::from(!next.is_empty());
        // Forced tokens are those that the tokenizer itself makes of the forced text.
        assert!(next.iter().zip(&rest).all(|(forced, token)| forced == token), "{next:?} {rest:?}");
        assert!(
            mask.allows(rest[0]),
            "{:?} at {} of {whole}",
            tokenizer.text_of(rest[0]),
            whole - rest.len()
        );
        let mut logits = vec![0.0; vocabulary.len() + 100];
        mask.apply(&mut logits);
        assert_eq!(logits.iter().filter(|logit| **logit == 0.0).count(), mask.count());
        assert_eq!(mask.tokens().count(), mask.count());
        constraint.accept(rest.remove(0)).unwrap();
    }
    assert!(forced > 0 && constraint.may_end());
    let end = tokenizer.ends()[0];
    assert_eq!(constraint.mask().unwrap().tokens().find(|token| *token == end), Some(end));
    let mut ended = constraint.clone();
    ended.accept(end).unwrap();
    assert!(ended.is_done() && ended.mask().unwrap().tokens().all(|token| tokenizer.ends().contains(&token)));
    assert!(
        constraint.accept(rest.first().copied().unwrap_or(0)).is_err()
            && constraint.accept(u32::MAX).is_err()
    );
    micros.sort_unstable();
    println!("{whole} masks: p50 {} us, max {} us", micros[whole / 2], micros[whole - 1]);
}
