//! The tokens that begin, end and separate, whether they are added to every text, and the chat templates of a folder.
//!
//! Gathered from tokenizer.json (its post-processor), tokenizer_config.json, config.json and the template files, with
//! the precedence of llama.cpp's converter: the post-processor says what is added, the first file that names a token
//! wins.

use lm::gguf::metadata::Metadata;
use lm::gguf::value::{Array, Strings};
use serde_json::Value;

use super::folder::{Folder, FolderError};
use super::tokenizer_json::TokenizerJson;
use super::vocabulary::TokenizerFiles;

/// Kinds of special tokens, by their names in Hugging Face's files and their keys in GGUF.
const KINDS: [(&str, &str); 8] = [
    ("bos", "tokenizer.ggml.bos_token_id"),
    ("eos", "tokenizer.ggml.eos_token_id"),
    ("unk", "tokenizer.ggml.unknown_token_id"),
    // The key is misspelt in GGUF.
    ("sep", "tokenizer.ggml.seperator_token_id"),
    ("pad", "tokenizer.ggml.padding_token_id"),
    ("mask", "tokenizer.ggml.mask_token_id"),
    ("eot", "tokenizer.ggml.eot_token_id"),
    ("eom", "tokenizer.ggml.eom_token_id"),
];

/// What steers a model's texts.
#[derive(Default)]
pub struct Special {
    /// Kind and id.
    ids: Vec<(&'static str, u32)>,
    /// Kind, and whether it is added to every text.
    added: Vec<(&'static str, bool)>,
    template: Option<String>,
    /// Templates for other uses than plain chat, by name.
    named_templates: Vec<(String, String)>,
    lowercase: Option<bool>,
    strip_accents: Option<bool>,
}

/// The texts of special tokens, while they are being found out.
#[derive(Default)]
struct Names {
    bos: Option<String>,
    eos: Option<String>,
    cls: Option<String>,
    sep: Option<String>,
    eot: Option<String>,
    eom: Option<String>,
}

impl Special {
    /// Gathers all of it. Ids from `tokens` on are no tokens of the model, and left out.
    pub fn read(folder: &Folder, files: &TokenizerFiles, tokens: u32) -> Result<Special, FolderError> {
        let mut special = Special::default();
        let mut names = Names::of(&files.config);
        if let Some(json) = &files.json {
            special.normalize(&json.normalizer);
            special.post_process(json, &mut names, !files.config.is_null());
        } else if let Some(lowercase) = files.config["do_lower_case"].as_bool() {
            special.lowercase = Some(lowercase);
        }
        if !files.config.is_null() {
            special.templates(folder, &files.config)?;
            special.take_tokenizer_config(files, &names, tokens);
        }
        special.take_config(&folder.json("config.json")?.unwrap_or(Value::Null), tokens);
        Ok(special)
    }

    fn set(&mut self, kind: &str, id: u32, tokens: u32) {
        let known = KINDS.iter().find(|(known, _)| *known == kind);
        if let Some((kind, _)) = known
            && id < tokens
            && !self.ids.iter().any(|(set, _)| set == kind)
        {
            self.ids.push((kind, id));
        }
    }

    /// `first`: what was said before stays.
    fn add(&mut self, kind: &'static str, added: bool, first: bool) {
        match self.added.iter_mut().find(|(known, _)| *known == kind) {
            Some(_) if first => {}
            Some(place) => place.1 = added,
            None => self.added.push((kind, added)),
        }
    }

    fn normalize(&mut self, normalizer: &Value) {
        match normalizer["type"].as_str() {
            Some("Lowercase") => self.lowercase = Some(true),
            Some("StripAccents") => self.strip_accents = Some(true),
            Some("BertNormalizer") => {
                self.lowercase = normalizer["lowercase"].as_bool().or(self.lowercase);
                self.strip_accents = normalizer["strip_accents"].as_bool().or(self.strip_accents);
            }
            Some("Sequence") => {
                let steps = normalizer["normalizers"].as_array().map(Vec::as_slice).unwrap_or_default();
                steps.iter().for_each(|step| self.normalize(step));
            }
            _ => {}
        }
    }

    fn post_process(&mut self, json: &TokenizerJson, names: &mut Names, configured: bool) {
        if names.bos.is_none() {
            names.bos.clone_from(&names.cls);
        }
        if names.eos.is_none() {
            names.eos.clone_from(&names.sep);
        }
        let whole = std::slice::from_ref(&json.post_processor);
        let processors = json.post_processor["processors"].as_array().map_or(whole, Vec::as_slice);
        for processor in processors {
            match processor["type"].as_str() {
                Some("ByteLevel") => {
                    self.add("bos", false, true);
                    self.add("eos", false, true);
                }
                Some("RobertaProcessing") => {
                    for kind in ["bos", "eos", "sep"] {
                        self.add(kind, true, false);
                    }
                    let named = |key: &str| processor[key][0].as_str().map(str::to_owned);
                    names.cls = names.cls.take().or_else(|| named("cls"));
                    names.sep = names.sep.take().or_else(|| named("sep"));
                }
                Some("TemplateProcessing") => self.template_processing(processor, names, configured),
                _ => {}
            }
        }
    }

    /// What a template puts before and after one text, and between two.
    fn template_processing(&mut self, processor: &Value, names: &mut Names, configured: bool) {
        let token = |step: &Value| step["SpecialToken"]["id"].as_str().map(str::to_owned);
        let steps = |key: &str| processor[key].as_array().cloned().unwrap_or_default();
        let (single, mut pair) = (steps("single"), steps("pair"));
        let many = single.len() > 1;
        let first = single.first().filter(|_| many).and_then(token);
        let last = single.last().filter(|_| many).and_then(token);
        if let Some(first) = &first {
            if !configured {
                names.bos = Some(first.clone());
            } else if names.bos.as_ref() != Some(first) && names.cls.as_ref() != Some(first) {
                names.bos.get_or_insert_with(|| first.clone());
                names.cls.get_or_insert_with(|| first.clone());
            }
            let known = names.bos.as_ref() == Some(first) || names.cls.as_ref() == Some(first);
            self.add("bos", known, false);
        }
        if let Some(last) = &last {
            if configured && names.eos.as_ref() != Some(last) {
                // The template ends texts with another token than the config: the config's ends turns.
                let place = if names.eot.is_none() { &mut names.eot } else { &mut names.eom };
                *place = names.eos.take();
            }
            names.eos = Some(last.clone());
            self.add("eos", true, false);
        }
        if first.is_some() && pair.first().and_then(token) == first {
            pair.remove(0);
        }
        if last.is_some() && pair.last().and_then(token) == last {
            pair.pop();
        }
        let sequence = |step: Option<&Value>| {
            step.and_then(|step| step["Sequence"]["id"].as_str()).unwrap_or("").to_owned()
        };
        if pair.len() > 2 && sequence(pair.first()) == "A" && sequence(pair.last()) == "B" {
            let separates =
                |text: &Option<String>| text.is_some() && (*text == names.sep || *text == names.eos);
            let between: Vec<Option<String>> = pair[1..pair.len() - 1].iter().map(token).collect();
            let second = between.len() == 2 && separates(&between[1]);
            let added = (separates(&between[0]) && last.is_none()) || second;
            self.add("sep", added, false);
            if added && names.sep.is_none() {
                names.sep.clone_from(&names.eos);
            }
        }
    }

    fn templates(&mut self, folder: &Folder, config: &Value) -> Result<(), FolderError> {
        let mut found = match folder.text("chat_template.jinja")? {
            Some(text) => Some(Value::String(text)),
            None => folder
                .json::<Value>("chat_template.json")?
                .and_then(|json| json.get("chat_template").cloned()),
        };
        if folder.has("chat_template.jinja")
            && let Ok(inside) = Folder::open(&folder.path_of("additional_chat_templates")?)
        {
            for file in inside.files()? {
                if let (Some(name), Some(text)) = (file.strip_suffix(".jinja"), inside.text(&file)?) {
                    self.named_templates.push((plain(name), text));
                }
            }
        }
        if let Some(said) = config.get("chat_template").filter(|said| !said.is_null()) {
            found = Some(said.clone());
            self.named_templates.clear();
        }
        match found {
            Some(Value::String(text)) => self.template = Some(text),
            Some(Value::Array(choices)) => {
                for choice in choices {
                    let (Some(name), Some(text)) = (choice["name"].as_str(), choice["template"].as_str())
                    else {
                        continue;
                    };
                    match plain(name) {
                        name if name == "default" => self.template = Some(text.to_owned()),
                        name if name.is_empty() => {}
                        name => self.named_templates.push((name, text.to_owned())),
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_tokenizer_config(&mut self, files: &TokenizerFiles, names: &Names, tokens: u32) {
        let added_tokens = files.json.as_ref().map(|json| json.added_tokens.as_slice()).unwrap_or_default();
        for (kind, _) in KINDS {
            if let Some(added) = files.config[format!("add_{kind}_token")].as_bool() {
                self.add(kind, added, true);
            }
            let text = match kind {
                "bos" => names.bos.clone(),
                "eos" => names.eos.clone(),
                "sep" => names.sep.clone(),
                "eot" => names.eot.clone(),
                "eom" => names.eom.clone(),
                _ => token_text(&files.config, kind),
            };
            let token = added_tokens.iter().find(|token| Some(&token.content) == text.as_ref());
            if let Some(token) = token {
                self.set(kind, token.id, tokens);
            }
        }
    }

    fn take_config(&mut self, config: &Value, tokens: u32) {
        for (kind, _) in &KINDS[..6] {
            let key = format!("{kind}_token_id");
            let id = config.get(&key).filter(|id| !id.is_null()).unwrap_or(&config["text_config"][&key]);
            // Some models end with any of several tokens; the first is the one for padding and such.
            let id = id.as_u64().or_else(|| id.get(0)?.as_u64());
            if let Some(id) = id.and_then(|id| u32::try_from(id).ok()) {
                self.set(kind, id, tokens);
            }
        }
    }

    /// Writes all of it.
    pub fn describe(self, metadata: &mut Metadata) {
        for (kind, id) in self.ids {
            let (_, key) = KINDS.iter().find(|(known, _)| *known == kind).expect("only known kinds are set");
            metadata.set(key, id);
        }
        for (kind, added) in self.added {
            if matches!(kind, "bos" | "eos" | "sep") {
                metadata.set(&format!("tokenizer.ggml.add_{kind}_token"), added);
            }
        }
        for (name, text) in &self.named_templates {
            metadata.set(&format!("tokenizer.chat_template.{name}"), text.as_str());
        }
        if !self.named_templates.is_empty() {
            let names: Strings = self.named_templates.iter().map(|(name, _)| name).collect();
            metadata.set("tokenizer.chat_templates", Array::Strings(names));
        }
        if let Some(text) = self.template {
            metadata.set("tokenizer.chat_template", text);
        }
        if let Some(lowercase) = self.lowercase {
            metadata.set("tokenizer.ggml.normalizer.lowercase", lowercase);
        }
        if let Some(strip) = self.strip_accents {
            metadata.set("tokenizer.ggml.normalizer.strip_accents", strip);
        }
    }
}

impl Names {
    fn of(config: &Value) -> Names {
        let [bos, eos, cls, sep] = ["bos", "eos", "cls", "sep"].map(|kind| token_text(config, kind));
        Names { bos, eos, cls, sep, eot: None, eom: None }
    }
}

/// A special token's text: itself, or in an object.
fn token_text(config: &Value, kind: &str) -> Option<String> {
    let entry = &config[format!("{kind}_token")];
    let text = entry.as_str().or_else(|| entry["content"].as_str())?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// A template's name as part of a key.
fn plain(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn described(files: &[(&str, Value)]) -> Metadata {
        let place = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let text = content.as_str().map_or_else(|| content.to_string(), str::to_owned);
            let path = place.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let folder = Folder::open(place.path()).unwrap();
        let files = TokenizerFiles::open(&folder).unwrap();
        let mut metadata = Metadata::new();
        Special::read(&folder, &files, 100).unwrap().describe(&mut metadata);
        metadata
    }

    fn tokens(post_processor: &Value) -> Value {
        let added: Vec<Value> = (0..)
            .zip(["<s>", "</s>", "<|end|>"])
            .map(|(id, content)| json!({"id": id, "content": content}))
            .collect();
        json!({"model": {"vocab": {}}, "added_tokens": added, "post_processor": post_processor})
    }

    #[test]
    fn the_post_processor_says_what_is_added() {
        let template = |single: Value| json!({"type": "TemplateProcessing", "single": single, "pair": []});
        let special = |id: &str| json!({"SpecialToken": {"id": id}});
        let text = json!({"Sequence": {"id": "A"}});
        let names = json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": false});
        let key = |metadata: &Metadata, name: &str| {
            metadata.find_bool(&format!("tokenizer.ggml.add_{name}_token")).unwrap()
        };

        let both = template(json!([special("<s>"), text, special("</s>")]));
        let metadata =
            described(&[("tokenizer.json", tokens(&both)), ("tokenizer_config.json", names.clone())]);
        assert_eq!((key(&metadata, "bos"), key(&metadata, "eos")), (Some(true), Some(true)));
        assert_eq!(metadata.u32("tokenizer.ggml.eos_token_id"), Ok(1));

        let other_end = template(json!([text, special("<|end|>")]));
        let metadata =
            described(&[("tokenizer.json", tokens(&other_end)), ("tokenizer_config.json", names.clone())]);
        assert_eq!(metadata.u32("tokenizer.ggml.eos_token_id"), Ok(2));
        assert_eq!(metadata.u32("tokenizer.ggml.eot_token_id"), Ok(1), "the config's own end ends turns");

        let bytes = json!({"type": "ByteLevel"});
        let metadata = described(&[("tokenizer.json", tokens(&bytes)), ("tokenizer_config.json", names)]);
        assert_eq!((key(&metadata, "bos"), key(&metadata, "eos")), (Some(false), Some(false)));
    }

    #[test]
    fn templates_come_from_files_and_configs() {
        let config = json!({"chat_template": [{"name": "default", "template": "D"}, {"name": "tool use", "template": "T"}]});
        let listed = described(&[("tokenizer_config.json", config)]);
        assert_eq!(listed.string("tokenizer.chat_template"), Ok("D"));
        assert_eq!(listed.string("tokenizer.chat_template.tool_use"), Ok("T"));
        assert_eq!(listed.strings("tokenizer.chat_templates").unwrap().get(0), Some("tool_use"));
        let files = described(&[
            ("tokenizer_config.json", json!({})),
            ("chat_template.jinja", json!("D")),
            ("additional_chat_templates/rag.jinja", json!("R")),
        ]);
        assert_eq!(files.string("tokenizer.chat_template"), Ok("D"));
        assert_eq!(files.string("tokenizer.chat_template.rag"), Ok("R"));
    }

    #[test]
    fn ids_beyond_the_vocabulary_and_nulls_are_left_out() {
        let config = json!({"bos_token_id": 100, "eos_token_id": [7, 8], "pad_token_id": null, "text_config": {"pad_token_id": 3}});
        let metadata = described(&[("config.json", config)]);
        let id = |kind: &str| metadata.find_u32(&format!("tokenizer.ggml.{kind}_token_id")).unwrap();
        assert_eq!((id("bos"), id("eos"), id("padding")), (None, Some(7), Some(3)));
    }
}
