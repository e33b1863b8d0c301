//! What a folder says about itself for people: name, size, licence, languages, and the sampling it recommends.
//!
//! From the head of README.md (the model card), generation_config.json and the folder's own name. The head is YAML, of
//! which model cards use little: `key: value`, lists of texts below a key or in brackets. What is more than that is
//! left out. Broken or missing cards are no error: nothing here changes what a model answers.

use std::collections::BTreeMap;

use lm::gguf::metadata::Metadata;
use lm::gguf::value::{Array, Strings};
use serde_json::Value;

use super::folder::{Folder, FolderError};

/// The head of a model card.
#[derive(Default)]
struct Card {
    entries: BTreeMap<String, Vec<String>>,
}

/// Writes what is known. `parameters`: numbers in all tensors; `name`: what the user calls the model.
pub fn describe(
    folder: &Folder,
    name: Option<&str>,
    parameters: u64,
    metadata: &mut Metadata,
) -> Result<(), FolderError> {
    // Neither file is needed, so one that cannot be understood is taken as absent.
    let generation: Value = folder.json("generation_config.json").ok().flatten().unwrap_or(Value::Null);
    sampling(&generation, metadata);
    let text = folder.text("README.md").ok().flatten().unwrap_or_default();
    let card = Card::of(&text);
    let one = |keys: &[&str]| keys.iter().find_map(|key| card.entries.get(*key)?.first().cloned());

    let known_as = name.map(str::to_owned).or_else(|| one(&["name", "model_name"]));
    let known_as = known_as.or_else(|| folder.name().map(|name| title(&name)));
    metadata.set("general.name", known_as.unwrap_or_else(|| "model".to_owned()));
    let told = [
        ("general.author", one(&["author", "model_author", "model_creator"])),
        ("general.version", one(&["version", "model_version"])),
        ("general.organization", one(&["organization", "model_organization"])),
        ("general.description", one(&["description", "model_description"])),
    ];
    for (key, value) in told {
        if let Some(value) = value {
            metadata.set(key, value);
        }
    }
    metadata.set("general.size_label", one(&["size_label"]).unwrap_or_else(|| size_label(parameters)));
    if let Some(licences) = card.entries.get("license") {
        metadata.set("general.license", licences.join(","));
    }
    for (key, said) in [("general.license.name", "license_name"), ("general.license.link", "license_link")] {
        if let Some(value) = one(&[said]) {
            metadata.set(key, value);
        }
    }
    base_models(&card, metadata);
    let lists =
        [("general.tags", ["tags", "pipeline_tag"]), ("general.languages", ["languages", "language"])];
    for (key, said) in lists {
        let all: Strings = said.iter().filter_map(|key| card.entries.get(*key)).flatten().collect();
        if !all.is_empty() {
            metadata.set(key, Array::Strings(all));
        }
    }
    Ok(())
}

fn sampling(generation: &Value, metadata: &mut Metadata) {
    if let Some(top_k) = generation["top_k"].as_i64().and_then(|top_k| i32::try_from(top_k).ok()) {
        metadata.set("general.sampling.top_k", top_k);
    }
    let numbers = [
        ("top_p", "general.sampling.top_p"),
        ("min_p", "general.sampling.min_p"),
        ("temperature", "general.sampling.temp"),
        ("repetition_penalty", "general.sampling.penalty_repeat"),
    ];
    for (said, key) in numbers {
        if let Some(number) = generation[said].as_f64() {
            metadata.set(key, number as f32);
        }
    }
}

fn base_models(card: &Card, metadata: &mut Metadata) {
    let bases = ["base_model", "base_models"].iter().find_map(|key| card.entries.get(*key));
    let Some(bases) = bases else {
        return;
    };
    metadata.set("general.base_model.count", u32::try_from(bases.len()).unwrap_or(u32::MAX));
    for (index, base) in bases.iter().enumerate() {
        let mut set =
            |key: &str, value: String| metadata.set(&format!("general.base_model.{index}.{key}"), value);
        if base.contains("://") {
            set("repo_url", base.clone());
            continue;
        }
        let (owner, name) = base.split_once('/').unwrap_or(("", base));
        set("name", title(name));
        if !owner.is_empty() {
            set("organization", title(owner));
            set("repo_url", format!("https://huggingface.co/{base}"));
        }
    }
}

impl Card {
    fn of(text: &str) -> Card {
        let mut card = Card::default();
        let mut lines = text.lines();
        if lines.next().map(str::trim_end) != Some("---") {
            return card;
        }
        let mut last = String::new();
        for line in lines.take_while(|line| line.trim_end() != "---") {
            if let Some(item) = line.trim_start().strip_prefix("- ") {
                // An item that is a mapping of its own is more than we read.
                if !last.is_empty() && !item.contains(": ") {
                    card.entries.entry(last.clone()).or_default().push(unquoted(item));
                }
            } else if let Some((key, value)) = line.split_once(':')
                && !key.starts_with([' ', '\t', '#', '-'])
            {
                last = unquoted(key);
                let value = value.trim();
                let inside = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
                let items: Vec<String> = match inside {
                    Some(inside) => inside.split(',').map(unquoted).filter(|item| !item.is_empty()).collect(),
                    None if value.is_empty() || value.starts_with(['|', '>', '{']) => Vec::new(),
                    None => vec![unquoted(value)],
                };
                if !items.is_empty() {
                    card.entries.insert(last.clone(), items);
                }
            }
        }
        card
    }
}

fn unquoted(text: &str) -> String {
    let text = text.trim();
    let inside = |quote| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(text).to_owned()
}

/// `tiny-llama-v1.1` becomes `Tiny Llama v1.1`: words of small letters get a large one, versions do not.
fn title(name: &str) -> String {
    let word = |word: &str| {
        let lower = word.chars().any(char::is_alphabetic) && !word.chars().any(char::is_uppercase);
        let digits = |text: &str| text.starts_with(|letter: char| letter.is_ascii_digit());
        if !lower || digits(word) || word.strip_prefix('v').is_some_and(digits) {
            return word.to_owned();
        }
        let mut title = String::new();
        let mut first = true;
        for letter in word.chars() {
            if first {
                title.extend(letter.to_uppercase());
            } else {
                title.push(letter);
            }
            first = !letter.is_alphabetic();
        }
        title
    };
    name.replace('-', " ").split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// A count of parameters for people: `260K`, `1.2B`; at least two digits.
fn size_label(parameters: u64) -> String {
    let count = parameters as f64;
    let (scaled, unit) = match parameters {
        1_000_000_000_001.. => (count * 1e-12, "T"),
        1_000_000_001.. => (count * 1e-9, "B"),
        1_000_001.. => (count * 1e-6, "M"),
        _ => (count * 1e-3, "K"),
    };
    let whole = scaled.round_ties_even();
    let digits = if whole == 0.0 { 0 } else { format!("{whole}").len() };
    let decimals = 2_usize.saturating_sub(digits);
    format!("{scaled:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(card: &str, generation: &str) -> Metadata {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("README.md"), card).unwrap();
        std::fs::write(place.path().join("generation_config.json"), generation).unwrap();
        let mut metadata = Metadata::new();
        let folder = Folder::open(place.path()).unwrap();
        describe(&folder, Some("Given"), 1_235_814_400, &mut metadata).unwrap();
        metadata
    }

    #[test]
    fn cards_are_read_as_far_as_they_are_simple() {
        let card = "---\nlicense: \"llama3.2\"\nlicense_link: https://x/LICENSE\nlanguage: [en, 'de']\ntags:\n- chat\n  - edge\n\
            base_model:\n  - meta-llama/Llama-3.2-1B\nmodel-index:\n- name: x\n  results: 1\n---\n# Title\nlicense: mit\n";
        let metadata = described(card, r#"{"temperature": 0.6, "top_k": 40, "do_sample": true}"#);
        assert_eq!(metadata.string("general.name"), Ok("Given"));
        assert_eq!(metadata.string("general.license"), Ok("llama3.2"));
        assert_eq!(metadata.string("general.license.link"), Ok("https://x/LICENSE"));
        assert_eq!(metadata.string("general.size_label"), Ok("1.2B"));
        let list = |key| metadata.strings(key).unwrap().iter().collect::<Vec<_>>();
        assert_eq!(
            (list("general.languages"), list("general.tags")),
            (vec!["en", "de"], vec!["chat", "edge"])
        );
        assert_eq!(metadata.string("general.base_model.0.name"), Ok("Llama 3.2 1B"));
        assert_eq!(metadata.string("general.base_model.0.organization"), Ok("Meta Llama"));
        assert_eq!(
            (metadata.f32("general.sampling.temp"), metadata.u32("general.sampling.top_k")),
            (Ok(0.6), Ok(40))
        );
    }

    #[test]
    fn broken_cards_are_no_error() {
        for (card, generation) in
            [("", ""), ("---", "{"), ("---\n: \n- \n---", "[]"), ("no head\nlicense: mit", "null")]
        {
            let metadata = described(card, generation);
            assert_eq!(metadata.find_string("general.license"), Ok(None), "{card:?}");
        }
    }

    #[test]
    fn names_and_sizes_are_for_people() {
        for (name, expected) in [
            ("tiny-llama-v1.1", "Tiny Llama v1.1"),
            ("Qwen2.5-0.5B-instruct", "Qwen2.5 0.5B Instruct"),
            ("bert", "Bert"),
        ] {
            assert_eq!(title(name), expected);
        }
        for (count, expected) in [
            (0, "0.00K"),
            (116_000, "116K"),
            (22_700_000, "23M"),
            (999, "1.0K"),
            (7_241_732_096, "7.2B"),
            (13_000_000_000, "13B"),
        ] {
            assert_eq!(size_label(count), expected);
        }
    }
}
