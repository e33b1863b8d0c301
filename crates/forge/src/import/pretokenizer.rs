//! Which of llama.cpp's pre-tokenisers a tokenizer.json describes: how text is cut into words before pairs are joined.
//!
//! llama.cpp's converter tells them by a hash of what a test string is encoded to, which knows only tokenizers somebody
//! has listed. The file itself says it: a regular expression, or a few fixed steps. So any tokenizer that cuts like one
//! of these is recognised, whoever trained it.

use serde_json::Value;

/// A way to cut text that no pre-tokeniser of ours has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tokenizer.json cuts text in a way that is not supported: {found}")]
pub struct UnknownCut {
    /// What it says, shortened.
    pub found: String,
}

const CONTRACTIONS: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";

/// Names and regular expressions, where one expression does it all.
fn expressions() -> [(&'static str, String); 4] {
    let upper = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]";
    let lower = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]";
    let word = r"[^\r\n\p{L}\p{N}]?\p{L}+";
    let rest = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let rest_slash = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let cased = |ending: &str| {
        format!(
            r"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{ending}|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{ending}"
        )
    };
    [
        ("llama-bpe", format!(r"{CONTRACTIONS}|{word}|\p{{N}}{{1,3}}|{rest}")),
        ("qwen2", format!(r"{CONTRACTIONS}|{word}|\p{{N}}|{rest}")),
        ("tekken", format!(r"{}|\p{{N}}|{rest_slash}", cased(""))),
        ("gpt-4o", format!(r"{}|\p{{N}}{{1,3}}|{rest_slash}", cased(&format!("{CONTRACTIONS}?")))),
    ]
}

/// The name for `tokenizer.ggml.pre`, by the `pre_tokenizer` of a tokenizer.json.
pub fn name(pre_tokenizer: &Value) -> Result<&'static str, UnknownCut> {
    let steps: Vec<&Value> = match pre_tokenizer.get("pretokenizers").and_then(Value::as_array) {
        Some(steps) => steps.iter().collect(),
        None => vec![pre_tokenizer],
    };
    let kinds: Vec<&str> = steps.iter().map(|step| step["type"].as_str().unwrap_or("none")).collect();
    // A ByteLevel step with `use_regex` (the default) cuts like GPT-2 did.
    let cuts = |step: &Value| step["use_regex"].as_bool().unwrap_or(true);
    let found = match kinds.as_slice() {
        ["ByteLevel"] if cuts(steps[0]) => Some("gpt-2"),
        ["Digits", "ByteLevel"] if cuts(steps[1]) && steps[0]["individual_digits"] == true => Some("smollm"),
        ["Split", "ByteLevel"] if !cuts(steps[1]) && steps[0]["behavior"] == "Isolated" => {
            let expression = steps[0]["pattern"]["Regex"].as_str().unwrap_or_default();
            expressions().into_iter().find(|(_, known)| known == expression).map(|(name, _)| name)
        }
        _ => None,
    };
    found.ok_or_else(|| UnknownCut { found: pre_tokenizer.to_string().chars().take(400).collect() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cuts_are_recognised_by_what_they_do() {
        let split = |expression: &str| {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
            ]})
        };
        let llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        let tekken = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        let digits = json!({"type": "Digits", "individual_digits": true});
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true});
        let cases = [
            (split(llama3), "llama-bpe"),
            (split(&llama3.replace("{1,3}", "")), "qwen2"),
            (split(tekken), "tekken"),
            (json!({"type": "ByteLevel"}), "gpt-2"),
            (json!({"type": "Sequence", "pretokenizers": [digits, bytes]}), "smollm"),
        ];
        for (given, expected) in cases {
            assert_eq!(name(&given), Ok(expected));
        }
        for unknown in [json!(null), json!({"type": "Whitespace"}), split(r"\w+"), split("")] {
            assert!(name(&unknown).is_err(), "{unknown}");
        }
    }
}
