//! `selvedge bench MODEL…`: how fast language models are on this machine.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::time::Duration;

use kernels::cpu::Isa;
use kernels::pool::cores::default_threads;
use lm::memory::machine::{peak_bytes, reset_peak};
use serde::Serialize;
use wire::world::System;

use crate::amount::{show_bytes, show_number, show_parameters, show_time_ns};
use crate::engine::{CacheType, parse_threads};
use crate::limits::Limits;
use crate::models::Models;
use crate::progress;
use crate::recording::show_count;
use crate::speed::{FIRST_PROMPT, Plan, Rates, STEP_TOKENS, Speed, Subject, measure};
use crate::table::{Side, Table};
use crate::verb::bench::against::{self, Comparison};
use crate::verb::bench::peer::Peer;

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

    /// Compare with another engine's llama-bench, on the same file, in turns; may be given more than once. Words after PATH
    /// are handed to it, as in 'llama.cpp=bin/llama-bench --repack 0'.
    #[arg(long, value_name = "NAME=PATH")]
    against: Vec<Peer>,

    /// Compare on several threads once more, beside a process that takes a core for no use.
    #[arg(long, requires = "against")]
    busy: bool,

    /// Seconds after which another engine that has not ended is ended, and the comparison with it.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, requires = "against", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    /// Leave out what the machine could do at most, which takes a second and 256 MB of memory to measure.
    #[arg(long, conflicts_with = "against")]
    no_limits: bool,

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
    speeds: Vec<Row>,
}

/// One model on some threads, beside what the machine could do at most.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    speed: Speed,
    /// Absent where they were not asked for.
    limits: Option<Limits>,
    /// Of the int8 peak; nothing but multiplications with weights counts.
    prompt_share: Option<f64>,
    /// Of the reading of memory.
    answer_share: Option<f64>,
}

impl Row {
    fn new(speed: Speed, limits: Option<Limits>, subject: &Subject) -> Row {
        let operations = speed.prompt.median * subject.operations_a_token as f64;
        let answer = speed.answer.as_ref();
        let bytes = answer.map(|answer| answer.median * subject.bytes_a_token as f64);
        Row {
            prompt_share: limits.map(|limits| limits.share_of_peak(operations)),
            answer_share: limits.zip(bytes).and_then(|(limits, bytes)| limits.share_of_reading(bytes)),
            speed,
            limits,
        }
    }
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
    if !args.against.is_empty() {
        let cache = args.cache_type.0;
        let limit = Duration::from_secs(args.limit.into());
        let comparison = Comparison {
            peers: &args.against,
            threads: &threads,
            busy: args.busy,
            plan,
            limit,
            cache_type: CacheType(cache).name(),
        };
        return against::run(&located, &comparison, args.json);
    }
    let clock = System::new();
    let isa = Isa::from_environment()?;
    let limits_of = |threads| (!args.no_limits).then(|| Limits::measure(isa, threads, &clock));
    let bar = progress::steps((located.len() * threads.len() * plan.repetitions * 2) as u64)
        .with_prefix("measuring");
    let mut reports = Vec::new();
    let mut out = io::stdout().lock();
    for (at, model) in located.iter().enumerate() {
        bar.set_message(model.name.clone());
        let (mut speeds, mut subject, mut peak) = (Vec::new(), None, None);
        for threads in &threads {
            let before = limits_of(*threads);
            // What was read to know the limits is not the model's memory.
            let alone = reset_peak() || (at == 0 && args.no_limits);
            let (found, speed) = measure(&model.path, *threads, &plan, &clock, &mut || bar.inc(1))?;
            peak = peak.max(peak_bytes().filter(|_| alone));
            let limits = before.zip(limits_of(*threads)).map(|(before, after)| before.higher(after));
            speeds.push(Row::new(speed, limits, &found));
            subject = Some(found);
        }
        let Some(subject) = subject else { continue };
        let peak_bytes = peak;
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
            "Tokens a second: medians of {} with half the range. A prompt goes through the model {STEP_TOKENS} tokens at a\ntime, up to the \
             logits of its last; an answer begins after one token and takes the most probable\nnext, choosing included. First \
             token: of a prompt of {FIRST_PROMPT}, right after loading. Weights read: for each\ntoken of an answer. of peak, of \
             reading: shares of what the machine can do at most. Peak memory: of\nthe whole process.\n",
            plan.repetitions
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
    let (prompt, answer) =
        speeds.first().map_or((0, 0), |row| (row.speed.prompt_tokens, row.speed.answer_tokens));
    let mut table = Table::new([
        ("threads", Side::Right),
        ("loaded in", Side::Right),
        ("first token", Side::Right),
        (&format!("prompt of {}", show_count(prompt as u64)), Side::Right),
        ("of peak", Side::Right),
        (&format!("answer of {}", show_count(answer as u64)), Side::Right),
        ("weights read", Side::Right),
        ("of reading", Side::Right),
    ])
    .indented(2);
    let time = |ms: f64| show_time_ns((ms * 1e6) as u64);
    let rate = |rates: &Rates| format!("{} ± {:.0} %", show_number(rates.median), rates.spread() * 100.0);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let none = || "–".to_owned();
    for Row { speed, prompt_share, answer_share, .. } in speeds {
        let answer = speed.answer.as_ref();
        let read = answer.map(|rates| rates.median * subject.bytes_a_token as f64 / 1e9);
        table.row([
            speed.threads.to_string(),
            time(speed.load_ms),
            speed.first_token_ms.map_or_else(none, time),
            rate(&speed.prompt),
            prompt_share.map_or_else(none, percent),
            answer.map_or_else(none, rate),
            read.map_or_else(none, |read| format!("{} GB/s", show_number(read))),
            answer_share.map_or_else(none, percent),
        ]);
    }
    write!(out, "{table}")?;
    for Row { speed, limits, .. } in speeds {
        if let Some(limits) = limits {
            writeln!(out, "  {}", limits.line(speed.threads))?;
        }
    }
    writeln!(out)
}
