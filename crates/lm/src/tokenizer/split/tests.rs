//! Pieces of texts, by pre-tokeniser; and what always holds of them.

use super::known::{NAMES, known};
use super::*;

fn pieces(pre: &str, text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    split(known(pre).unwrap().stages, text, &mut |piece| pieces.push(piece.to_owned()));
    pieces
}

/// Each case: the pieces with a bar between; the text is what they are together.
fn check(pre: &str, cases: &[&str]) {
    for case in cases {
        assert_eq!(pieces(pre, &case.replace('|', "")).join("|"), *case, "{pre}");
    }
}

#[test]
fn words_as_gpt_2_cuts_them() {
    check(
        "gpt-2",
        &[
            "",
            "Hello| world|!",
            "I|'ve| 12345| apples|'|S| I|'ll| we|'re",
            "a|  | b|   ",
            "x|\n\n|\n|y|\r\n",
            " \n| z",
            " ...?!|中文|１２½",
        ],
    );
}

#[test]
fn words_as_llama_3_cuts_them() {
    check(
        "llama-bpe",
        &[
            "Hello| world|!",
            "(hello| ('|world|.\n\n|x",
            "I|'VE| |123|45| ''|tis",
            "a|  | b|  \n\n|  | c| \t|\td|  ",
            "ée|\u{301}é",
        ],
    );
}

#[test]
fn numbers_and_marks_as_others_cut_them() {
    check("qwen2", &["x| |1|2|3", "e|\u{301}x|'D"]);
    check("qwen35", &["e\u{301}x| |1|2", "हिन्दी| नमस्ते"]);
    check("starcoder", &["x| |1|2|3| '|a", " |1"]);
    check("falcon", &["a|!?<=>| b| |123|45"]);
    check("deepseek-v3", &["123|4|中文かな|.foo| bar|!?\n\n|\t|\tx"]);
    check("superbpe", &["a b |1|234|567| c"]);
    check("afmoe", &["12|345|.", " |1| |12|x"]);
    check("tiny_aya", &["1|234|foo|Bar"]);
    check("exaone-moe", &["the quick brown| |1| fox|  | b"]);
    check("gemma4", &["a b\tc|\n\n|d"]);
    check("deepseek-llm", &["foo| bar|!|\n|中文| |12"]);
}

#[test]
fn words_that_begin_where_their_case_rises() {
    check(
        "gpt-4o",
        &[
            "Camel|Case|HTTPServer's| I've",
            "don't|'T| don'T|Xyz",
            "中|ABC| 中文abc|ABC中",
            "привет|МИР| Привет",
            "e\u{301}|X\u{301}XAb",
            "a|//\n/|b| |123|4",
        ],
    );
    check("tekken", &["Camel|Case|'s| |1|2|中|ABC"]);
}

#[test]
fn pieces_are_the_text_and_hostile_texts_take_no_time() {
    let length = 1 << 13;
    let mut hostile: Vec<String> = [
        "a",
        "A",
        " ",
        "\n",
        "\t",
        "1",
        "!",
        "'",
        "中",
        "\u{301}",
        "\0",
        "a ",
        " \n ",
        "A中",
        "\u{301}A",
        "'s",
        "\u{3000}",
        "\u{2003} ",
    ]
    .iter()
    .map(|unit| unit.repeat(length / unit.len()))
    .collect();
    hostile.push(format!("{}x", " ".repeat(length)));
    hostile.push(format!("{}\u{301}", "A".repeat(length)));
    for pre in NAMES.iter().map(|names| names[0]) {
        for text in &hostile {
            let mut at = 0;
            split(known(pre).unwrap().stages, text, &mut |piece| {
                assert!(!piece.is_empty() && text[at..].starts_with(piece), "{pre}");
                at += piece.len();
            });
            assert_eq!(at, text.len(), "{pre}");
        }
    }
}

#[test]
fn every_name_is_known_once() {
    let mut names: Vec<&str> = NAMES.iter().flat_map(|names| names.iter()).copied().collect();
    assert!(names.iter().all(|name| known(name).is_some()));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(known("kimi-k2").is_none() && known("").is_none());
}

proptest::proptest! {
    #[test]
    fn pieces_are_the_text(text in "(\\PC|[ \\t\\r\\n'0-9A-Za-z\u{300}中])*") {
        for pre in NAMES.iter().map(|names| names[0]) {
            let pieces = pieces(pre, &text);
            proptest::prop_assert_eq!(pieces.concat(), text.as_str(), "{}", pre);
            proptest::prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
        }
    }
}
