//! A conversation to a prompt, by the model's own template.
//!
//! Stands between a request's messages and the tokenizer. What a template can take it shows itself: when it is loaded it
//! is rendered on small conversations, and what comes out says whether it knows system messages, tools and their
//! results ([`Abilities`]). Messages are then shaped to that, so that every model can be asked the same things. What
//! always holds: with nothing to shape, the prompt is what transformers' `apply_chat_template` gives, byte for byte.

use minijinja::value::Serde;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::chat::bounds::Limits;
use crate::chat::dialect::Dialect;
use crate::chat::jinja::{Source, TemplateError};
use crate::chat::message::{Message, Role, Tool, ToolCall};
use crate::chat::tools::{answer_as_text, calls_as_text, instruction};
use crate::gguf::metadata::{Metadata, MetadataError};
use crate::tokenizer::Tokenizer;

/// What a model's file says about chat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateTexts {
    /// `tokenizer.chat_template`.
    pub default: Option<String>,
    /// `tokenizer.chat_template.<name>` for each of `tokenizer.chat_templates`: `tool_use`, `rag`.
    pub named: Vec<(String, String)>,
    /// The text of the token that begins a document; empty if there is none.
    pub bos: String,
    /// The text of the token that ends one; empty if there is none.
    pub eos: String,
}

impl TemplateTexts {
    /// From a file's metadata and its tokenizer.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<TemplateTexts, MetadataError> {
        let mut named = Vec::new();
        if let Some(names) = metadata.find_strings("tokenizer.chat_templates")? {
            // More than a few are a mistake; each is a string that the file holds anyway.
            for name in names.iter().take(64) {
                if let Some(text) = metadata.find_string(&format!("tokenizer.chat_template.{name}"))? {
                    named.push((name.to_string(), text.to_string()));
                }
            }
        }
        let text = |token: Option<u32>| {
            token.and_then(|token| tokenizer.text_of(token)).unwrap_or_default().to_string()
        };
        Ok(TemplateTexts {
            default: metadata.find_string("tokenizer.chat_template")?.map(str::to_string),
            named,
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
        })
    }
}

/// Where a template came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateSource {
    /// The model's file.
    File,
    /// The file has none, but its vocabulary has the control tokens of this format.
    Vocabulary(&'static str),
}

/// Why a model cannot chat.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChatError {
    /// Neither the file nor the vocabulary says how.
    #[error(
        "the model has no chat template, and its vocabulary shows no known format: it completes text. \
         Ask for a completion, or give a template"
    )]
    NoTemplate,
    /// Its template is of no use.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The file's metadata about it is not what it should be.
    #[error("the model's chat templates cannot be read")]
    Metadata(#[from] MetadataError),
}

/// What a template was seen to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// It shows a system message.
    pub system: bool,
    /// It has a role for developers.
    pub developer: bool,
    /// It wants content as a list of parts.
    pub parts: bool,
    /// It shows the tools.
    pub tools: bool,
    /// It shows an assistant's calls, with arguments as an object (`true`) or as text.
    pub calls: Option<bool>,
    /// It shows a tool's answer.
    pub answers: bool,
    /// It takes only ids of nine letters and digits.
    pub short_ids: bool,
    /// Beside calls it takes no missing content.
    pub content_beside_calls: bool,
}

/// How to render.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Ends with what makes the model answer.
    pub add_generation_prompt: bool,
    /// Seconds since 1970, for templates that say the date. The caller adds its time zone.
    pub now: i64,
    /// More for the template: `enable_thinking`, `documents`.
    pub variables: Map<String, Value>,
}

/// What the tokenizer gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The text; control tokens stand in it as text.
    pub text: String,
    /// The template has written the token that begins a document, so the tokenizer must not.
    pub has_bos: bool,
    /// The prompt ends inside thoughts, so the answer begins there.
    pub thinking: bool,
}

/// A model's way to chat.
#[derive(Clone, Debug)]
pub struct Template {
    default: Variant,
    /// For requests with tools.
    tool_use: Option<Variant>,
    source: TemplateSource,
    bos: String,
    eos: String,
}

#[derive(Clone, Debug)]
struct Variant {
    source: Source,
    abilities: Abilities,
    dialect: Dialect,
}

/// Formats that control tokens alone give away: the tokens, and a template.
const KNOWN: [(&str, &[&str], &str); 4] = [
    (
        "chatml",
        &["<|im_start|>", "<|im_end|>"],
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ),
    (
        "llama3",
        &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n\
         {{ message.content }}<|eot_id|>{% endfor %}\
         {% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    ),
    (
        "gemma",
        &["<start_of_turn>", "<end_of_turn>"],
        "{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system') }}\
         {% endif %}<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n\
         {{ message.content }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    ),
    (
        "phi3",
        &["<|user|>", "<|assistant|>", "<|end|>"],
        "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    ),
];

impl Template {
    /// From a model's file. `is_control`: whether the vocabulary has a control token that is written so.
    pub fn new(texts: &TemplateTexts, is_control: impl Fn(&str) -> bool) -> Result<Template, ChatError> {
        let (bos, eos) = (texts.bos.clone(), texts.eos.clone());
        let named = |name: &str| texts.named.iter().find(|(known, _)| known == name).map(|(_, text)| text);
        let text = texts
            .default
            .as_ref()
            .or_else(|| named("default"))
            .or_else(|| texts.named.first().map(|(_, text)| text));
        let (text, source) = match text {
            Some(text) => (text.as_str(), TemplateSource::File),
            None => {
                let known = KNOWN.iter().find(|(_, tokens, _)| tokens.iter().all(|token| is_control(token)));
                let (name, _, text) = known.ok_or(ChatError::NoTemplate)?;
                (*text, TemplateSource::Vocabulary(name))
            }
        };
        let default = Variant::new(text, &bos, &eos)?;
        let tool_use = named("tool_use").map(|text| Variant::new(text, &bos, &eos)).transpose()?;
        Ok(Template { default, tool_use, source, bos, eos })
    }

    /// From a model's metadata and tokenizer.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Template, ChatError> {
        let texts = TemplateTexts::from_metadata(metadata, tokenizer)?;
        Template::new(&texts, |text| tokenizer.id_of(text).is_some_and(|token| tokenizer.is_special(token)))
    }

    /// Where it came from.
    pub fn source(&self) -> TemplateSource {
        self.source
    }

    /// What was seen of it, with tools or without.
    pub fn abilities(&self, tools: bool) -> Abilities {
        self.variant(tools).abilities
    }

    /// How answers to its prompts are written, with tools or without.
    pub fn dialect(&self, tools: bool) -> Dialect {
        self.variant(tools).dialect
    }

    /// The template's own text.
    pub fn text(&self) -> &str {
        self.default.source.text()
    }

    fn variant(&self, tools: bool) -> &Variant {
        self.tool_use.as_ref().filter(|_| tools).unwrap_or(&self.default)
    }

    /// The prompt of a conversation.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[Tool],
        options: &Options,
    ) -> Result<Prompt, TemplateError> {
        let variant = self.variant(!tools.is_empty());
        let messages = shape(messages, tools, &variant.abilities, &variant.dialect);
        let shown = if variant.abilities.tools { tools } else { &[] };
        let messages: Vec<Value> =
            messages.iter().map(|message| to_json(message, &variant.abilities)).collect();
        let text = variant.run(&messages, shown, options, &self.bos, &self.eos)?;
        let thinking = options.add_generation_prompt
            && variant.dialect.thoughts.is_some_and(|thoughts| text.trim_end().ends_with(thoughts.open));
        let has_bos = !self.bos.is_empty() && text.starts_with(&self.bos);
        Ok(Prompt { text, has_bos, thinking })
    }
}

impl Variant {
    fn new(text: &str, bos: &str, eos: &str) -> Result<Variant, TemplateError> {
        let mut variant =
            Variant { source: Source::new(text)?, abilities: PLAIN, dialect: Dialect::of(text, true) };
        variant.abilities = variant.probe(bos, eos);
        // A template may hold the marks of calls only to read old ones.
        variant.dialect = Dialect::of(text, variant.abilities.tools);
        Ok(variant)
    }

    fn run(
        &self,
        messages: &[Value],
        tools: &[Tool],
        options: &Options,
        bos: &str,
        eos: &str,
    ) -> Result<String, TemplateError> {
        let mut variables = options.variables.clone();
        // transformers defines these even where they are none.
        let none = |list: Vec<Value>| if list.is_empty() { Value::Null } else { Value::Array(list) };
        variables.entry("documents").or_insert(Value::Null);
        variables.insert("messages".to_string(), Value::Array(messages.to_vec()));
        variables.insert("tools".to_string(), none(tools.iter().map(Tool::to_json).collect()));
        variables.insert("add_generation_prompt".to_string(), json!(options.add_generation_prompt));
        variables.insert("bos_token".to_string(), json!(bos));
        variables.insert("eos_token".to_string(), json!(eos));
        let variables = Value::Object(variables);
        let limits = Limits::for_input(variables.to_string().len(), messages.len());
        self.source.render(minijinja::Value::from(Serde(&variables)), options.now, limits)
    }

    /// Renders small conversations and looks at what comes out.
    fn probe(&self, bos: &str, eos: &str) -> Abilities {
        let options = Options { add_generation_prompt: true, now: 0, variables: Map::new() };
        let shows = |messages: Value, tools: &[Tool], wanted: &str| {
            let messages = messages.as_array().cloned().unwrap_or_default();
            self.run(&messages, tools, &options, bos, eos).is_ok_and(|text| text.contains(wanted))
        };
        let text = |text: &str, parts: bool| {
            if parts { json!([{"type": "text", "text": text}]) } else { json!(text) }
        };
        let user = |parts: bool| json!({"role": "user", "content": text("probe-user", parts)});
        let parts =
            !shows(json!([user(false)]), &[], "probe-user") && shows(json!([user(true)]), &[], "probe-user");
        let said = |role: &str| json!({"role": role, "content": text("probe-said", parts)});
        let system = shows(json!([said("system"), user(parts)]), &[], "probe-said");
        let developer = self.source.text().contains("developer")
            && shows(json!([said("developer"), user(parts)]), &[], "probe-said");
        let tool = Tool {
            name: "probe_tool".to_string(),
            description: Some("probe".to_string()),
            parameters: Some(json!({"type": "object", "properties": {"probe_key": {"type": "string"}}})),
            strict: false,
        };
        let tools = shows(json!([user(parts)]), std::slice::from_ref(&tool), "probe_tool");
        let call = |id: &str, arguments: Value, content: Value| {
            json!({"role": "assistant", "content": content, "tool_calls":
                [{"id": id, "type": "function", "function": {"name": "probe_tool", "arguments": arguments}}]})
        };
        let answer = |id: &str| json!({"role": "tool", "tool_call_id": id, "name": "probe_tool", "content": text("probe-result", parts)});
        let turn = |id: &str, arguments: Value, content: Value| {
            json!([user(parts), call(id, arguments, content), answer(id), said("assistant"), user(parts)])
        };
        let none = Value::Null;
        // Other names than in the tool above, which the template shows too.
        let (object, string) = (json!({"call_key": "call_value"}), json!("{\"call_key\": \"call_value\"}"));
        let ids = ["call_probe_1", "probe1234"];
        let try_calls = |arguments: &Value, wanted: &str| {
            ids.into_iter().find_map(|id| {
                [none.clone(), text("", parts)].into_iter().find_map(|content| {
                    let messages = turn(id, arguments.clone(), content.clone());
                    shows(messages, std::slice::from_ref(&tool), wanted).then_some((id, !content.is_null()))
                })
            })
        };
        // An object that is printed as it is would have Python's quotes; families without JSON print bare values.
        let found = [
            (&object, "\"call_key\"", true),
            (&string, "\"call_key\"", false),
            (&object, "call_value", true),
        ]
        .into_iter()
        .find_map(|(arguments, wanted, is_object)| Some((try_calls(arguments, wanted)?, is_object)));
        let (id, content_beside_calls) = found.map_or((ids[0], false), |(found, _)| found);
        let arguments = if found.is_some_and(|(_, is_object)| !is_object) { string } else { object };
        let content = if content_beside_calls { text("", parts) } else { none };
        let answers = shows(turn(id, arguments, content), std::slice::from_ref(&tool), "probe-result");
        Abilities {
            system,
            developer,
            parts,
            tools,
            calls: found.map(|(_, is_object)| is_object),
            answers,
            short_ids: id == ids[1],
            content_beside_calls,
        }
    }
}

const PLAIN: Abilities = Abilities {
    system: true,
    developer: false,
    parts: false,
    tools: false,
    calls: None,
    answers: false,
    short_ids: false,
    content_beside_calls: false,
};

/// Messages as the template can take them.
fn shape(messages: &[Message], tools: &[Tool], abilities: &Abilities, dialect: &Dialect) -> Vec<Message> {
    let mut shaped: Vec<Message> = Vec::new();
    let mut changed = false;
    for message in messages {
        let mut message = message.clone();
        if message.role == Role::Developer && !abilities.developer {
            message.role = Role::System;
        }
        if !message.tool_calls.is_empty() && abilities.calls.is_none() {
            let calls = calls_as_text(dialect, &std::mem::take(&mut message.tool_calls));
            let content = message.content.filter(|content| !content.is_empty());
            message.content = Some(content.map_or(calls.clone(), |content| format!("{content}\n{calls}")));
        }
        if message.role == Role::Tool && !abilities.answers {
            message = answer_as_text(&message);
            changed = true;
        }
        shaped.push(message);
    }
    if !tools.is_empty() && !abilities.tools {
        let text = instruction(tools);
        match shaped.first_mut().filter(|message| message.role == Role::System) {
            Some(system) => {
                let content = system.content.take().unwrap_or_default();
                system.content = Some(format!("{content}\n\n{text}"));
            }
            None => shaped.insert(0, Message::new(Role::System, text)),
        }
    }
    if !abilities.system && shaped.iter().any(|message| message.role == Role::System) {
        let (system, rest): (Vec<Message>, Vec<Message>) =
            shaped.into_iter().partition(|message| message.role == Role::System);
        let text: Vec<String> = system.into_iter().filter_map(|message| message.content).collect();
        shaped = rest;
        shaped.insert(0, Message::new(Role::User, text.join("\n\n")));
        changed = true;
    }
    // Two messages of a user in a row are ours; many templates refuse them.
    if changed {
        let mut merged: Vec<Message> = Vec::new();
        for message in shaped {
            match merged.last_mut().filter(|last| last.role == Role::User && message.role == Role::User) {
                Some(last) => {
                    let both =
                        [last.content.take(), message.content].into_iter().flatten().collect::<Vec<_>>();
                    last.content = Some(both.join("\n\n"));
                }
                None => merged.push(message),
            }
        }
        shaped = merged;
    }
    if abilities.short_ids {
        for message in &mut shaped {
            message.tool_calls.iter_mut().for_each(|call| call.id = short_id(&call.id));
            message.tool_call_id = message.tool_call_id.as_deref().map(short_id);
        }
    }
    shaped
}

/// Nine letters and digits: the id itself, or made from it, the same each time.
fn short_id(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_string();
    }
    // FNV-1a.
    let mut hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut text = String::new();
    for _ in 0..9 {
        text.push(char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[(hash % 36) as usize]));
        hash /= 36;
    }
    text
}

/// A message as templates read it.
fn to_json(message: &Message, abilities: &Abilities) -> Value {
    let mut object = Map::new();
    object.insert("role".to_string(), json!(message.role.name()));
    let content = match &message.content {
        None if abilities.content_beside_calls => Some(""),
        None => None,
        Some(text)
            if text.is_empty() && !message.tool_calls.is_empty() && !abilities.content_beside_calls =>
        {
            None
        }
        Some(text) => Some(text.as_str()),
    };
    let content = match content {
        Some(text) if abilities.parts => json!([{"type": "text", "text": text}]),
        other => json!(other),
    };
    object.insert("content".to_string(), content);
    if let Some(reasoning) = &message.reasoning {
        object.insert("reasoning_content".to_string(), json!(reasoning));
    }
    if !message.tool_calls.is_empty() {
        let calls: Vec<Value> = message.tool_calls.iter().map(|call| call_to_json(call, abilities)).collect();
        object.insert("tool_calls".to_string(), Value::Array(calls));
    }
    for (key, value) in [("tool_call_id", &message.tool_call_id), ("name", &message.name)] {
        if let Some(value) = value {
            object.insert(key.to_string(), json!(value));
        }
    }
    Value::Object(object)
}

fn call_to_json(call: &ToolCall, abilities: &Abilities) -> Value {
    // What is no JSON object stays the text that it is.
    let object = serde_json::from_str::<Value>(&call.arguments).ok().filter(Value::is_object);
    let arguments = match object.filter(|_| abilities.calls == Some(true)) {
        Some(object) => object,
        None => json!(call.arguments),
    };
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        let texts = TemplateTexts {
            default: Some(text.to_string()),
            bos: "<s>".to_string(),
            eos: "</s>".to_string(),
            named: vec![],
        };
        Template::new(&texts, |_| false).unwrap()
    }

    fn options() -> Options {
        Options { add_generation_prompt: true, now: 1_736_942_400, variables: Map::new() }
    }

    fn tool() -> Tool {
        let parameters = json!({"type": "object", "properties": {"sensor_id": {"type": "string"}}});
        Tool {
            name: "read_sensor".to_string(),
            description: Some("Reads.".to_string()),
            parameters: Some(parameters),
            strict: false,
        }
    }

    /// A system message, a question, a call, its result, an answer and a question.
    fn conversation() -> Vec<Message> {
        let call = ToolCall {
            id: "call_1".to_string(),
            name: "read_sensor".to_string(),
            arguments: r#"{"sensor_id": "s1"}"#.to_string(),
        };
        vec![
            Message::new(Role::Developer, "Be the-system."),
            Message::new(Role::User, "the-question"),
            Message { content: None, tool_calls: vec![call], ..Message::new(Role::Assistant, "") },
            Message {
                tool_call_id: Some("call_1".to_string()),
                ..Message::new(Role::Tool, "the-result 21.5")
            },
            Message::new(Role::Assistant, "the-answer"),
            Message::new(Role::User, "the-thanks"),
        ]
    }

    #[test]
    fn shared_data_templates_all_take_a_whole_conversation_with_tools() {
        let Some(folder) = crate::chat::shared_data("structured/chat-templates") else { return };
        let mut seen = Vec::new();
        let mut files: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for path in files {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let template = template(&std::fs::read_to_string(&path).unwrap());
            let prompt = template.render(&conversation(), &[tool()], &options());
            let text = prompt.unwrap_or_else(|error| panic!("{name}: {error}")).text;
            let mut from = 0;
            for wanted in ["the-question", "s1", "the-result 21.5", "the-answer", "the-thanks"] {
                let place =
                    text[from..].find(wanted).unwrap_or_else(|| panic!("{name}: no {wanted:?} in {text}"));
                from += place;
            }
            assert!(text.contains("read_sensor") && text.contains("the-system"), "{name}: {text}");
            seen.push(format!("{} {}", &name[..8], template.dialect(true).calls.name));
        }
        let expected = "HuggingF hermes, LFM2-8B- lfm2, NousRese hermes, Qwen-Qwe hermes, Qwen-Qwe hermes, deepseek hermes, \
                        google-g hermes, ibm-gran granite, meta-lla llama3, microsof hermes, mistrala mistral, openbmb- minicpm";
        assert_eq!(seen.join(", "), expected);
    }

    #[test]
    fn abilities_are_seen_and_messages_shaped_to_them() {
        // Alternating, no system, no tools: as gemma.
        let strict = template(
            "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}\
             {{ raise_exception('alternate!') }}{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}",
        );
        let abilities = strict.abilities(true);
        assert!(!abilities.system && !abilities.tools && abilities.calls.is_none() && !abilities.answers);
        let prompt = strict.render(&conversation(), &[tool()], &options()).unwrap();
        assert!(prompt.has_bos && !prompt.thinking);
        assert!(
            prompt.text.starts_with("<s><user>Be the-system.\n\nYou can call functions."),
            "{}",
            prompt.text
        );
        assert!(
            prompt.text.contains("the-question<assistant><tool_call>\n{\"name\": \"read_sensor\""),
            "{}",
            prompt.text
        );
        assert!(prompt.text.contains(
            "</tool_call><user><tool_response>\nthe-result 21.5\n</tool_response><assistant>the-answer"
        ));
        // The template's own words when it refuses.
        let twice = [Message::new(Role::User, "a"), Message::new(Role::User, "b")];
        let refused = strict.render(&twice, &[], &options()).unwrap_err();
        assert_eq!(refused, TemplateError::Refused { message: "alternate!".to_string() });
        // Content as parts, ids of nine signs, arguments as text, a developer, thoughts begun.
        let fussy = template(
            "{% for m in messages %}[{{ m.role }}]{% if m.content is not none %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}\
             {% for c in m.tool_calls or [] %}{% if c.id|length != 9 %}{{ raise_exception('id') }}{% endif %}\
             {{ c.function.name + c.function.arguments }}{% endfor %}{% endfor %}{{ tools|tojson if tools else '' }}\
             {# developer #}<think>{# </think> #}",
        );
        let abilities = fussy.abilities(true);
        assert!(
            abilities.parts
                && abilities.system
                && abilities.developer
                && abilities.tools
                && abilities.short_ids
        );
        assert_eq!(abilities.calls, Some(false));
        let prompt = fussy.render(&conversation(), &[tool()], &options()).unwrap();
        assert!(prompt.text.contains("[developer]Be the-system.[user]the-question"), "{}", prompt.text);
        assert!(
            prompt.text.contains("[assistant]read_sensor{\"sensor_id\": \"s1\"}[tool]the-result"),
            "{}",
            prompt.text
        );
        assert!(prompt.thinking && !prompt.has_bos);
    }

    #[test]
    fn a_file_without_a_template_chats_only_if_its_vocabulary_shows_how() {
        let texts = TemplateTexts { bos: "<s>".to_string(), ..TemplateTexts::default() };
        assert_eq!(Template::new(&texts, |_| false).unwrap_err(), ChatError::NoTemplate);
        let user = [Message::new(Role::System, "S"), Message::new(Role::User, "U")];
        for (name, tokens, _) in KNOWN {
            let template = Template::new(&texts, |token| tokens.contains(&token)).unwrap();
            assert_eq!(template.source(), TemplateSource::Vocabulary(name));
            let text = template.render(&user, &[], &options()).unwrap().text;
            assert!(text.contains('S') && text.contains('U'), "{name}: {text}");
        }
        let template = Template::new(&texts, |token| KNOWN[0].1.contains(&token)).unwrap();
        let text = template.render(&user, &[], &options()).unwrap().text;
        assert_eq!(
            text,
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
        );
        let named = TemplateTexts {
            named: vec![
                ("default".to_string(), "plain".to_string()),
                ("tool_use".to_string(), "{{ tools|tojson }}".to_string()),
            ],
            ..TemplateTexts::default()
        };
        let template = Template::new(&named, |_| false).unwrap();
        assert_eq!(template.render(&user, &[], &options()).unwrap().text, "plain");
        assert!(template.render(&user, &[tool()], &options()).unwrap().text.contains("read_sensor"));
    }
}
