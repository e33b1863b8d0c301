//! A vocabulary and a text from a stranger: an error or tokens of the vocabulary, and text again. What a user writes
//! never becomes a control token, and a stream of tokens decodes as all of them at once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lm::gguf::metadata::Metadata;
use lm::gguf::value::{Array, Strings};
use lm::tokenizer::Tokenizer;
use lm::tokenizer::special::Special;

const MODELS: [&str; 5] = ["llama", "gpt2", "bert", "gemma4", "t5"];
const PRE: [&str; 16] = [
    "default",
    "gpt-2",
    "llama-bpe",
    "qwen2",
    "qwen35",
    "gpt-4o",
    "tekken",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "falcon",
    "superbpe",
    "exaone-moe",
    "afmoe",
    "gemma4",
    "youtu",
];
/// Tokens that mean something by their text; a token text of one control character picks one.
const KNOWN: [&str; 16] = [
    "<|im_end|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
    "</s>",
    "<|tool_response>",
    "<eos>",
    "<unk>",
    "▁",
    "▁▁",
    "Ġ",
    "<0x0A>",
    "<0x41>",
    "[PAD]",
    "  ",
    "Ċ",
];

type Input = (u8, u8, u8, Vec<(String, u8, i8)>, Vec<(String, String)>, [u8; 4], String);

fuzz_target!(|input: Input| {
    let (model, pre, flags, tokens, merges, ids, text) = input;
    let name = |text: &str| match text.as_bytes() {
        [byte] if *byte < 32 => KNOWN[usize::from(*byte) % KNOWN.len()].to_owned(),
        _ => text.to_owned(),
    };
    let mut metadata = Metadata::new();
    metadata.set("tokenizer.ggml.model", MODELS[usize::from(model) % MODELS.len()]);
    metadata.set("tokenizer.ggml.pre", PRE[usize::from(pre) % PRE.len()]);
    let texts: Strings = tokens.iter().map(|(text, _, _)| name(text)).collect();
    metadata.set("tokenizer.ggml.tokens", Array::Strings(texts));
    let kinds = tokens.iter().map(|(_, kind, _)| i32::from(kind % 8)).collect();
    metadata.set("tokenizer.ggml.token_type", Array::I32(kinds));
    let scores =
        tokens.iter().map(|(_, _, score)| if *score == 0 { f32::NAN } else { f32::from(*score) }).collect();
    metadata.set("tokenizer.ggml.scores", Array::F32(scores));
    let merges: Strings =
        merges.iter().map(|(left, right)| format!("{} {}", name(left), name(right))).collect();
    metadata.set("tokenizer.ggml.merges", Array::Strings(merges));
    for (key, id) in ["bos", "eos", "unknown", "seperator"].iter().zip(ids) {
        metadata.set(&format!("tokenizer.ggml.{key}_token_id"), u32::from(id));
    }
    metadata.set("tokenizer.ggml.add_bos_token", flags & 1 != 0);
    metadata.set("tokenizer.ggml.add_eos_token", flags & 2 != 0);
    metadata.set("tokenizer.ggml.add_space_prefix", flags & 4 != 0);
    metadata.set("general.name", if flags & 8 != 0 { "phi-3" } else { "x" });
    let tokenizer = match Tokenizer::from_metadata(&metadata) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let size = tokenizer.vocabulary_size() as u32;
    assert!(tokenizer.ends().iter().all(|&end| end < size));
    for special in [Special::Plain, Special::Parse] {
        let tokens = tokenizer.encode(&text, special);
        assert!(tokens.iter().all(|&token| token < size));
        assert_eq!(tokens, tokenizer.encode(&text, special));
        if special == Special::Plain {
            let unknown = tokenizer.unknown();
            assert!(tokens.iter().all(|&token| !tokenizer.is_special(token) || Some(token) == unknown));
        }
        let bytes: Vec<u8> = tokens
            .iter()
            .filter(|&&token| !tokenizer.is_special(token))
            .flat_map(|&token| tokenizer.bytes_of(token).into_owned())
            .collect();
        let mut decoder = tokenizer.decoder();
        let mut streamed: String = tokens.iter().map(|&token| decoder.push(token).to_owned()).collect();
        streamed.push_str(decoder.finish());
        assert_eq!(streamed, String::from_utf8_lossy(&bytes));
        assert!(tokenizer.encode_for_model(&text, special).len() >= tokens.len());
        let _ = tokenizer.decode_with_control(&tokens);
    }
});
