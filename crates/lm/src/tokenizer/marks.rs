//! Which tokens begin and end what: BOS, EOS, the end of a turn, and the special tokens that are cut out of text.
//!
//! Files say little of this, and old ones say it wrongly; so, as llama.cpp does (`llama_vocab::impl::load`), tokens are
//! also known by their text. Always: every id in [`Marks`] is one of a token.

use super::special::Mark;
use super::vocabulary::{Kind, Model, Vocabulary};
use crate::gguf::metadata::Metadata;
use crate::gguf::value::Value;
use crate::tokenizer::refused::TokenizerError;

/// The tokens with a part to play.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Marks {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) eot: Option<u32>,
    pub(crate) eom: Option<u32>,
    pub(crate) unknown: Option<u32>,
    pub(crate) separator: Option<u32>,
    pub(crate) padding: Option<u32>,
    pub(crate) mask: Option<u32>,
    /// Every token that ends a turn, ascending.
    pub(crate) ends: Vec<u32>,
    pub(crate) adds_bos: bool,
    pub(crate) adds_eos: bool,
    pub(crate) adds_separator: bool,
}

/// Texts of a token that ends a turn, in the order in which one is taken for EOT.
const EOT: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
const EOM: &[&str] = &["<|eom_id|>"];
/// Texts that end a turn and are not taken for EOT.
const ENDS: &[&str] = &[
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "</s>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
];
/// Fill-in-the-middle tokens: the key, the texts, and whether the token ends a turn.
const FILL_IN: [(&str, &[&str], bool); 6] = [
    (
        "tokenizer.ggml.fim_pre_token_id",
        &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
        false,
    ),
    (
        "tokenizer.ggml.fim_suf_token_id",
        &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
        false,
    ),
    (
        "tokenizer.ggml.fim_mid_token_id",
        &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
        false,
    ),
    ("tokenizer.ggml.fim_pad_token_id", &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"], true),
    (
        "tokenizer.ggml.fim_rep_token_id",
        &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
        true,
    ),
    ("tokenizer.ggml.fim_sep_token_id", &["<|file_sep|>"], true),
];
/// Shown in text although the file calls them control: the channels of gpt-oss.
const SHOWN: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

impl Marks {
    /// Finds the marks, and mends the kinds of tokens whose text says what they are.
    pub(crate) fn read(metadata: &Metadata, vocabulary: &mut Vocabulary) -> Result<Marks, TokenizerError> {
        let count = vocabulary.len();
        let id = |key: &'static str, default: Option<u32>| -> Result<Option<u32>, TokenizerError> {
            match metadata.get(key).map(Value::integer) {
                None => Ok(default.filter(|&id| id < count)),
                // Both spellings of "none" stand in real files.
                Some(Some(-1)) => Ok(None),
                Some(Some(found)) if found == i128::from(u32::MAX) => Ok(None),
                Some(Some(found)) => match u32::try_from(found) {
                    Ok(id) if id < count => Ok(Some(id)),
                    _ => Err(TokenizerError::NoSuchToken { key, id: found, count }),
                },
                Some(None) => Ok(metadata.find_u32(key)?),
            }
        };
        // llama.cpp's defaults for files that do not say. For BPE it has 11, which only Falcon means.
        let defaults = match vocabulary.model {
            Model::SentencePiece => [Some(1), Some(2), Some(0), None, None, None],
            Model::Merges => [None; 6],
            Model::WordPiece => [Some(101), None, Some(100), Some(102), Some(0), Some(103)],
        };
        let cls = id("tokenizer.ggml.cls_token_id", None)?.filter(|_| vocabulary.model == Model::WordPiece);
        let mut marks = Marks {
            bos: id("tokenizer.ggml.bos_token_id", cls.or(defaults[0]))?,
            eos: id("tokenizer.ggml.eos_token_id", defaults[1])?,
            eot: id("tokenizer.ggml.eot_token_id", None)?,
            eom: id("tokenizer.ggml.eom_token_id", None)?,
            unknown: id("tokenizer.ggml.unknown_token_id", defaults[2])?,
            // The key is spelled so in llama.cpp.
            separator: id("tokenizer.ggml.seperator_token_id", defaults[3])?,
            padding: id("tokenizer.ggml.padding_token_id", defaults[4])?,
            mask: id("tokenizer.ggml.mask_token_id", defaults[5])?,
            ends: Vec::new(),
            adds_bos: match vocabulary.model {
                Model::SentencePiece | Model::WordPiece => true,
                Model::Merges => vocabulary.known.is_some_and(|known| known.adds_bos),
            },
            adds_eos: false,
            adds_separator: vocabulary.model == Model::WordPiece,
        };
        marks.adds_bos = metadata.find_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(marks.adds_bos);
        marks.adds_eos = metadata.find_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(marks.adds_eos);
        if vocabulary.model == Model::WordPiece {
            // An encoder was never trained without [CLS] and [SEP], whatever its file says.
            (marks.adds_bos, marks.adds_eos) = (true, false);
        }
        // Files of Gemma 4 say false, and the model fails without.
        marks.adds_bos |= vocabulary.pre == "gemma4";

        let mut ends = Vec::new();
        for (key, texts, is_end) in FILL_IN {
            let given = id(key, None)?;
            let found = given.or_else(|| control(vocabulary, texts));
            ends.extend(found.filter(|_| is_end));
        }
        marks.eot = marks.eot.or_else(|| control(vocabulary, EOT));
        marks.eom = marks.eom.or_else(|| control(vocabulary, EOM));
        for text in EOT.iter().chain(EOM).chain(ENDS) {
            ends.extend(control(vocabulary, &[text]));
        }
        for text in SHOWN {
            if let Some(token) = vocabulary.find(text.as_bytes()) {
                vocabulary.kinds[token as usize] = Kind::UserDefined;
            }
        }
        ends.extend([marks.eos, marks.eot, marks.eom].into_iter().flatten());
        ends.sort_unstable();
        ends.dedup();

        let among = |ends: &[u32], text: &str| {
            vocabulary.find(text.as_bytes()).filter(|token| ends.binary_search(token).is_ok())
        };
        // In gpt-oss and Solar, `<|end|>` ends a message and not the turn; in Gemma 4, `</s>` is a word.
        let called = among(&ends, "<|call|>").or(among(&ends, "<|calls|>")).is_some();
        let closed = among(&ends, "<|return|>").or(among(&ends, "<|flush|>")).is_some();
        let not_ends = [
            among(&ends, "<|end|>").filter(|_| called && closed).map(|token| (token, Kind::UserDefined)),
            among(&ends, "</s>")
                .filter(|_| among(&ends, "<|tool_response>").is_some())
                .map(|token| (token, Kind::Normal)),
        ];
        for (token, kind) in not_ends.into_iter().flatten() {
            vocabulary.kinds[token as usize] = kind;
            ends.retain(|&end| end != token);
        }
        marks.ends = ends;
        Ok(marks)
    }
}

/// The first of `texts` that is a token; it is a control token from now on.
fn control(vocabulary: &mut Vocabulary, texts: &[&str]) -> Option<u32> {
    let token = texts.iter().find_map(|text| vocabulary.find(text.as_bytes()))?;
    vocabulary.kinds[token as usize] = Kind::Control;
    Some(token)
}

/// The tokens that are cut out of a text before anything else, and the white space they take.
///
/// Which do is in no GGUF file; llama.cpp knows it by the names of models, and so do we.
pub(crate) fn special(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Vec<Mark>, TokenizerError> {
    let name = metadata.find_string("general.name")?.unwrap_or_default().to_lowercase();
    let architecture = metadata.find_string("general.architecture")?.unwrap_or_default();
    let pre = vocabulary.pre.as_str();
    let phi_3 = name.contains("phi-3") || name.contains("phi3");
    let mask = if ["jina-v2-de", "jina-v2-es", "jina-v2-code"].contains(&pre)
        || ["nomic-bert-moe", "jina-bert-v3"].contains(&architecture)
    {
        vocabulary.find(b"<mask>")
    } else if name.contains("modern-bert") {
        vocabulary.find(b"[MASK]")
    } else {
        None
    };
    let marks = (0..vocabulary.len()).filter_map(|id| {
        let kind = vocabulary.kind(id);
        let text = vocabulary.texts.get(id);
        let is_special = matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown);
        (is_special && !text.is_empty()).then(|| Mark {
            id,
            always: kind == Kind::UserDefined,
            strips_left: mask == Some(id),
            strips_right: phi_3 && ![&b"<unk>"[..], b"<s>", b"<|endoftext|>"].contains(&text),
        })
    });
    Ok(marks.collect())
}
