//! Small vocabularies made here: what each kind of tokenizer does, and what a bad file is told.

use super::*;
use crate::gguf::metadata::MetadataError;
use crate::gguf::value::{Array, Strings, Value};

/// A vocabulary of normal tokens (1), of control (3), user-defined (4), unused (5), byte (6) tokens.
fn metadata(model: &str, tokens: &[(&str, i32)]) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("tokenizer.ggml.model", model);
    let texts: Strings = tokens.iter().map(|(text, _)| *text).collect();
    metadata.set("tokenizer.ggml.tokens", Array::Strings(texts));
    metadata.set("tokenizer.ggml.token_type", Array::I32(tokens.iter().map(|(_, kind)| *kind).collect()));
    metadata
}

/// `<unk>`, `<s>`, `</s>`, 256 bytes, then pieces in the order of their score, then more of other kinds.
fn sentencepiece(more: &[(&str, i32)]) -> Metadata {
    let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
    let mut tokens = vec![("<unk>", 2), ("<s>", 3), ("</s>", 3)];
    tokens.extend(bytes.iter().map(|text| (text.as_str(), 6)));
    let pieces = [
        "he", "ll", "hell", "hello", "▁hello", "▁w", "or", "▁wor", "ld", "▁world", "<s", "▁▁", "▁", "h", "e",
        "l", "o", "w", "r", "d", "<", "s", ">", "▁h",
    ];
    tokens.extend(pieces.map(|piece| (piece, 1)));
    tokens.extend(more);
    let mut metadata = metadata("llama", &tokens);
    // As real files have it: the special ones score best.
    let scores = (0..tokens.len()).map(|token| if token < 259 { 0.0 } else { 259.0 - token as f32 });
    metadata.set("tokenizer.ggml.scores", Array::F32(scores.collect()));
    metadata
}

/// 256 bytes in GPT-2's alphabet, then what merges make, then more of other kinds.
fn byte_level(pre: &str, merges: &[&str], more: &[(&str, i32)]) -> Metadata {
    let bytes: Vec<String> = (0..=u8::MAX).map(|byte| alphabet::character_of(byte).to_string()).collect();
    let made: Vec<String> = merges.iter().map(|merge| merge.replacen(' ', "", 1)).collect();
    let mut tokens: Vec<(&str, i32)> = bytes.iter().chain(&made).map(|text| (text.as_str(), 1)).collect();
    tokens.extend(more);
    let mut metadata = metadata("gpt2", &tokens);
    metadata.set("tokenizer.ggml.pre", pre);
    metadata.set("tokenizer.ggml.merges", Array::Strings(merges.iter().collect()));
    metadata
}

const MERGES: &[&str] =
    &["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d", "Ġwor ld", "Ġ Ġ", "1 2", "12 3"];
const MORE: &[(&str, i32)] =
    &[("<|im_start|>", 3), ("<|im_end|>", 1), ("<tool_call>", 4), ("  ", 4), ("[PAD9]", 5)];

fn texts(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
    tokens.iter().map(|&token| tokenizer.text_of(token).unwrap()).collect::<Vec<_>>().join("|")
}

fn check(tokenizer: &Tokenizer, special: Special, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(texts(tokenizer, &tokenizer.encode(text, special)), *expected, "{text:?}");
    }
}

#[test]
fn sentencepiece_joins_the_best_score_first() {
    let tokenizer = Tokenizer::from_metadata(&sentencepiece(&[])).unwrap();
    check(
        &tokenizer,
        Special::Plain,
        &[
            ("", ""),
            ("hello world", "▁hello|▁world"),
            ("hell", "▁|hell"),
            ("  hello", "▁▁|▁hello"),
            ("hé", "▁h|<0xC3>|<0xA9>"),
            ("<s>hello</s>", "▁|<s|>|hello|<|<0x2F>|s|>"),
            ("\n", "▁|<0x0A>"),
            ("▁world", "▁|▁world"),
        ],
    );
    check(
        &tokenizer,
        Special::Parse,
        &[("<s>hello</s>", "<s>|▁hello|</s>"), ("hello<s> hello", "▁hello|<s>|▁|▁hello")],
    );
    assert_eq!(texts(&tokenizer, &tokenizer.encode_for_model("hello", Special::Plain)), "<s>|▁hello");
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.ends()), (Some(1), Some(2), &[2][..]));
    assert!(tokenizer.adds_bos() && !tokenizer.adds_eos());
    assert_eq!((tokenizer.model(), tokenizer.pre()), (Model::SentencePiece, "default"));
}

#[test]
fn a_file_says_what_is_added() {
    let mut metadata = sentencepiece(&[("<eos>", 3)]);
    metadata.set("tokenizer.ggml.add_bos_token", false);
    metadata.set("tokenizer.ggml.add_eos_token", true);
    metadata.set("tokenizer.ggml.add_space_prefix", false);
    metadata.set("tokenizer.ggml.eos_token_id", 1_u32);
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    assert_eq!(texts(&tokenizer, &tokenizer.encode_for_model("hello", Special::Plain)), "hello|<s>");
    assert_eq!(texts(&tokenizer, &[*tokenizer.ends().last().unwrap()]), "<eos>");
    assert_eq!(tokenizer.decode(&tokenizer.encode(" hello", Special::Plain)), " hello");
}

#[test]
fn phi_3_takes_the_space_after_a_special_token() {
    let mut metadata = sentencepiece(&[("<|end|>", 3), ("<|user|>", 4)]);
    metadata.set("general.name", "Phi-3 mini");
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    check(
        &tokenizer,
        Special::Parse,
        &[("<|user|>\n hello<|end|>\n<s> h", "<|user|>|▁hello|<|end|>|<s>|▁▁|h")],
    );
    check(&tokenizer, Special::Plain, &[("<|user|> hello", "<|user|>|▁hello")]);
}

#[test]
fn merges_are_done_by_rank_within_pieces() {
    let tokenizer = Tokenizer::from_metadata(&byte_level("gpt-2", MERGES, MORE)).unwrap();
    check(
        &tokenizer,
        Special::Plain,
        &[
            ("", ""),
            ("hello world", "hello|Ġworld"),
            ("helloworld", "hello|w|or|ld"),
            ("hello\nworld", "hello|Ċ|w|or|ld"),
            ("12345", "123|4|5"),
            ("é", "Ã|©"),
            ("<|im_start|>", "<|||i|m|_|s|t|a|r|t|||>"),
            ("a   b", "a|  |Ġ|b"),
            ("<tool_call>x", "<tool_call>|x"),
        ],
    );
    check(&tokenizer, Special::Parse, &[("<|im_start|>hello<|im_end|>", "<|im_start|>|hello|<|im_end|>")]);
    // A control token by its text, whatever the file calls it.
    let end = tokenizer.id_of("<|im_end|>").unwrap();
    assert!(tokenizer.is_special(end) && tokenizer.ends() == [end]);
    assert_eq!((tokenizer.eot(), tokenizer.eos(), tokenizer.bos()), (Some(end), None, None));
    assert!(tokenizer.is_user_defined(tokenizer.id_of("<tool_call>").unwrap()));
    // The same answer when the words are known.
    check(&tokenizer, Special::Plain, &[("hello world", "hello|Ġworld")]);
}

#[test]
fn pieces_stay_whole_where_merges_are_ignored() {
    let more = &[("helloworld", 1), ("<|begin_of_text|>", 3)];
    let gpt_2 = Tokenizer::from_metadata(&byte_level("gpt-2", MERGES, more)).unwrap();
    check(&gpt_2, Special::Plain, &[("helloworld", "hello|w|or|ld")]);
    let mut metadata = byte_level("llama-bpe", MERGES, more);
    metadata.set("tokenizer.ggml.bos_token_id", 256 + MERGES.len() as u32 + 1);
    let llama_3 = Tokenizer::from_metadata(&metadata).unwrap();
    check(&llama_3, Special::Plain, &[("helloworld", "helloworld"), ("hello world", "hello|Ġworld")]);
    let tokens = llama_3.encode_for_model("hello", Special::Plain);
    assert_eq!(texts(&llama_3, &tokens), "<|begin_of_text|>|hello");
}

#[test]
fn merges_go_through_symbols_that_are_no_tokens() {
    let mut metadata = byte_level("gpt-2", MERGES, &[]);
    // `xy` is no token, `xyz` is; a second merge of the same pair does not count.
    let merges = ["x y", "xy z", "z z", "z z"];
    metadata.set("tokenizer.ggml.merges", Array::Strings(merges.iter().collect()));
    let Some(Value::Array(Array::Strings(tokens))) = metadata.get("tokenizer.ggml.tokens") else { panic!() };
    let tokens: Strings = tokens.iter().take(256).chain(["xyz"]).collect();
    metadata.set("tokenizer.ggml.tokens", Array::Strings(tokens));
    metadata.set("tokenizer.ggml.token_type", Array::I32(vec![1; 257]));
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    check(
        &tokenizer,
        Special::Plain,
        &[("xyz", "xyz"), ("xy", "x|y"), ("zzz", "z|z|z"), ("axyzz", "a|xyz|z")],
    );
}

#[test]
fn gemma_4_merges_in_sentencepiece_spelling() {
    let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
    let mut tokens: Vec<(&str, i32)> = bytes.iter().map(|text| (text.as_str(), 6)).collect();
    tokens.extend(["<bos>", "<|tool_response>"].map(|text| (text, 3)));
    tokens.extend(["▁", "a", "b", "ab", "▁ab", "\n", "\n\n", "</s>"].map(|text| (text, 1)));
    let mut metadata = metadata("gemma4", &tokens);
    metadata.set("tokenizer.ggml.merges", Array::Strings(["a b", "▁ ab"].iter().collect()));
    metadata.set("tokenizer.ggml.bos_token_id", 256_u32);
    metadata.set("tokenizer.ggml.add_bos_token", false);
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    check(
        &tokenizer,
        Special::Plain,
        &[
            ("ab ab", "ab|▁ab"),
            ("\n\nab\n\n\n", "\n\n|ab|\n|\n|\n"),
            ("é", "<0xC3>|<0xA9>"),
            ("</s>", "<0x3C>|<0x2F>|<0x73>|<0x3E>"),
        ],
    );
    // `</s>` is a word in Gemma 4, so it ends nothing; and BOS is added whatever the file says.
    assert_eq!(texts(&tokenizer, tokenizer.ends()), "<|tool_response>");
    assert!(tokenizer.adds_bos());
    assert_eq!(tokenizer.decode(&tokenizer.encode("ab  é\n\nb", Special::Plain)), "ab  é\n\nb");
}

#[test]
fn wordpiece_takes_the_longest_pieces() {
    let tokens = [
        ("[PAD]", 3),
        ("[UNK]", 2),
        ("[CLS]", 3),
        ("[SEP]", 3),
        ("▁hello", 1),
        ("▁he", 1),
        ("▁un", 1),
        ("aff", 1),
        ("able", 1),
        ("▁!", 1),
        ("▁中", 1),
        ("▁ᄀ", 1),
        ("ᅡ", 1),
        ("▁naive", 1),
    ];
    let mut metadata = metadata("bert", &tokens);
    for (key, id) in [("cls", 2_u32), ("seperator", 3), ("unknown", 1), ("padding", 0)] {
        metadata.set(&format!("tokenizer.ggml.{key}_token_id"), id);
    }
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    check(
        &tokenizer,
        Special::Plain,
        &[
            ("", ""),
            ("Hello unaffable!", "▁hello|▁un|aff|able|▁!"),
            ("hellounaff", "[UNK]"),
            ("naïve NAI\u{308}VE\u{0}", "▁naive|▁naive"),
            ("中中x가", "▁中|▁中|[UNK]"),
            ("가\u{ad}\thello", "▁ᄀ|ᅡ|▁hello"),
            ("able ▁hello he▁un", "[UNK]|[UNK]|[UNK]"),
            (&"a".repeat(1000), "[UNK]"),
        ],
    );
    assert_eq!(texts(&tokenizer, &tokenizer.encode_for_model("hello", Special::Plain)), "[CLS]|▁hello|[SEP]");
    assert_eq!(tokenizer.decode(&tokenizer.encode_for_model("hello unaff", Special::Plain)), "hello unaff");
    metadata.set("tokenizer.ggml.normalizer.lowercase", false);
    let cased = Tokenizer::from_metadata(&metadata).unwrap();
    check(&cased, Special::Plain, &[("Hello hello", "[UNK]|▁hello")]);
}

#[test]
fn what_was_encoded_comes_back() {
    let sentencepiece = Tokenizer::from_metadata(&sentencepiece(&[])).unwrap();
    let byte_level = Tokenizer::from_metadata(&byte_level("llama-bpe", MERGES, MORE)).unwrap();
    for text in ["", "hello world", "  hello ", "grün 🦙\n\t\0", "<s>", "<|im_start|>", "a  b   c"] {
        for tokenizer in [&sentencepiece, &byte_level] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text, Special::Plain)), text);
        }
    }
    let turn = "<|im_start|>user\nhello<|im_end|>";
    let tokens = byte_level.encode(turn, Special::Parse);
    assert_eq!(byte_level.decode(&tokens), "user\nhello");
    assert_eq!(byte_level.decode_with_control(&tokens), turn);
    assert_eq!(byte_level.bytes_of(byte_level.id_of("[PAD9]").unwrap()).len(), 0);
    assert_eq!(byte_level.bytes_of(u32::MAX).len(), 0);
}

#[test]
fn a_stream_never_holds_half_a_character() {
    let tokenizer = Tokenizer::from_metadata(&byte_level("gpt-2", MERGES, MORE)).unwrap();
    let tokens = tokenizer.encode("a🦙é", Special::Plain);
    let mut decoder = tokenizer.decoder();
    let given: Vec<String> = tokens.iter().map(|&token| decoder.push(token).to_owned()).collect();
    assert_eq!(given, ["a", "", "", "", "🦙", "", "é"]);
    assert_eq!(decoder.finish(), "");
    let bytes = |bytes: &[u8]| -> Vec<u32> {
        bytes
            .iter()
            .map(|&byte| tokenizer.id_of(&alphabet::character_of(byte).to_string()).unwrap())
            .collect()
    };
    for broken in [
        &b"\xf0\x9f\xa6"[..],
        b"\xff",
        b"\xf0\x9fx",
        b"\xc3\xc3\xa9",
        b"\xe2\x28\xa1",
        b"\x80\x80",
        b"\xf0\x9f\xf0\x9f\xa6\x99",
    ] {
        assert_eq!(tokenizer.decode(&bytes(broken)), String::from_utf8_lossy(broken), "{broken:?}");
    }
}

#[test]
fn a_continuation_keeps_its_first_blank() {
    let tokenizer = Tokenizer::from_metadata(&sentencepiece(&[])).unwrap();
    let tokens = tokenizer.encode("world", Special::Plain);
    assert_eq!(tokenizer.decoder().push(tokens[0]), " world");
    assert_eq!(tokenizer.decoder().at_start().push(tokens[0]), "world");
    let mut decoder = tokenizer.decoder().at_start().with_control();
    assert_eq!((decoder.push(1).to_owned(), decoder.push(tokens[0])), ("<s>".to_owned(), "world"));
}

#[test]
fn gpt_oss_ends_with_return_and_not_with_end() {
    let more = &[("<|return|>", 3), ("<|call|>", 3), ("<|end|>", 3), ("<|channel|>", 3)];
    let tokenizer = Tokenizer::from_metadata(&byte_level("gpt-4o", MERGES, more)).unwrap();
    assert_eq!(texts(&tokenizer, tokenizer.ends()), "<|return|>|<|call|>");
    assert!(tokenizer.is_user_defined(tokenizer.id_of("<|channel|>").unwrap()));
    let plain = Tokenizer::from_metadata(&byte_level("gpt-4o", MERGES, &more[2..])).unwrap();
    assert_eq!(texts(&plain, plain.ends()), "<|end|>");
}

#[test]
fn a_bad_file_is_told_why() {
    let strings = |texts: &[&str]| Value::Array(Array::Strings(texts.iter().collect()));
    let one = Value::Array(Array::I32(vec![1]));
    let cases = [
        ("model", "t5".into(), "tokenizer model \"t5\" is not supported; supported are llama"),
        ("model", "rwkv".into(), "tokenizer model \"rwkv\" is not supported"),
        (
            "pre",
            "kimi-k2".into(),
            "pre-tokenizer \"kimi-k2\" is not supported; supported are default, gpt-2,",
        ),
        ("tokens", strings(&[]), "the vocabulary has 0 tokens"),
        ("token_type", one, "tokenizer.ggml.token_type has 1 entries for 273 tokens"),
        ("tokens", strings(&["a", "b", "a"]), "tokens 0 and 2 have the same text \"a\""),
        (
            "eos_token_id",
            273_u32.into(),
            "tokenizer.ggml.eos_token_id is 273, but the vocabulary has 273 tokens",
        ),
        ("merges", strings(&["a b", "ab"]), "merge 1 is \"ab\", not two symbols"),
        ("merges", strings(&[" a"]), "merge 0 is \" a\", not two symbols"),
    ];
    for (key, value, expected) in cases {
        let mut metadata = byte_level("gpt-2", MERGES, MORE);
        if key == "tokens" {
            metadata.remove("tokenizer.ggml.token_type");
        }
        metadata.set(&format!("tokenizer.ggml.{key}"), value);
        let told = Tokenizer::from_metadata(&metadata).unwrap_err().to_string();
        assert!(told.starts_with(expected), "{told}");
    }
    let mut metadata = sentencepiece(&[]);
    metadata.set("tokenizer.ggml.scores", Array::F32(vec![0.0]));
    let told = Tokenizer::from_metadata(&metadata).unwrap_err().to_string();
    assert!(told.starts_with("tokenizer.ggml.scores has 1 entries"), "{told}");
    metadata.remove("tokenizer.ggml.tokens");
    assert!(matches!(
        Tokenizer::from_metadata(&metadata),
        Err(TokenizerError::Metadata(MetadataError::Missing { .. }))
    ));
}

#[test]
fn odd_files_that_others_load_are_loaded() {
    // Ids of "none", holes in the vocabulary, no kinds, merges of what is no token, scores that are no numbers.
    let mut metadata = byte_level("gpt-2", MERGES, &[("", 1), ("", 5)]);
    metadata.set("tokenizer.ggml.padding_token_id", u32::MAX);
    metadata.set("tokenizer.ggml.bos_token_id", -1_i32);
    metadata.remove("tokenizer.ggml.token_type");
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    assert_eq!((tokenizer.padding(), tokenizer.bos()), (None, None));
    assert_eq!(tokenizer.text_of(270).map(str::len), None);
    assert_eq!(tokenizer.text_of(269), Some(""));
    assert_eq!(tokenizer.id_of(""), None);
    let mut metadata = sentencepiece(&[]);
    let count = metadata.strings("tokenizer.ggml.tokens").unwrap().len();
    metadata.set("tokenizer.ggml.scores", Array::F32(vec![f32::NAN; count]));
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode("hello world", Special::Plain)), "hello world");
}

#[test]
fn much_of_anything_is_encoded_and_comes_back() {
    let sentencepiece =
        Tokenizer::from_metadata(&sentencepiece(&[("aa", 1), ("aaaa", 1), ("a", 1)])).unwrap();
    let merges = [MERGES, &["a a", "aa aa", "aaaa aaaa", "Ġ a"]].concat();
    let byte_level = Tokenizer::from_metadata(&byte_level("qwen2", &merges, MORE)).unwrap();
    for unit in ["a", " ", "\n", "é", "<s>", "<|im_start|>", " a", "🦙"] {
        let text = unit.repeat((1 << 15) / unit.len());
        for tokenizer in [&sentencepiece, &byte_level] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(&text, Special::Plain)), text, "{unit:?}");
            assert_eq!(
                tokenizer.decode_with_control(&tokenizer.encode(&text, Special::Parse)).is_empty(),
                text.is_empty()
            );
        }
    }
}

proptest::proptest! {
    #[test]
    fn plain_text_never_becomes_a_control_token(text in "(\\PC|<s>|</s>|<\\|im_start\\|>|<\\|im_end\\|>|[ \\n▁])*") {
        let sentencepiece = Tokenizer::from_metadata(&sentencepiece(&[("<s>h", 1)])).unwrap();
        let byte_level = Tokenizer::from_metadata(&byte_level("qwen2", MERGES, MORE)).unwrap();
        for tokenizer in [&sentencepiece, &byte_level] {
            let tokens = tokenizer.encode(&text, Special::Plain);
            proptest::prop_assert!(tokens.iter().all(|&token| !tokenizer.is_special(token)));
            // SentencePiece cannot tell its own sign for a blank from a blank.
            let expected = if tokenizer.model() == Model::SentencePiece { text.replace('▁', " ") } else { text.clone() };
            proptest::prop_assert_eq!(tokenizer.decode(&tokens), expected);
        }
    }
}
