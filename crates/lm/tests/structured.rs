//! Constraints on the public sets of schemas: what must be accepted is, what must be refused is.
//!
//! `SELVEDGE_WHOLE=1` runs every schema (two minutes in release); otherwise each 20th.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::Instant;

use lm::constraint::vocabulary::{TokenBytes, Vocabulary};
use lm::constraint::{Constraint, ConstraintError, Grammar};
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
    assert!(schemas >= 290);
}
