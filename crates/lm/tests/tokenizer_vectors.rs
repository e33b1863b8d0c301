//! llama.cpp's own test texts and the ids they must become, for every vocabulary at hand.
//!
//! Beside each `x.gguf`: `x.gguf.inp`, texts with a separator line between, and `x.gguf.out`, a line of ids for each.
//! `SELVEDGE_VOCABULARIES` names a folder with more of them than the shared one has.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};

use lm::gguf::Gguf;
use lm::tokenizer::Tokenizer;
use lm::tokenizer::special::Special;

fn folders() -> Vec<PathBuf> {
    let data = std::env::var_os("SELVEDGE_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let more = std::env::var_os("SELVEDGE_VOCABULARIES").map(PathBuf::from);
    let folders = [Some(data.join("vocab-gguf")), more].into_iter().flatten();
    folders.filter(|folder| folder.is_dir()).collect()
}

/// Texts that differ, of all texts.
fn check(file: &Path) -> Result<(Vec<String>, usize), String> {
    let beside = |ending: &str| {
        let path = PathBuf::from(format!("{}.{ending}", file.display()));
        std::fs::read_to_string(path).map_err(|error| error.to_string())
    };
    let (texts, ids) = (beside("inp")?, beside("out")?);
    let gguf = Gguf::open(file).map_err(|error| error.to_string())?;
    let tokenizer = Tokenizer::from_metadata(gguf.metadata()).map_err(|error| error.to_string())?;
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<&str> = ids.trim_end_matches('\n').split('\n').collect();
    // The last separator ends a text, so nothing but an end of file follows it.
    let count = ids.len();
    assert!(
        texts.len() == count || texts.len() == count + 1,
        "{}: {} texts, {count} lines",
        file.display(),
        texts.len()
    );
    let mut wrong = Vec::new();
    for (text, expected) in texts.iter().zip(ids) {
        let expected: Vec<u32> = expected.split_whitespace().map(|id| id.parse().unwrap()).collect();
        let found = tokenizer.encode(text, Special::Plain);
        if found != expected {
            wrong.push(format!("{text:?}: {found:?}, expected {expected:?}"));
        }
    }
    Ok((wrong, count))
}

#[test]
fn shared_data_vocabularies_give_the_recorded_ids() {
    let folders = folders();
    if folders.is_empty() {
        println!("skipped: vocabularies: no shared data");
        return;
    }
    let mut failures = Vec::new();
    let mut checked = 0;
    for folder in folders {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| {
            path.extension().is_some_and(|ending| ending == "gguf")
                && path.with_extension("gguf.inp").exists()
        });
        files.sort();
        for file in files {
            checked += 1;
            match check(&file) {
                Ok((wrong, count)) => {
                    println!("{}: {} of {count} exact", file.display(), count - wrong.len());
                    failures.extend(wrong.into_iter().map(|wrong| format!("{}: {wrong}", file.display())));
                }
                Err(error) => failures.push(format!("{}: {error}", file.display())),
            }
        }
    }
    assert!(checked > 0, "no vocabulary with texts");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
