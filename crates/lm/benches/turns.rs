//! Says what serving makes of a model here, for who changes it: how much sooner a known beginning has its first token, what
//! a form costs beside free text, and what guessing ahead saves:
//! `cargo bench -p lm --bench turns -- FILE [THREADS [DRAFT [TIMES]]]`.
//!
//! The ways take turns, and the median of what each took is told, so that what else the machine does falls on all alike.
//! A model of random weights writes nonsense, which is as quick as sense, but whose guesses are right less often.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::page::CacheFormat;
use lm::batch::request::{Event, Request};
use lm::batch::{Batch, Limits};
use lm::constraint::vocabulary::Vocabulary;
use lm::constraint::{Constraint, Grammar};
use lm::guess::{Draft, Speculation};
use lm::model::Model;
use lm::sample::Settings;
use lm::speech;
use rustix::time::{ClockId, clock_gettime};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Tokens of the beginning that is known, and written in each answer.
const KNOWN: usize = 2_000;
const WRITTEN: usize = 128;

fn main() -> Outcome<()> {
    // `cargo bench` adds a word of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let file = args.first().ok_or("usage: turns FILE [THREADS [DRAFT [TIMES]]]")?;
    let number = |at: usize, otherwise: usize| args.get(at).map_or(Ok(otherwise), |text| text.parse());
    let threads = NonZeroUsize::new(number(1, 1)?).ok_or("at least one thread")?;
    let times = number(3, 3)?;
    let compute = Arc::new(Compute::new(Isa::from_environment()?, threads));
    let model = Arc::new(Model::open(Path::new(file), Arc::clone(&compute))?);
    let draft = args.get(2).filter(|path| path.as_str() != "-").map(|path| {
        let small = Arc::new(Model::open(Path::new(path), compute)?);
        Outcome::Ok(Draft::new(small, &model, CacheFormat::F16)?.unsure())
    });
    let draft = draft.transpose()?;

    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for time in 0..times as u32 {
        let mut batch = batch(&model, Speculation::default())?;
        let known: Vec<u32> = (0..KNOWN as u32).map(|at| 300 + (at * 7919 + time) % 20_000).collect();
        let first = |batch: &mut Batch, end: u32| {
            written(batch, Request { max_tokens: Some(1), ..request([&known[..], &[end]].concat()) })
        };
        cold.push(first(&mut batch, 301)?.first_s);
        warm.push(first(&mut batch, 302)?.first_s);
    }
    let (cold, warm) = (median(cold), median(warm));
    println!(
        "first token after {KNOWN} tokens: {:.1} ms; when they are known: {:.2} ms, {:.0} times sooner",
        1e3 * cold,
        1e3 * warm,
        cold / warm
    );

    let vocabulary = speech::vocabulary(&model.tokenizer)?;
    let lookup = Speculation { lookup: true, ..Speculation::default() };
    let forced = Speculation { forced: true, ..Speculation::default() };
    let none = Speculation::default;
    let mut ways = vec![
        ("free text", none(), false, 1.0),
        ("a JSON schema", none(), true, 1.0),
        ("a JSON schema, guessing", forced, true, 1.0),
        ("greedy", none(), false, 0.0),
        ("greedy, looking up", lookup.clone(), false, 0.0),
        ("free text, looking up", lookup, false, 1.0),
    ];
    if let Some(draft) = draft {
        let speculation = Speculation { draft: Some(draft), ..Speculation::default() };
        ways.push(("greedy, with a draft", speculation.clone(), false, 0.0));
        ways.push(("free text, with a draft", speculation, false, 1.0));
    }
    let mut found: Vec<Vec<Written>> = ways.iter().map(|_| Vec::new()).collect();
    for _ in 0..times {
        for ((_, speculation, form, temperature), found) in ways.iter().zip(&mut found) {
            let mut batch = batch(&model, speculation.clone())?;
            let request = Request {
                constraint: form.then(|| self::form(&vocabulary)).transpose()?,
                sampling: Settings { temperature: *temperature, seed: 1, ..Settings::default() },
                ..request((0..64).map(|at| 300 + at * 37).collect())
            };
            found.push(written(&mut batch, request)?);
        }
    }
    for ((name, ..), found) in ways.iter().zip(found) {
        let Written { guessed, accepted, .. } = found[0];
        let ms = 1e3 * median(found.iter().map(|one| one.token_s).collect());
        println!("{name:24} {ms:7.2} ms a token; {accepted} of {guessed} guessed tokens were right");
    }
    Ok(())
}

fn batch(model: &Arc<Model>, speculation: Speculation) -> Outcome<Batch> {
    let pages = model.network.page_shape(CacheFormat::F16)?;
    let limits = Limits {
        running: 1,
        waiting: 1,
        step_tokens: 512,
        context: 4_096,
        cache_bytes: 2 << 30,
        prefix_bytes: 2 << 30,
    };
    Ok(Batch::new(Arc::clone(model), pages, limits).speculating(speculation))
}

fn request(prompt: Vec<u32>) -> Request {
    Request {
        prompt,
        max_tokens: Some(WRITTEN),
        sampling: Settings::default(),
        top: 0,
        echo: false,
        constraint: None,
        ignore_end: true,
        adapter: None,
    }
}

/// A list of readings with names, numbers, and one of a few words, longer than any answer here.
fn form(vocabulary: &Vocabulary) -> Outcome<Constraint> {
    let reading = serde_json::json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 24 },
            "temperature": { "type": "number" },
            "state": { "enum": ["running", "resting", "broken"] },
            "remarks": { "type": "array", "items": { "type": "string", "maxLength": 40 }, "maxItems": 2 },
        },
        "required": ["name", "temperature", "state", "remarks"],
        "additionalProperties": false,
    });
    let schema = serde_json::json!({ "type": "array", "items": reading, "minItems": 50 });
    Ok(Constraint::new(&Grammar::json_schema(schema, true), vocabulary)?)
}

#[derive(Default)]
struct Written {
    /// Seconds to the first token, and for each after it.
    first_s: f64,
    token_s: f64,
    guessed: usize,
    accepted: usize,
}

fn written(batch: &mut Batch, request: Request) -> Outcome<Written> {
    let (mut out, mut tokens, mut first) = (Written::default(), 0, None);
    let begun = seconds();
    batch.submit(request)?;
    while batch.busy() {
        for event in batch.step()? {
            match event {
                Event::Token { .. } => tokens += 1,
                Event::Guessed { guessed, accepted, .. } => {
                    out.guessed += guessed;
                    out.accepted += accepted;
                }
                _ => {}
            }
        }
        if tokens > 0 && first.is_none() {
            out.first_s = seconds() - begun;
            first = Some(seconds());
        }
    }
    let after = first.map_or(0.0, |first| seconds() - first);
    out.token_s = after / (tokens.max(2) - 1) as f64;
    Ok(out)
}

/// By the clock on the wall.
fn seconds() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
