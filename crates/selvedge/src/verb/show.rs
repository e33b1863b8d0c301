//! `selvedge show`: what a model is, and what it will need.

use std::io::{self, Write};

use kernels::page::CacheFormat;
use lm::chat::template::TemplateSource;
use lm::family;
use lm::gguf::Gguf;
use lm::gguf::value::{Array, Value};
use lm::memory::Needed;
use lm::model::Facts;
use lm::shape::{Pooling, Shape};
use lm::speech;
use lm::tokenizer::Tokenizer;
use serde::Serialize;
use serde_json::json;

use crate::amount::{show_bytes, show_parameters};
use crate::engine::{open, parse_tokens};
use crate::models::{Located, Models};
use crate::recording::show_count;
use crate::table::{Side, Table};

/// Show what a model is, and how much memory it will need.
///
/// Reads the head of the file alone, so it is quick with a model of any size.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A .gguf file, or the name of a model on this machine.
    model: String,

    #[command(flatten)]
    models: Models,

    /// Reckon the memory for these contexts too.
    #[arg(long, value_name = "TOKENS,…", value_delimiter = ',', value_parser = parse_tokens)]
    context: Vec<usize>,

    /// List the tensors.
    #[arg(long, conflicts_with_all = ["metadata", "template"])]
    tensors: bool,

    /// List what else the file says.
    #[arg(long, conflicts_with = "template")]
    metadata: bool,

    /// Print the chat template alone.
    #[arg(long)]
    template: bool,

    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// The contexts that memory is reckoned for, beside the model's own.
const CONTEXTS: [usize; 2] = [2_048, 8_192];

/// Characters of a text among the metadata that are shown.
const SHOWN_MAX: usize = 100;

/// Everything that is shown.
#[derive(Serialize)]
struct Page {
    name: String,
    file: String,
    #[serde(flatten)]
    facts: Facts,
    tensors: usize,
    /// Numbers and bytes in each format, most bytes first.
    formats: Vec<Share>,
    /// Absent where the model cannot run here.
    shape: Option<ShapePage>,
    /// Why it cannot run here.
    unsupported: Option<String>,
    vocabulary: Option<usize>,
    tokenizer: Option<String>,
    chat: Chat,
    memory: Vec<Memory>,
}

#[derive(Serialize)]
struct Share {
    format: String,
    tensors: usize,
    numbers: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct ShapePage {
    layers: usize,
    width: usize,
    feed_forward: usize,
    heads: usize,
    kv_heads: usize,
    head_width: usize,
    window: Option<usize>,
    pooling: Option<&'static str>,
}

#[derive(Serialize)]
struct Chat {
    template: bool,
    /// `file`, or the format that its vocabulary gives away.
    source: Option<&'static str>,
    /// Of the family that writes calls so; absent where the template shows no tools.
    tools: Option<&'static str>,
    thoughts: bool,
    system: Option<bool>,
    /// Why it cannot chat.
    problem: Option<String>,
}

/// Bytes needed at one context, for each format of the cache.
#[derive(Serialize)]
struct Memory {
    context: usize,
    weights_bytes: u64,
    f16_bytes: Option<u64>,
    q8_0_bytes: Option<u64>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let located = args.models.locate(&args.model)?;
    let file = open(&located)?;
    let mut out = io::stdout().lock();
    if args.tensors {
        return Ok(show_tensors(&mut out, &file, args.json)?);
    }
    if args.metadata {
        return Ok(show_metadata(&mut out, &file, args.json)?);
    }
    if args.template {
        let tokenizer = Tokenizer::from_metadata(file.metadata())?;
        let template = speech::template(file.metadata(), &tokenizer)?;
        let text = template.text();
        match args.json {
            true => writeln!(out, "{}", json!({ "template": text }))?,
            false => write!(out, "{text}{}", if text.ends_with('\n') { "" } else { "\n" })?,
        }
        return Ok(());
    }
    let page = page(located, &file, &args.context);
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&page)?)?,
        false => print(&mut out, &page)?,
    }
    Ok(())
}

fn page(located: Located, file: &Gguf, contexts: &[usize]) -> Page {
    let shape = family::shape(file.metadata());
    let tokenizer = Tokenizer::from_metadata(file.metadata());
    let memory = shape.as_ref().map_or_else(|_| Vec::new(), |shape| memory(file, shape, contexts));
    let refusal = shape.as_ref().err().map(ToString::to_string).or_else(|| {
        let unknown = file.tensors().iter().find(|tensor| tensor.format.known().is_none())?;
        Some(format!("its tensor {} is {}, which is not computed here", unknown.name, unknown.format))
    });
    Page {
        name: located.name,
        file: located.path.display().to_string(),
        facts: Facts::of(file),
        tensors: file.tensors().len(),
        formats: formats(file),
        unsupported: refusal.or_else(|| tokenizer.as_ref().err().map(ToString::to_string)),
        vocabulary: tokenizer.as_ref().ok().map(Tokenizer::vocabulary_size),
        tokenizer: file.metadata().string("tokenizer.ggml.model").ok().map(|model| {
            let pre = file.metadata().string("tokenizer.ggml.pre").ok();
            pre.map_or_else(|| model.to_owned(), |pre| format!("{model}, {pre}"))
        }),
        chat: chat(file, tokenizer.as_ref().ok(), shape.as_ref().is_ok_and(|shape| shape.causal)),
        shape: shape.ok().map(|shape| ShapePage::of(&shape)),
        memory,
    }
}

impl ShapePage {
    fn of(shape: &Shape) -> ShapePage {
        ShapePage {
            layers: shape.layers,
            width: shape.width,
            feed_forward: shape.feed_forward,
            heads: shape.heads.queries,
            kv_heads: shape.heads.keys,
            head_width: shape.heads.width,
            window: shape.window.as_ref().map(|window| window.len),
            pooling: shape.pooling.map(|pooling| match pooling {
                Pooling::Mean => "mean",
                Pooling::First => "first",
                Pooling::Last => "last",
            }),
        }
    }
}

fn formats(file: &Gguf) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for tensor in file.tensors() {
        let format = tensor.format.to_string();
        let at = shares.iter().position(|share| share.format == format).unwrap_or_else(|| {
            shares.push(Share { format, tensors: 0, numbers: 0, bytes: 0 });
            shares.len() - 1
        });
        let share = &mut shares[at];
        share.tensors += 1;
        share.numbers = share.numbers.saturating_add(tensor.len());
        share.bytes = share.bytes.saturating_add(tensor.bytes);
    }
    shares.sort_by_key(|share| std::cmp::Reverse(share.bytes));
    shares
}

fn chat(file: &Gguf, tokenizer: Option<&Tokenizer>, writes: bool) -> Chat {
    let none =
        Chat { template: false, source: None, tools: None, thoughts: false, system: None, problem: None };
    let Some(tokenizer) = tokenizer.filter(|_| writes) else { return none };
    match speech::template(file.metadata(), tokenizer) {
        Ok(template) => {
            let (abilities, dialect) = (template.abilities(true), template.dialect(true));
            Chat {
                template: true,
                source: Some(match template.source() {
                    TemplateSource::File => "file",
                    TemplateSource::Vocabulary(name) => name,
                }),
                tools: abilities.tools.then_some(dialect.calls.name),
                thoughts: dialect.thoughts.is_some(),
                system: Some(abilities.system),
                problem: None,
            }
        }
        Err(lm::chat::template::ChatError::NoTemplate) => none,
        Err(error) => Chat { problem: Some(error.to_string()), ..none },
    }
}

fn memory(file: &Gguf, shape: &Shape, contexts: &[usize]) -> Vec<Memory> {
    let trained = shape.context.max(1);
    let mut all: Vec<usize> =
        CONTEXTS.into_iter().filter(|context| *context < trained).chain([trained]).collect();
    all.extend(contexts.iter().filter(|context| **context <= trained));
    all.sort_unstable();
    all.dedup();
    let at = |context: usize| {
        let needed = |cache| Needed::reckon(file, shape, context, cache).ok().map(|needed| needed.total());
        Memory {
            context,
            weights_bytes: file.tensors().iter().map(|tensor| tensor.bytes).sum(),
            f16_bytes: needed(CacheFormat::F16),
            q8_0_bytes: needed(CacheFormat::Q8_0),
        }
    };
    all.into_iter().map(at).collect()
}

fn print(out: &mut impl Write, page: &Page) -> io::Result<()> {
    let facts = &page.facts;
    let mut lines = Table::plain([Side::Left, Side::Left]).indented(2);
    let mut line = |name: &str, value: String| lines.row([name.to_owned(), value]);
    if let Some(name) = &facts.name {
        line("called", name.clone());
    }
    line("family", facts.family.clone());
    line("parameters", format!("{} ({})", show_parameters(facts.parameters), show_count(facts.parameters)));
    line("quantisation", facts.quantisation.clone());
    line("size", format!("{} in {} tensors", show_bytes(facts.bytes), page.tensors));
    if let Some(context) = facts.context {
        line("context", format!("{} tokens", show_count(context)));
    }
    if let Some(shape) = &page.shape {
        let kv = if shape.kv_heads == shape.heads {
            String::new()
        } else {
            format!(" ({} of keys)", shape.kv_heads)
        };
        line("layers", shape.layers.to_string());
        line(
            "width",
            format!("{}, {} within", show_count(shape.width as u64), show_count(shape.feed_forward as u64)),
        );
        line("heads", format!("{}{kv} of {}", shape.heads, shape.head_width));
        if let Some(window) = shape.window {
            line("window", format!("{} tokens, in some layers", show_count(window as u64)));
        }
        if let Some(pooling) = shape.pooling {
            line("pooling", format!("{pooling}: it gives embeddings"));
        }
    }
    if let Some(size) = page.vocabulary {
        let model = page.tokenizer.as_ref().map_or_else(String::new, |model| format!(" ({model})"));
        line("vocabulary", format!("{} tokens{model}", show_count(size as u64)));
    }
    if page.shape.as_ref().is_none_or(|shape| shape.pooling.is_none()) {
        line("chat", show_chat(&page.chat));
    }
    line("licence", facts.licence.clone().unwrap_or_else(|| "the file does not say".to_owned()));
    line("file", page.file.clone());
    writeln!(out, "{}", page.name)?;
    write!(out, "{lines}")?;

    writeln!(out, "\nformats")?;
    let all: u64 = page.formats.iter().map(|share| share.bytes).sum();
    let mut formats = Table::plain([Side::Left, Side::Right, Side::Right, Side::Left]).indented(2);
    for share in &page.formats {
        let part = share.bytes as f64 / all.max(1) as f64;
        let bar = "█".repeat((part * 30.0).round() as usize);
        let tensors = format!("{} tensor{}", share.tensors, if share.tensors == 1 { "" } else { "s" });
        formats.row([
            share.format.clone(),
            tensors,
            show_bytes(share.bytes),
            format!("{bar} {:.0} %", part * 100.0),
        ]);
    }
    write!(out, "{formats}")?;

    if !page.memory.is_empty() {
        writeln!(out, "\nmemory, with keys and values in")?;
        let mut table =
            Table::new([("context", Side::Right), ("f16", Side::Right), ("q8_0", Side::Right)]).indented(2);
        let show = |bytes: Option<u64>| bytes.map_or_else(|| "–".to_owned(), show_bytes);
        for memory in &page.memory {
            table.row([show_count(memory.context as u64), show(memory.f16_bytes), show(memory.q8_0_bytes)]);
        }
        write!(out, "{table}")?;
    }
    if let Some(why) = &page.unsupported {
        writeln!(out, "\nIt cannot run here: {why}")?;
    }
    Ok(())
}

fn show_chat(chat: &Chat) -> String {
    if let Some(problem) = &chat.problem {
        return format!("its template cannot be used: {problem}");
    }
    if !chat.template {
        return "no template: it continues text".to_owned();
    }
    let mut parts = vec![match chat.source {
        Some("file") | None => "template in the file".to_owned(),
        Some(name) => format!("no template in the file; its vocabulary is {name}"),
    }];
    parts.push(
        chat.tools.map_or_else(|| "no tools".to_owned(), |name| format!("tools as {name} writes them")),
    );
    if chat.thoughts {
        parts.push("can think aloud".to_owned());
    }
    if chat.system == Some(false) {
        parts.push("no system messages".to_owned());
    }
    parts.join(", ")
}

fn show_tensors(out: &mut impl Write, file: &Gguf, json: bool) -> io::Result<()> {
    if json {
        let tensors: serde_json::Value = file
            .tensors()
            .iter()
            .map(|tensor| {
                json!({
                    "name": tensor.name,
                    "dims": tensor.dims,
                    "format": tensor.format.to_string(),
                    "bytes": tensor.bytes,
                })
            })
            .collect();
        return writeln!(out, "{}", serde_json::to_string_pretty(&tensors)?);
    }
    let mut table = Table::new([
        ("tensor", Side::Left),
        ("columns × rows", Side::Right),
        ("format", Side::Left),
        ("size", Side::Right),
    ]);
    for tensor in file.tensors() {
        let dims: Vec<String> = tensor.dims.iter().map(ToString::to_string).collect();
        table.row([
            tensor.name.clone(),
            dims.join(" × "),
            tensor.format.to_string(),
            show_bytes(tensor.bytes),
        ]);
    }
    write!(out, "{table}")
}

fn show_metadata(out: &mut impl Write, file: &Gguf, json: bool) -> io::Result<()> {
    if json {
        let entries = file.metadata().iter().map(|(key, value)| (key.to_owned(), to_json(value)));
        let entries: serde_json::Map<String, serde_json::Value> = entries.collect();
        return writeln!(out, "{}", serde_json::to_string_pretty(&entries)?);
    }
    let mut table = Table::plain([Side::Left, Side::Left]);
    for (key, value) in file.metadata().iter() {
        let shown = match to_json(value) {
            serde_json::Value::Array(items) => {
                let first: Vec<String> = items.iter().take(4).map(ToString::to_string).collect();
                let more = if items.len() > first.len() { ", …" } else { "" };
                format!("{} items: {}{more}", show_count(items.len() as u64), first.join(", "))
            }
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let mut line: String =
            shown.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '␤' } else { c }).collect();
        if shown.chars().count() > SHOWN_MAX {
            line.push('…');
        }
        table.row([key.to_owned(), line]);
    }
    write!(out, "{table}")
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::U8(n) => json!(n),
        Value::I8(n) => json!(n),
        Value::U16(n) => json!(n),
        Value::I16(n) => json!(n),
        Value::U32(n) => json!(n),
        Value::I32(n) => json!(n),
        Value::F32(n) => json!(n),
        Value::Bool(truth) => json!(truth),
        Value::String(text) => json!(text),
        Value::Bytes(bytes) => json!(String::from_utf8_lossy(bytes)),
        Value::U64(n) => json!(n),
        Value::I64(n) => json!(n),
        Value::F64(n) => json!(n),
        Value::Array(array) => match array {
            Array::U8(items) => json!(items),
            Array::I8(items) => json!(items),
            Array::U16(items) => json!(items),
            Array::I16(items) => json!(items),
            Array::U32(items) => json!(items),
            Array::I32(items) => json!(items),
            Array::F32(items) => json!(items),
            Array::Bool(items) => json!(items),
            Array::Strings(items) => {
                let texts =
                    (0..items.len()).map(|at| String::from_utf8_lossy(items.bytes(at).unwrap_or_default()));
                json!(texts.collect::<Vec<_>>())
            }
            Array::U64(items) => json!(items),
            Array::I64(items) => json!(items),
            Array::F64(items) => json!(items),
        },
    }
}
