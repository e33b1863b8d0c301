//! The pre-tokenisers that are known, by the name a file gives in `tokenizer.ggml.pre`.
//!
//! The names and what belongs to them are llama.cpp's (`llama_vocab::impl::load`). Where llama.cpp writes a simpler
//! expression than the model's tokenizer.json because its regex engine lacks Unicode classes (gpt-4o, tekken, tiny_aya),
//! the model's own is followed: it is what the model was trained on.

use super::marked::Marked;
use super::runs::{Lead, Run, Set};
use super::words::{Contractions, Letters, Numbers, Tail, Words};
use super::{Digits, Stage};
use crate::tokenizer::class::Class;

/// A pre-tokeniser, and what its name says beside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) stages: &'static [Stage],
    /// A piece that is a token as a whole stays whole, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// Begin with BOS unless the file says otherwise.
    pub(crate) adds_bos: bool,
    /// Blanks are `▁` and bytes `<0x0A>`, as in SentencePiece; else the vocabulary is written in GPT-2's alphabet.
    pub(crate) sentencepiece: bool,
}

/// Every name that [`known`] knows, by family.
pub(crate) const NAMES: &[&[&str]] = &[
    &["default"],
    &[
        "gpt-2",
        "phi-2",
        "mpt",
        "olmo",
        "jais",
        "trillion",
        "granite-docling",
        "exaone4",
        "jina-es",
        "jina-de",
        "jina-v2-es",
        "jina-v2-de",
        "jina-v1-en",
        "jina-v2-code",
        "roberta-bpe",
        "gigachat",
        "a.x-4.0",
        "mellum",
        "modern-bert",
    ],
    &[
        "llama-bpe",
        "llama3",
        "llama-v3",
        "falcon3",
        "falcon-h1",
        "pixtral",
        "midm-2.0",
        "lfm2",
        "jina-v5-nano",
    ],
    &["glm4", "glm5"],
    &["smaug-bpe", "dbrx", "chatglm-bpe"],
    &[
        "qwen2",
        "deepseek-r1-qwen",
        "kormo",
        "f2llmv2",
        "megrez",
        "stablelm2",
        "hunyuan",
        "solar-open",
        "grok-2",
    ],
    &["qwen35"],
    &["ufakzeka"],
    &["laguna"],
    &["bailingmoe", "bailingmoe2", "llada-moe"],
    &["seed-coder"],
    &["exaone-moe"],
    &["minicpm5"],
    &["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"],
    &["falcon"],
    &["deepseek-llm"],
    &["deepseek-coder"],
    &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
    &["spark2_5"],
    &["afmoe"],
    &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
    &["granite-embed-multi-97m"],
    &["tekken"],
    &["tiny_aya", "cohere2moe"],
    &["youtu"],
    &["poro-chat", "bloom", "gpt3-finnish"],
    &["viking"],
    &["superbpe"],
    &["gemma4", "granite-embed-multi-311m"],
    &["sarvam-moe"],
];

/// The pre-tokeniser of a name.
pub(crate) fn known(name: &str) -> Option<Known> {
    let family = NAMES.iter().find(|names| names.contains(&name))?;
    let plain = |stages| Known { stages, ignore_merges: false, adds_bos: false, sentencepiece: false };
    let whole = |stages| Known { ignore_merges: true, ..plain(stages) };
    Some(match family[0] {
        "gpt-2" => plain(GPT_2),
        "llama-bpe" => Known { adds_bos: true, ..whole(LLAMA_3) },
        "glm4" => whole(LLAMA_3),
        "smaug-bpe" => plain(LLAMA_3),
        "qwen2" => plain(QWEN_2),
        "qwen35" => plain(QWEN_35),
        "ufakzeka" => plain(UFAKZEKA),
        "laguna" => plain(LAGUNA),
        "bailingmoe" => plain(QWEN_2),
        "seed-coder" => plain(SEED_CODER),
        "exaone-moe" => plain(EXAONE_MOE),
        "minicpm5" => whole(MINICPM_5),
        "starcoder" => plain(STARCODER),
        "falcon" => plain(FALCON),
        "deepseek-llm" => plain(DEEPSEEK_LLM),
        "deepseek-coder" => plain(DEEPSEEK_CODER),
        "deepseek-v3" => plain(DEEPSEEK_3),
        "spark2_5" => plain(SPARK_2_5),
        "afmoe" => plain(AFMOE),
        "gpt-4o" => plain(GPT_4O),
        "granite-embed-multi-97m" => whole(GPT_4O),
        "tekken" => Known { adds_bos: true, ..whole(TEKKEN) },
        "tiny_aya" => plain(TINY_AYA),
        "youtu" => whole(YOUTU),
        "poro-chat" => plain(PORO),
        "viking" => plain(VIKING),
        "superbpe" => plain(SUPERBPE),
        "gemma4" => Known { adds_bos: true, sentencepiece: true, ..plain(LINES) },
        "sarvam-moe" => Known { sentencepiece: true, ..plain(LINES) },
        _ => plain(DEFAULT),
    })
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
const GPT_2_WORDS: Stage = Stage::Words(Words {
    contractions: Contractions::Lower,
    letters: Letters::Spaced,
    numbers: Numbers::Spaced,
    tail: Tail::None,
    newlines: false,
});

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
const QWEN_2_WORDS: Words = Words {
    contractions: Contractions::AnyCase,
    letters: Letters::Led,
    numbers: Numbers::UpTo(1),
    tail: Tail::Newlines,
    newlines: true,
};

const CASED_WORDS: Words = Words {
    contractions: Contractions::None,
    letters: Letters::Cased { contractions: true },
    numbers: Numbers::UpTo(3),
    tail: Tail::NewlinesAndSlashes,
    newlines: true,
};

const GPT_2: &[Stage] = &[GPT_2_WORDS];
const LLAMA_3: &[Stage] = &[Stage::Words(Words { numbers: Numbers::UpTo(3), ..QWEN_2_WORDS })];
const QWEN_2: &[Stage] = &[Stage::Words(QWEN_2_WORDS)];
const QWEN_35: &[Stage] = &[Stage::Words(Words { letters: Letters::LedWithMarks, ..QWEN_2_WORDS })];
const UFAKZEKA: &[Stage] = &[Stage::Words(Words { contractions: Contractions::None, ..QWEN_2_WORDS })];
const LAGUNA: &[Stage] = &[LINES[0], Stage::Words(QWEN_2_WORDS)];
const SEED_CODER: &[Stage] = &[Stage::Words(Words { tail: Tail::None, ..QWEN_2_WORDS })];
const EXAONE_MOE: &[Stage] =
    &[Stage::Words(Words { letters: Letters::Joined, tail: Tail::NewlineOrSlash, ..QWEN_2_WORDS })];
const MINICPM_5: &[Stage] =
    &[UP_TO_THREE_NUMBERS, Stage::Words(Words { numbers: Numbers::UpTo(usize::MAX), ..QWEN_2_WORDS })];
const STARCODER: &[Stage] = &[EACH_NUMBER, GPT_2_WORDS];
const FALCON: &[Stage] = &[
    Stage::Runs(&[Run::of(Set {
        class: Class::PUNCTUATION,
        ranges: &[('$', '$'), ('+', '+'), ('<', '>'), ('^', '^'), ('`', '`'), ('|', '|'), ('~', '~')],
        except: &[],
        negated: false,
    })]),
    GPT_2_WORDS,
    THREE_DIGITS,
];
const DEFAULT: &[Stage] = &[
    Stage::Runs(&[Run::of(Set {
        class: Class::PUNCTUATION,
        ranges: &[('$', '$'), ('+', '+'), ('<', '>'), ('^', '^'), ('|', '|'), ('~', '~')],
        except: &[],
        negated: false,
    })]),
    GPT_2_WORDS,
    Stage::Runs(&[Run::of(Set::class(Class::NUMBER))]),
    THREE_DIGITS,
];
const DEEPSEEK_LLM: &[Stage] = &[
    EACH_NEWLINE,
    Stage::Runs(&[Run { lead: Lead::Space, ..Run::of(CASED_LETTERS_OF_UNICODE_5) }]),
    Stage::Runs(&[Run {
        lead: Lead::Space,
        ..Run::of(Set::ranges(&[
            ('!', '/'),
            (':', '~'),
            ('！', '／'),
            ('：', '～'),
            ('‘', '‟'),
            ('\u{3000}', '。'),
        ]))
    }]),
    Stage::TrailingSpace,
    IDEOGRAPHS,
    Stage::Runs(&[Run::of(Set::class(Class::NUMBER))]),
];
const DEEPSEEK_CODER: &[Stage] = &[
    EACH_NEWLINE,
    Stage::Runs(&[Run { lead: Lead::Space, ..Run::of(Set::class(Class::LETTER)) }]),
    Stage::Runs(&[Run { lead: Lead::Space, ..Run::of(Set::class(Class::PUNCTUATION)) }]),
    IDEOGRAPHS,
    EACH_NUMBER,
];
const DEEPSEEK_3: &[Stage] =
    &[UP_TO_THREE_NUMBERS, IDEOGRAPHS_AND_KANA, Stage::Marked(Marked { single_newlines: false })];
const SPARK_2_5: &[Stage] =
    &[UP_TO_THREE_NUMBERS, IDEOGRAPHS_AND_KANA, Stage::Marked(Marked { single_newlines: true }), EACH_NUMBER];
const AFMOE: &[Stage] = &[
    Stage::Thousands(Digits::All),
    Stage::Runs(&[Run::of(Set::ranges(&[
        ('\u{4e00}', '\u{9fff}'),
        ('\u{3400}', '\u{4dbf}'),
        ('\u{f900}', '\u{faff}'),
        ('\u{3040}', '\u{30ff}'),
        ('\u{ff65}', '\u{ff9f}'),
        ('\u{2f00}', '\u{2fdf}'),
        ('\u{e40}', '\u{eff}'),
        ('\u{1780}', '\u{17ff}'),
        ('\u{1000}', '\u{109f}'),
        ('\u{aa60}', '\u{aa7f}'),
        ('\u{a9e0}', '\u{a9ff}'),
        ('\u{ac00}', '\u{d7af}'),
        ('\u{1100}', '\u{11ff}'),
    ]))]),
    Stage::Marked(Marked { single_newlines: false }),
];
const GPT_4O: &[Stage] = &[Stage::Words(CASED_WORDS)];
const TEKKEN: &[Stage] = &[Stage::Words(Words {
    letters: Letters::Cased { contractions: false },
    numbers: Numbers::UpTo(1),
    ..CASED_WORDS
})];
const TINY_AYA: &[Stage] = &[Stage::Thousands(Digits::All), Stage::Words(CASED_WORDS)];
const YOUTU: &[Stage] = &[
    Stage::Runs(&[
        Run::of(Set::ranges(&[('가', '힣'), ('ㄱ', 'ㆎ')])),
        Run::of(Set::ranges(&[
            ('！', '！'),
            ('…', '…'),
            ('“', '”'),
            ('‘', '’'),
            ('—', '—'),
            ('：', '；'),
            ('，', '，'),
            ('、', '\u{303f}'),
            ('︰', '﹏'),
        ])),
        Run::of(Set::ranges(&[('ㄅ', 'ㄯ')])),
        Run::of(Set::ranges(IDEOGRAPHS_AND_KANA_RANGES)),
    ]),
    Stage::Words(Words { numbers: Numbers::UpTo(1), ..CASED_WORDS }),
];
const PORO: &[Stage] = &[Stage::Runs(&[Run {
    lead: Lead::Blank,
    ..Run::of(Set {
        class: Class::SPACE,
        // Written `[^(\s|.,!?…。，、।۔،)]`: the bracket and the bar are meant as groups, but are characters.
        ranges: &[
            ('(', ')'),
            ('|', '|'),
            ('.', '.'),
            (',', ','),
            ('!', '!'),
            ('?', '?'),
            ('…', '…'),
            ('。', '。'),
            ('，', '，'),
            ('、', '、'),
            ('।', '।'),
            ('۔', '۔'),
            ('،', '،'),
        ],
        except: &[],
        negated: true,
    })
}])];
const VIKING: &[Stage] = &[PORO[0], EACH_NUMBER];
const SUPERBPE: &[Stage] =
    &[Stage::Runs(&[Run::of(Set::class(Class::NUMBER))]), Stage::Thousands(Digits::Ascii)];
/// `[^\n]+|[\n]+`
const LINES: &[Stage] = &[Stage::Runs(&[
    Run::of(Set { negated: true, ..Set::ranges(&[('\n', '\n')]) }),
    Run::of(Set::ranges(&[('\n', '\n')])),
])];

/// `\p{N}`
const EACH_NUMBER: Stage = Stage::Runs(&[Run { most: 1, ..Run::of(Set::class(Class::NUMBER)) }]);
/// `\p{N}{1,3}`
const UP_TO_THREE_NUMBERS: Stage = Stage::Runs(&[Run { most: 3, ..Run::of(Set::class(Class::NUMBER)) }]);
/// `[0-9][0-9][0-9]`
const THREE_DIGITS: Stage = Stage::Runs(&[Run { least: 3, most: 3, ..Run::of(Set::ranges(&[('0', '9')])) }]);
/// `[\r\n]`
const EACH_NEWLINE: Stage = Stage::Runs(&[Run { most: 1, ..Run::of(Set::class(Class::NEWLINE)) }]);
/// `[一-龥ࠀ-一가-퟿]+`
const IDEOGRAPHS: Stage = Stage::Runs(&[Run::of(Set::ranges(&[('\u{800}', '龥'), ('가', '\u{d7ff}')]))]);
const IDEOGRAPHS_AND_KANA_RANGES: &[(char, char)] = &[('一', '龥'), ('\u{3040}', '\u{30ff}')];
/// `[一-龥぀-ゟ゠-ヿ]+`
const IDEOGRAPHS_AND_KANA: Stage = Stage::Runs(&[Run::of(Set::ranges(IDEOGRAPHS_AND_KANA_RANGES))]);

/// The letters that DeepSeek-LLM's expression spells out one by one: those with case, but for these, of which most came
/// to Unicode later.
const CASED_LETTERS_OF_UNICODE_5: Set = Set {
    except: &[
        ('\u{560}', '\u{588}'),
        ('\u{10c7}', '\u{10ff}'),
        ('\u{1c80}', '\u{1c8a}'),
        ('\u{2d00}', '\u{2d2d}'),
        ('\u{a790}', '\u{a7ff}'),
        ('\u{ab30}', '\u{ab68}'),
        ('\u{10570}', '\u{105ff}'),
        ('\u{10d40}', '\u{10d8f}'),
        ('\u{16e40}', '\u{16eff}'),
        ('\u{1d400}', '\u{1dfff}'),
    ],
    ..Set::class(Class::UPPER.or(Class::LOWER))
};
