//! `selvedge bench MODEL…`: how fast language models are on this machine.

use std::io::{self, Write};
use std::num::NonZeroUsize;

use kernels::pool::cores::default_threads;
use serde::Serialize;
use wire::world::System;

use crate::amount::{show_bytes, show_number, show_parameters, show_time_ns};
use crate::engine::{CacheType, parse_threads};
use crate::models::Models;
use crate::progress;
use crate::recording::show_count;
use crate::speed::{FIRST_PROMPT, Plan, Rates, Speed, Subject, measure};
use crate::table::{Side, Table};
use lm::memory::machine::{peak_bytes, reset_peak};

#[derive(clap::Args)]
pub(crate) struct OfModels {
    /// .gguf files, or names of models on this machine.
    #[arg(required = true)]
    model: Vec<String>,

    /// On so many threads, one after the other; without it on one, and on one for each physical core.
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', value_parser = parse_threads)]
    threads: Vec<NonZeroUsize>,

    /// Tokens of a prompt.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    prompt: u32,

    /// Tokens of an answer.
    #[arg(long, value_name = "TOKENS", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    answer: u32,

    /// How often each is measured; the median counts.
    #[arg(long, value_name = "TIMES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    repetitions: u32,

    /// How keys and values are kept: f32, f16 or q8_0.
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    cache_type: CacheType,

    #[command(flatten)]
    models: Models,

    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// One model, measured.
#[derive(Serialize)]
struct Report {
    name: String,
    #[serde(flatten)]
    subject: Subject,
    /// The most memory that this process had while it was measured; absent where that cannot be told.
    peak_bytes: Option<u64>,
    speeds: Vec<Speed>,
}

pub(super) fn run(args: &OfModels) -> anyhow::Result<()> {
    let mut threads = args.threads.clone();
    if threads.is_empty() {
        threads = vec![NonZeroUsize::MIN, default_threads()];
        threads.dedup();
    }
    // Whatever is not there is said before anything is measured.
    let located: Result<Vec<_>, _> = args.model.iter().map(|model| args.models.locate(model)).collect();
    let located = located?;
    let plan = Plan {
        prompt: args.prompt as usize,
        answer: args.answer as usize,
        repetitions: args.repetitions as usize,
        cache: args.cache_type.0,
    };
    let clock = System::new();
    let bar = progress::steps((located.len() * threads.len() * plan.repetitions * 2) as u64)
        .with_prefix("measuring");
    let mut reports = Vec::new();
    let mut out = io::stdout().lock();
    for (at, model) in located.iter().enumerate() {
        bar.set_message(model.name.clone());
        let alone = reset_peak() || at == 0;
        let (mut speeds, mut subject) = (Vec::new(), None);
        for threads in &threads {
            let (found, speed) = measure(&model.path, *threads, &plan, &clock, &mut || bar.inc(1))?;
            speeds.push(speed);
            subject = Some(found);
        }
        let Some(subject) = subject else { continue };
        let peak_bytes = if alone { peak_bytes() } else { None };
        let report = Report { name: model.name.clone(), subject, peak_bytes, speeds };
        if !args.json {
            bar.suspend(|| print(&mut out, &report))?;
        }
        reports.push(report);
    }
    bar.finish_and_clear();
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&reports)?)?,
        false => write!(
            out,
            "Medians of {} with half the range. A prompt goes through the model {} tokens at a time, up to the logits of its \
             last;\nan answer begins after one token and takes the most probable next, choosing included. First token: of a \
             prompt of\n{FIRST_PROMPT}, right after loading. GB/s: weights read for each token of an answer. Peak memory: of \
             the whole process.\n",
            plan.repetitions, 512
        )?,
    }
    Ok(())
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let Report { name, subject, peak_bytes, speeds } = report;
    let facts = &subject.facts;
    writeln!(
        out,
        "{name}: {}, {} parameters, {}, {}",
        facts.family,
        show_parameters(facts.parameters),
        facts.quantisation,
        show_bytes(facts.bytes)
    )?;
    let kernels: Vec<String> =
        subject.kernels.iter().map(|(name, count)| format!("{name} ({count})")).collect();
    let peak = peak_bytes.map_or_else(String::new, |bytes| format!("; peak memory {}", show_bytes(bytes)));
    writeln!(out, "kernels {}{peak}", kernels.join(", "))?;
    let (prompt, answer) = speeds.first().map_or((0, 0), |speed| (speed.prompt_tokens, speed.answer_tokens));
    let mut table = Table::new([
        ("threads", Side::Right),
        ("loaded in", Side::Right),
        ("first token", Side::Right),
        (&format!("prompt of {}", show_count(prompt as u64)), Side::Right),
        ("", Side::Left),
        (&format!("answer of {}", show_count(answer as u64)), Side::Right),
        ("", Side::Left),
        ("weights read", Side::Right),
    ])
    .indented(2);
    let time = |ms: f64| show_time_ns((ms * 1e6) as u64);
    let per_second = |rates: &Rates| format!("{} tokens/s", show_number(rates.median));
    let spread = |rates: &Rates| format!("± {:.0} %", rates.spread() * 100.0);
    for speed in speeds {
        let answer = speed.answer.as_ref();
        let read = answer.map(|rates| rates.median * subject.bytes_a_token as f64 / 1e9);
        let none = || "–".to_owned();
        table.row([
            speed.threads.to_string(),
            time(speed.load_ms),
            speed.first_token_ms.map_or_else(none, time),
            per_second(&speed.prompt),
            spread(&speed.prompt),
            answer.map_or_else(none, per_second),
            answer.map(spread).unwrap_or_default(),
            read.map_or_else(none, |read| format!("{} GB/s", show_number(read))),
        ]);
    }
    writeln!(out, "{table}")
}
