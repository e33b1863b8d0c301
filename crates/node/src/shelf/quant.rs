//! Finds the quantisation in a model file's name: `SmolLM2-135M-Instruct-Q4_K_M.gguf` → `q4_k_m`.
//!
//! A name is all that a repository's listing gives; what the file really holds is in its header. Pure.

use std::ops::Range;

/// Labels that are no `q` and digits.
const WORDS: [&str; 8] = ["f32", "f16", "bf16", "fp32", "fp16", "mxfp4", "mxfp4_moe", "nvfp4"];

/// What may follow `q4` or `iq4`, each after an underscore.
const PARTS: [&str; 16] =
    ["0", "1", "2", "4", "8", "k", "s", "m", "l", "xs", "xxs", "xl", "nl", "kt", "ks", "kl"];

/// The label in a file's stem (its name without folder and `.gguf`), in lower case, and where it stands. Of several the
/// last counts: names end with it. `ud-` in front belongs to it, because a repository may have both kinds.
pub fn find(stem: &str) -> Option<(String, Range<usize>)> {
    let lower = stem.to_ascii_lowercase();
    let bytes = lower.as_bytes();
    let is_edge = |at: usize| matches!(bytes.get(at), None | Some(b'-' | b'.' | b'_'));
    let mut found = None;
    let mut at = 0;
    while at < bytes.len() {
        let begins = at == 0 || is_edge(at - 1);
        let len = if begins && lower.is_char_boundary(at) { label_len(&lower[at..]) } else { 0 };
        if len > 0 && is_edge(at + len) {
            let from = if lower[..at].ends_with("ud-") && (at == 3 || is_edge(at - 4)) { at - 3 } else { at };
            found = Some(from..at + len);
            at += len;
        } else {
            at += 1;
        }
    }
    found.map(|range| (lower[range.clone()].to_owned(), range))
}

/// How many bytes at the beginning of `text` are a label; 0: none.
fn label_len(text: &str) -> usize {
    let run = text.find(|c: char| c == '-' || c == '.').unwrap_or(text.len());
    let run = &text[..run];
    if let Some(word) = WORDS
        .iter()
        .rev()
        .find(|word| run.strip_prefix(**word).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')))
    {
        return word.len();
    }
    let mut pieces = run.split('_');
    let first = pieces.next().unwrap_or_default();
    let digits = first.strip_prefix("iq").or(first.strip_prefix("tq")).or(first.strip_prefix('q'));
    if !digits.is_some_and(|digits| matches!(digits.as_bytes(), [b'1'..=b'8'])) {
        return 0;
    }
    let parts: usize = pieces.take_while(|piece| PARTS.contains(piece)).map(|piece| piece.len() + 1).sum();
    // `q4` alone is in use; `iq4` and `q1` alone are no labels.
    if parts == 0 && !(first.starts_with('q') && first != "q1") { 0 } else { first.len() + parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_in_names_of_real_files() {
        fn check(stem: &str, expected: Option<&str>) {
            assert_eq!(find(stem).map(|(label, _)| label).as_deref(), expected, "{stem}");
        }
        check("SmolLM2-135M-Instruct-Q4_K_M", Some("q4_k_m"));
        check("llama-2-7b.Q4_K_M", Some("q4_k_m"));
        check("model_q8_0", Some("q8_0"));
        check("stories260K-q5_1", Some("q5_1"));
        check("Phi-3-mini-4k-instruct-q4", Some("q4"));
        check("Phi-3-mini-4k-instruct-fp16", Some("fp16"));
        check("gemma-3-1b-it-BF16", Some("bf16"));
        check("Qwen3-4B-UD-Q4_K_XL", Some("ud-q4_k_xl"));
        check("Qwen3-4B-IQ3_XXS", Some("iq3_xxs"));
        check("Q4_0_4_8", Some("q4_0_4_8"));
        check("bitnet-TQ2_0", Some("tq2_0"));
        check("gpt-oss-20b-MXFP4", Some("mxfp4"));
        check("ggml-model-q4_0-imat-Q6_K", Some("q6_k"));
        check("iq4", None);
        check("q9_0", None);
        check("faq4_0", None);
        check("stories260K", None);
        check("Größe-Q4_0", Some("q4_0"));
        check("", None);
    }
}
