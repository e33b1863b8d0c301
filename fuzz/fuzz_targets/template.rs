//! A chat template from a stranger's file, and what a model may write: any template gives a prompt or an error, any text
//! is an answer, and how it was cut changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lm::chat::answer::{Answer, Parsed};
use lm::chat::dialect::Dialect;
use lm::chat::message::{Message, Role, Tool};
use lm::chat::template::{Options, Template, TemplateTexts};
use serde_json::{Map, json};

fuzz_target!(|input: (&str, &str, u8, bool)| {
    let (template, text, number, flag) = input;
    let tools = [Tool {
        name: "f".to_string(),
        description: None,
        parameters: Some(json!({"type": "object", "properties": {"a": {"type": "string"}}})),
        strict: flag,
    }];
    let texts = TemplateTexts { default: Some(template.to_string()), bos: "<s>".to_string(), ..TemplateTexts::default() };
    if let Ok(template) = Template::new(&texts, |_| false) {
        let messages = [Message::new(Role::System, "s"), Message::new(Role::User, text), Message::new(Role::Assistant, "a")];
        let options = Options { add_generation_prompt: flag, now: i64::from(number) << 24, variables: Map::new() };
        let shown = if flag { &tools[..] } else { &[] };
        let _ = template.render(&messages, shown, &options).map_err(|error| assert!(!error.to_string().is_empty()));
    }
    let every: Vec<Dialect> = Dialect::every().collect();
    let dialect = every[usize::from(number) % every.len()];
    let whole = Answer::parse(dialect, &tools, flag, text);
    let mut answer = Answer::new(dialect, &tools, flag);
    let mut pieces = Parsed::default();
    for character in text.chars() {
        answer.push(character.encode_utf8(&mut [0; 4])).into_iter().for_each(|delta| pieces.add(delta));
    }
    answer.finish().into_iter().for_each(|delta| pieces.add(delta));
    assert_eq!(whole, pieces);
});
