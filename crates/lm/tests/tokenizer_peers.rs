//! Random texts, tokenised here and by other engines: llama.cpp for the same file, `tokenizers` for the expressions.
//!
//! Runs where `SELVEDGE_PYTHON` names a Python with the packages; `SELVEDGE_TEXTS` says how many texts (default 300).
//! The texts are those that go wrong: scripts mixed, marks on anything, runs of blanks and newlines, contractions in
//! every case, numbers of any length, control characters, special tokens within.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test says what it skips")]

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lm::gguf::Gguf;
use lm::tokenizer::Tokenizer;
use lm::tokenizer::special::Special;
use lm::tokenizer::vocabulary::Model;
use unicode_general_category::{GeneralCategory, get_general_category};

/// splitmix64: texts must be the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % count as u64) as usize
    }
}

const FRAGMENTS: &[&str] = &[
    " ",
    "  ",
    "   ",
    "     ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    " \n",
    "\n ",
    "\t\t",
    "\u{a0}",
    "\u{3000}",
    "\u{2003}",
    "\u{200b}",
    "'s",
    "'S",
    "'t",
    "'T",
    "'re",
    "'RE",
    "'Re",
    "'ve",
    "'VE",
    "'m",
    "'ll",
    "'LL",
    "'lL",
    "'d",
    "'D",
    "'",
    "''",
    "’s",
    "the",
    "Hello",
    "hello",
    "WORLD",
    "CamelCase",
    "snake_case",
    "HTTPServer",
    "aB",
    "ABc",
    "I",
    "a",
    "naïve",
    "Äpfel",
    "straße",
    "ÉCOLE",
    "école",
    "ПРИВЕТ",
    "привет",
    "Мир",
    "приветМИР",
    "ΑΒΓ",
    "αβγς",
    "Ωmega",
    "İstanbul",
    "ǅ",
    "ŉ",
    "日本語",
    "中文",
    "我想在apple工作",
    "カタカナ",
    "ひらがな",
    "한국어",
    "가나다",
    "हिन्दी",
    "नमस्ते",
    "ไทย",
    "العربية",
    "عَرَبِيّ",
    "עברית",
    "ქართული",
    "ႠႡ",
    "հայ",
    "ꭰꮃ",
    "ᏣᎳᎩ",
    "កាន់តែ",
    "ꟺ",
    "ｆｕｌｌ",
    "ⅷ",
    "ﬁ",
    "ʰ",
    "ª",
    "é",
    "e\u{301}",
    "a\u{300}\u{301}",
    "\u{301}",
    "\u{308}x",
    "\u{93e}",
    "\u{20dd}",
    "o\u{327}\u{302}",
    "😀",
    "👨\u{200d}👩\u{200d}👧",
    "🇩🇪",
    "👍🏽",
    "🦙",
    "☃\u{fe0f}",
    "∑",
    "→",
    "©",
    "№",
    "0",
    "1",
    "12",
    "123",
    "1234",
    "12345",
    "1234567",
    "3.14",
    "1,000",
    "1e9",
    "٣٤",
    "½",
    "²",
    "Ⅷ",
    "१२३",
    "０１",
    ".",
    "..",
    "...",
    ",",
    "!",
    "?",
    "!!!",
    "?!",
    "(",
    ")",
    "[]",
    "{}",
    "<",
    ">",
    "</",
    "/>",
    "/",
    "//",
    "\\",
    "|",
    "||",
    "=",
    "==",
    "===",
    "+",
    "-",
    "--",
    "_",
    "__",
    "`",
    "```",
    "~",
    "^",
    "$",
    "%",
    "&",
    "*",
    "#",
    "##",
    "@",
    "\"",
    ":",
    ";",
    "。",
    "，",
    "！",
    "、",
    "「",
    "」",
    "…",
    "—",
    "“",
    "”",
    "«",
    "¿",
    "।",
    "،",
    "\0",
    "\u{1}",
    "\u{7f}",
    "\u{ad}",
    "\u{fffd}",
    "\u{e000}",
    "\u{378}",
    "\u{10ffff}",
    "\u{feff}",
    "▁",
    "▁▁",
    "Ġ",
    "Ċ",
    "<0x0A>",
    "fn main() {\n    println!(\"{}\");\n}",
    "https://example.com/a?b=c",
    "user@example.com",
    "<b>",
    "\r",
    "\n/",
    "\n\n\n\n",
];

/// Blocks that have not grown since Unicode 15: the engines' tables are of different years.
const BLOCKS: &[(u32, u32)] = &[
    (0x3000, 0x9fff),
    (0xa000, 0xa700),
    (0xabc0, 0xd7ff),
    (0xf900, 0xfffe),
    (0x10000, 0x1056f),
    (0x1d000, 0x1d7ff),
    (0x1f300, 0x1f5ff),
    (0x20000, 0x2a6df),
];

fn text(chance: &mut Chance, special: &[&str], skip: fn(char) -> bool) -> String {
    let mut text = String::new();
    for _ in 0..chance.below(14) {
        match chance.below(40) {
            0 if !special.is_empty() => text.push_str(special[chance.below(special.len())]),
            1 => text.extend(char::from_u32(chance.below(0x3000) as u32)),
            2 => {
                let (first, last) = BLOCKS[chance.below(BLOCKS.len())];
                text.extend(char::from_u32(first + chance.below((last - first) as usize) as u32));
            }
            3 => {
                let letter = FRAGMENTS[chance.below(FRAGMENTS.len())].chars().next();
                text.extend(std::iter::repeat_n(letter.unwrap_or(' '), chance.below(60)));
            }
            _ => text.push_str(FRAGMENTS[chance.below(FRAGMENTS.len())]),
        }
    }
    text.retain(|character| !skip(character));
    text
}

fn count() -> usize {
    std::env::var("SELVEDGE_TEXTS").ok().and_then(|count| count.parse().ok()).unwrap_or(300)
}

fn shared() -> PathBuf {
    std::env::var_os("SELVEDGE_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from)
}

/// The vocabularies at hand, by path.
fn vocabularies() -> Vec<PathBuf> {
    let more = std::env::var_os("SELVEDGE_VOCABULARIES").map(PathBuf::from);
    let folders = [Some(shared().join("vocab-gguf")), more].into_iter().flatten();
    let files = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "gguf"));
    files.sort_by_key(|path| path.file_name().map(std::ffi::OsStr::to_owned));
    files.dedup_by_key(|path| path.file_name().map(std::ffi::OsStr::to_owned));
    files
}

/// What llama.cpp says of the tokens: the bytes of each, and which end a turn. `None`: it is not there.
fn ask_tokens(path: &Path) -> Option<(Vec<String>, Vec<u32>)> {
    let python = std::env::var_os("SELVEDGE_PYTHON")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/tokenise.py");
    let output = Command::new(python).arg(script).arg("llama-tokens").arg(path).output().unwrap();
    if output.status.code() == Some(3) {
        return None;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn shared_data_tokens_have_the_bytes_that_llama_cpp_gives() {
    for path in vocabularies() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let Ok(tokenizer) = tokenizer(&path, None) else { continue };
        let Some((pieces, ends)) = ask_tokens(&path) else {
            return skipped("tokens as llama.cpp has them", "xllamacpp");
        };
        assert_eq!(pieces.len(), tokenizer.vocabulary_size(), "{name}");
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let different: Vec<u32> = (0..)
            .zip(&pieces)
            // llama.cpp writes `[UNK_BYTE_0x…]` for what is not of GPT-2's alphabet: emoji that Command-R added.
            .filter(|(_, piece)| !piece.contains(&hex(b"[UNK_BYTE_0x")))
            .filter(|&(token, piece)| hex(&tokenizer.bytes_of(token)) != *piece)
            .map(|(token, _)| token)
            .collect();
        println!("{name}: {} of {} tokens differ, ends {ends:?}", different.len(), pieces.len());
        assert_eq!(tokenizer.ends(), ends, "{name}");
        let shown: Vec<_> = different
            .iter()
            .take(9)
            .map(|&token| (token, tokenizer.text_of(token), &pieces[token as usize]))
            .collect();
        assert!(different.is_empty(), "{name}: {shown:?}");
    }
}

/// What the other engine says, a list of ids for each text. `None`: it is not there.
fn ask(arguments: &[&str], texts: &[(String, bool)]) -> Option<Vec<Vec<u32>>> {
    let python = std::env::var_os("SELVEDGE_PYTHON")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/tokenise.py");
    let mut child = Command::new(python)
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = BufWriter::new(child.stdin.take().unwrap());
    let lines: Vec<String> = texts
        .iter()
        .map(|(text, special)| serde_json::json!({"text": text, "special": special}).to_string())
        .collect();
    let writer = std::thread::spawn(move || {
        // A peer that is not there closes its end.
        let _ = lines.iter().try_for_each(|line| writeln!(input, "{line}"));
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    if output.status.code() == Some(3) {
        return None;
    }
    assert!(output.status.success(), "{arguments:?}: {}", output.status);
    let ids: Vec<Vec<u32>> = output
        .stdout
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(ids.len(), texts.len(), "{arguments:?}");
    Some(ids)
}

/// Compares on random texts; gives the number of those that differ, and says the first few.
fn compare(
    name: &str,
    tokenizer: &Tokenizer,
    arguments: &[&str],
    special: &[&str],
    skip: fn(char) -> bool,
) -> Option<usize> {
    let mut chance = Chance(name.len() as u64);
    let texts: Vec<(String, bool)> = (0..count())
        .map(|_| (text(&mut chance, special, skip), !special.is_empty() && chance.below(2) == 0))
        .collect();
    // llama.cpp has no longest word, BERT's tokenizer has: 100 characters.
    let has_long_word = |text: &str| text.split_whitespace().any(|word| word.chars().count() > 100);
    let bert = tokenizer.model() == Model::WordPiece && arguments[0] == "llama";
    let texts: Vec<(String, bool)> =
        texts.into_iter().filter(|(text, _)| !bert || !has_long_word(text)).collect();
    let theirs = ask(arguments, &texts)?;
    let mut different = 0;
    for ((text, parse), theirs) in texts.iter().zip(theirs) {
        let ours = tokenizer.encode(text, if *parse { Special::Parse } else { Special::Plain });
        if ours != theirs {
            different += 1;
            if different <= 3 {
                let at = ours
                    .iter()
                    .zip(&theirs)
                    .position(|(a, b)| a != b)
                    .unwrap_or(ours.len().min(theirs.len()));
                let near = |ids: &[u32]| {
                    ids.iter()
                        .skip(at.saturating_sub(2))
                        .take(6)
                        .map(|&id| format!("{id} {:?}", tokenizer.text_of(id)))
                        .collect::<Vec<_>>()
                };
                println!("{name} {parse} {text:?}\n  ours   {:?}\n  theirs {:?}", near(&ours), near(&theirs));
            }
        }
    }
    println!("{name}: {different} of {} differ", texts.len());
    Some(different)
}

fn tokenizer(path: &Path, pre: Option<&str>) -> Result<Tokenizer, String> {
    let gguf = Gguf::open(path).unwrap();
    let mut metadata = gguf.metadata().clone();
    if let Some(pre) = pre {
        metadata.set("tokenizer.ggml.pre", pre);
    }
    Tokenizer::from_metadata(&metadata).map_err(|error| error.to_string())
}

fn special_texts(tokenizer: &Tokenizer) -> Vec<&str> {
    let ids = 0..tokenizer.vocabulary_size() as u32;
    ids.filter(|&id| tokenizer.is_special(id) || tokenizer.is_user_defined(id))
        .filter_map(|id| tokenizer.text_of(id))
        .take(400)
        .collect()
}

#[test]
fn shared_data_vocabularies_agree_with_llama_cpp() {
    let mut failures = Vec::new();
    for path in vocabularies() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let tokenizer = match tokenizer(&path, None) {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                println!("{name}: refused: {error}");
                continue;
            }
        };
        let special = special_texts(&tokenizer);
        let skip = if tokenizer.model() == Model::WordPiece { not_bert_in_llama_cpp } else { no_character };
        let skip = if tokenizer.pre().starts_with("deepseek") { wide_space } else { skip };
        match compare(&name, &tokenizer, &["llama", path.to_str().unwrap()], &special, skip) {
            None => return skipped("agreement with llama.cpp", "xllamacpp"),
            Some(0) => {}
            Some(different) => failures.push(format!("{name}: {different}")),
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

fn skipped(what: &str, package: &str) {
    println!("skipped: {what}: SELVEDGE_PYTHON names no Python with {package}");
}

/// llama.cpp's engine turns these into tabs before it looks for ranges that hold them.
fn wide_space(character: char) -> bool {
    !character.is_ascii() && character.is_whitespace()
}

fn no_character(_: char) -> bool {
    false
}

/// Where llama.cpp takes another way than BERT's own tokenizer: letters that decompose into more than one, marks that
/// take room, white space that is a control character, a blank's sign in the text.
fn not_bert_in_llama_cpp(character: char) -> bool {
    matches!(character, '▁' | '\u{ac00}'..='\u{d7a3}' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1f}' | '\u{85}')
        || matches!(
            get_general_category(character),
            GeneralCategory::SpacingMark | GeneralCategory::EnclosingMark
        )
}

/// Every pre-tokenizer on one vocabulary, against llama.cpp where that has the model's own expression, and against
/// `tokenizers` for all that have one there.
#[test]
fn shared_data_pre_tokenizers_agree_with_others() {
    let path = shared().join("vocab-gguf/ggml-vocab-gpt-2.gguf");
    if !path.exists() {
        println!("skipped: pre-tokenizers: no shared data");
        return;
    }
    let path_text = path.to_str().unwrap();
    let mut failures = Vec::new();
    let mut check = |engine: &str, pre: &str, skip: fn(char) -> bool| -> bool {
        let tokenizer = tokenizer(&path, Some(pre)).unwrap();
        // The engines differ in which special tokens there are, which is not what is asked here.
        match compare(&format!("{engine} {pre}"), &tokenizer, &[engine, path_text, pre], &[], skip) {
            None => return false,
            Some(0) => {}
            Some(different) => failures.push(format!("{engine} {pre}: {different}")),
        }
        true
    };
    for pre in LIKE_LLAMA_CPP {
        if !check("llama", pre, if pre.starts_with("deepseek") { wide_space } else { no_character }) {
            return skipped("agreement with llama.cpp", "xllamacpp");
        }
    }
    for pre in LIKE_TOKENIZERS {
        if !check("tokenizers", pre, no_character) {
            return skipped("agreement with tokenizers", "tokenizers and gguf");
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

/// All but gpt-4o, tekken and their like, which llama.cpp writes in simpler expressions, and afmoe, where it leaves
/// what stands before a number in the number's piece.
const LIKE_LLAMA_CPP: &[&str] = &[
    "default",
    "gpt-2",
    "llama-bpe",
    "glm4",
    "smaug-bpe",
    "qwen2",
    "qwen35",
    "ufakzeka",
    "laguna",
    "bailingmoe",
    "seed-coder",
    "exaone-moe",
    "minicpm5",
    "starcoder",
    "falcon",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "spark2_5",
    "poro-chat",
    "viking",
    "superbpe",
];
const LIKE_TOKENIZERS: &[&str] = &[
    "default",
    "gpt-2",
    "llama-bpe",
    "glm4",
    "smaug-bpe",
    "qwen2",
    "qwen35",
    "ufakzeka",
    "laguna",
    "bailingmoe",
    "seed-coder",
    "exaone-moe",
    "minicpm5",
    "starcoder",
    "falcon",
    "deepseek-coder",
    "deepseek-v3",
    "spark2_5",
    "gpt-4o",
    "granite-embed-multi-97m",
    "tekken",
    "youtu",
    "poro-chat",
    "viking",
];

#[test]
fn shared_data_minilm_agrees_with_its_own_tokenizer() {
    let folder = shared().join("minilm");
    let (model, own) = (folder.join("all-MiniLM-L6-v2-q8_0.gguf"), folder.join("tokenizer.json"));
    if !model.exists() || !own.exists() {
        println!("skipped: MiniLM: no shared data");
        return;
    }
    let tokenizer = tokenizer(&model, None).unwrap();
    // The crate that `tokenizers` asks for marks and punctuation knows Unicode 8: no characters but those above.
    let newer = |character| !FRAGMENTS.iter().any(|fragment| fragment.contains(character));
    match compare("MiniLM", &tokenizer, &["tokenizers", own.to_str().unwrap()], &[], newer) {
        None => skipped("MiniLM's own tokenizer", "tokenizers"),
        Some(different) => assert_eq!(different, 0),
    }
}
