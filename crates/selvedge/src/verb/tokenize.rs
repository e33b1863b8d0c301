//! `selvedge tokenize`: how a model cuts a text, and back.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use anyhow::Context as _;
use lm::tokenizer::Tokenizer;
use lm::tokenizer::special::Special;
use serde_json::json;

use crate::complaint::Usage;
use crate::engine::open;
use crate::models::Models;
use crate::recording::show_count;

/// Show how a model cuts a text into tokens, or what text tokens are.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A .gguf file, or the name of a model on this machine.
    model: String,

    /// The text; without it what is piped in.
    text: Option<String>,

    #[command(flatten)]
    models: Models,

    /// Print the numbers alone, on one line.
    #[arg(long, conflicts_with = "count")]
    ids: bool,

    /// Print how many there are, and nothing else.
    #[arg(long)]
    count: bool,

    /// The text is numbers, and becomes text.
    #[arg(long, conflicts_with_all = ["ids", "count", "special", "bos"])]
    decode: bool,

    /// Special tokens that are written in the text become those tokens.
    #[arg(long)]
    special: bool,

    /// Add what the model wants before and after a text.
    #[arg(long)]
    bos: bool,

    /// Print as JSON.
    #[arg(long, conflicts_with_all = ["ids", "count"])]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let file = open(&args.models.locate(&args.model)?)?;
    let tokenizer = Tokenizer::from_metadata(file.metadata()).context("the vocabulary cannot be used")?;
    let text = text(args.text.as_deref())?;
    let mut out = io::stdout().lock();
    if args.decode {
        let ids = ids(&text, tokenizer.vocabulary_size())?;
        let text = tokenizer.decode_with_control(&ids);
        match args.json {
            true => writeln!(out, "{}", json!({ "ids": ids, "text": text }))?,
            false => writeln!(out, "{text}")?,
        }
        return Ok(());
    }
    let special = if args.special { Special::Parse } else { Special::Plain };
    let tokens =
        if args.bos { tokenizer.encode_for_model(&text, special) } else { tokenizer.encode(&text, special) };
    if args.count {
        writeln!(out, "{}", tokens.len())?;
        return Ok(());
    }
    if args.ids {
        let ids: Vec<String> = tokens.iter().map(ToString::to_string).collect();
        writeln!(out, "{}", ids.join(" "))?;
        return Ok(());
    }
    // What the token stands for, with what cannot be seen made visible.
    let piece = |token: u32| match tokenizer.is_special(token) {
        true => tokenizer.text_of(token).unwrap_or_default().to_owned(),
        false => String::from_utf8_lossy(&tokenizer.bytes_of(token)).into_owned(),
    };
    if args.json {
        let tokens: Vec<_> = tokens
            .iter()
            .map(|token| json!({ "id": token, "text": piece(*token), "special": tokenizer.is_special(*token) }))
            .collect();
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&json!({ "count": tokens.len(), "tokens": tokens }))?
        )?;
        return Ok(());
    }
    for token in &tokens {
        let text = piece(*token);
        match (tokenizer.is_special(*token), std::str::from_utf8(&tokenizer.bytes_of(*token))) {
            (true, _) => writeln!(out, "{token:>7}  {text}")?,
            (false, Ok(text)) => writeln!(out, "{token:>7}  {text:?}")?,
            // A part of a character.
            (false, Err(_)) => writeln!(out, "{token:>7}  {}", hex(&tokenizer.bytes_of(*token)))?,
        }
    }
    writeln!(io::stderr(), "{} tokens", show_count(tokens.len() as u64))?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("<{byte:02X}>")).collect()
}

/// The text that was given, or what is piped in, byte for byte.
pub(super) fn text(given: Option<&str>) -> anyhow::Result<String> {
    if let Some(text) = given {
        return Ok(text.to_owned());
    }
    if io::stdin().is_terminal() {
        return Err(Usage("there is no text: give one, or pipe one in".into()).into());
    }
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text).context("what was piped in cannot be read as text")?;
    Ok(text)
}

fn ids(text: &str, vocabulary: usize) -> anyhow::Result<Vec<u32>> {
    let words = text.split(|c: char| c.is_whitespace() || ",[]".contains(c)).filter(|word| !word.is_empty());
    let ids = words.map(|word| {
        let id: Option<u32> = word.parse().ok().filter(|id| (*id as usize) < vocabulary);
        id.ok_or_else(|| Usage(format!("{word:?} is no token: tokens are numbers below {vocabulary}")).into())
    });
    ids.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_however_they_are_written() {
        assert_eq!(ids("1 2,3\n[4, 5]", 6).unwrap(), [1, 2, 3, 4, 5]);
        assert!(ids("6", 6).is_err() && ids("x", 6).is_err() && ids("-1", 6).is_err());
        assert_eq!(hex(&[0xe2, 0x96]), "<E2><96>");
    }
}
