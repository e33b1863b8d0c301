//! `selvedge bench MODEL… --against NAME=PATH`: this engine beside others, on the same file, threads and lengths.
//!
//! A machine changes its speed by the minute. So the engines take turns: in each round every one is measured once, in a
//! process of its own (ours too), beginning with another one each time. A ratio is of two figures of one round, and its
//! median over the rounds is what is told.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kernels::cpu::Isa;
use serde::{Deserialize, Serialize};
use wire::world::System;

use crate::amount::{show_bytes, show_number, show_parameters};
use crate::limits::Limits;
use crate::models::Located;
use crate::progress;
use crate::speed::{Plan, Rates};
use crate::table::{Side, Table};
use crate::verb::bench::models::show_limits;
use crate::verb::bench::peer::{Peer, Run, Task, output};

/// How engines are compared.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    pub(super) peers: &'a [Peer],
    pub(super) threads: &'a [NonZeroUsize],
    pub(super) plan: Plan,
    /// As `--cache-type` takes it.
    pub(super) cache_type: &'a str,
    /// How long a program may take.
    pub(super) limit: Duration,
}

/// A model and how it fared on each engine.
#[derive(Serialize)]
struct Report {
    name: String,
    #[serde(flatten)]
    subject: Subject,
    rounds: usize,
    prompt_tokens: usize,
    answer_tokens: usize,
    speeds: Vec<Beside>,
}

/// What `bench --json` says of a model.
#[derive(Serialize, Deserialize)]
struct Subject {
    family: String,
    parameters: u64,
    quantisation: String,
    bytes: u64,
    bytes_a_token: u64,
    operations_a_token: u64,
}

/// The engines on some threads, ours first.
#[derive(Serialize)]
struct Beside {
    threads: usize,
    limits: Limits,
    engines: Vec<Engine>,
}

#[derive(Serialize)]
struct Engine {
    name: String,
    version: Option<String>,
    prompt: Rates,
    answer: Rates,
    /// Our speed divided by its speed, of each round the median.
    prompt_ratio: f64,
    answer_ratio: f64,
    /// Of the int8 peak, where nothing but multiplications with weights counts.
    prompt_share: f64,
    /// Of the reading of memory.
    answer_share: Option<f64>,
}

/// What our own process prints.
#[derive(Deserialize)]
struct Ours {
    #[serde(flatten)]
    subject: Subject,
    speeds: Vec<OurSpeed>,
}

#[derive(Deserialize)]
struct OurSpeed {
    prompt_tokens: usize,
    prompt: Rates,
    answer: Option<Rates>,
}

/// Compares on each of the models, and prints.
pub(super) fn run(models: &[Located], comparison: &Comparison<'_>, json: bool) -> anyhow::Result<()> {
    let Comparison { peers, threads, plan, .. } = comparison;
    let steps = models.len() * threads.len() * plan.repetitions * (peers.len() + 1);
    let bar = progress::steps(steps as u64).with_prefix("measuring");
    let mut out = io::stdout().lock();
    let mut reports = Vec::new();
    for model in models {
        let report = compare(model, comparison, &mut |engine| {
            bar.set_message(format!("{}, {engine}", model.name));
            bar.inc(1);
        })?;
        if !json {
            bar.suspend(|| print(&mut out, &report))?;
        }
        reports.push(report);
    }
    bar.finish_and_clear();
    match json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&reports)?)?,
        false => write!(
            out,
            "Tokens a second: medians of {} rounds with half the range. In each round every engine is measured\nonce, in a \
             process of its own, after loading and a first run that do not count. ×: our speed by\ntheirs, median of the \
             rounds' ratios. of peak, of reading: shares of what the machine can do at\nmost, measured between the rounds.\n",
            plan.repetitions
        )?,
    }
    Ok(())
}

fn compare(
    model: &Located,
    comparison: &Comparison<'_>,
    tell: &mut dyn FnMut(&str),
) -> anyhow::Result<Report> {
    let Comparison { peers, threads, plan, limit, .. } = comparison;
    let clock = System::new();
    let isa = Isa::from_environment()?;
    let (mut subject, mut speeds) = (None, Vec::new());
    for threads in *threads {
        let Plan { prompt, answer, .. } = *plan;
        let task = Task { model: &model.path, threads: threads.get(), prompt, answer, limit: *limit };
        let mut limits = Limits::measure(isa, *threads, &clock);
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); peers.len() + 1];
        for round in 0..plan.repetitions {
            for turn in 0..runs.len() {
                // Nobody always comes after the same one.
                let at = (turn + round) % runs.len();
                let run = match at.checked_sub(1).map(|peer| &peers[peer]) {
                    Some(peer) => peer.run(&task)?,
                    None => ourselves(&task, comparison.cache_type, &mut subject)?,
                };
                runs[at].push(run);
                tell(&at.checked_sub(1).map_or_else(|| "selvedge".to_owned(), |peer| peers[peer].label()));
            }
            limits = limits.higher(Limits::measure(isa, *threads, &clock));
        }
        let subject = subject.as_ref().context("nothing was measured")?;
        let names = ["selvedge".to_owned()].into_iter().chain(peers.iter().map(Peer::label));
        let engines =
            names.zip(&runs).filter_map(|(name, its)| Engine::of(name, its, &runs[0], subject, &limits));
        speeds.push(Beside { threads: threads.get(), limits, engines: engines.collect() });
    }
    Ok(Report {
        name: model.name.clone(),
        subject: subject.context("nothing was measured")?,
        rounds: plan.repetitions,
        prompt_tokens: plan.prompt,
        answer_tokens: plan.answer,
        speeds,
    })
}

/// This program, as another process, so that it begins as the others do.
fn ourselves(task: &Task<'_>, cache_type: &str, subject: &mut Option<Subject>) -> anyhow::Result<Run> {
    let program = std::env::current_exe().context("this program does not find itself")?;
    let mut command = Command::new(program);
    command.arg("bench").arg(own_path(task.model)).args(["--json", "--no-limits", "--repetitions", "1"]);
    command.args(["--threads", &task.threads.to_string(), "--cache-type", cache_type]);
    command.args(["--prompt", &task.prompt.to_string(), "--answer", &task.answer.to_string()]);
    // Ours needs no limit: what it was asked for is finite.
    let out = output(command, Duration::MAX)?;
    let [ours]: [Ours; 1] = serde_json::from_str(&out).context("this program does not understand itself")?;
    let [speed] = &ours.speeds[..] else { anyhow::bail!("this program measured something else") };
    let answer = speed.answer.as_ref().context("this model writes no answers that could be compared")?;
    ensure!(
        speed.prompt_tokens == task.prompt,
        "the model's context ends after {} tokens",
        speed.prompt_tokens
    );
    let run = Run {
        prompt: speed.prompt.median,
        answer: answer.median,
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
    };
    *subject = Some(ours.subject);
    Ok(run)
}

/// A path that is not taken for a name on the shelf, nor for a flag.
fn own_path(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Engine {
    /// `its`, `ours`: a run for each round.
    fn of(name: String, its: &[Run], ours: &[Run], subject: &Subject, limits: &Limits) -> Option<Engine> {
        let all = |of: fn(&Run) -> f64| Rates::of(its.iter().map(of).collect());
        let ratio = |of: fn(&Run) -> f64| {
            Rates::of(ours.iter().zip(its).map(|(ours, its)| of(ours) / of(its)).collect())
        };
        let (prompt, answer) = (all(|run| run.prompt)?, all(|run| run.answer)?);
        Some(Engine {
            name,
            version: its.first()?.version.clone(),
            prompt_ratio: ratio(|run| run.prompt)?.median,
            answer_ratio: ratio(|run| run.answer)?.median,
            prompt_share: limits.share_of_peak(prompt.median * subject.operations_a_token as f64),
            answer_share: limits.share_of_reading(answer.median * subject.bytes_a_token as f64),
            prompt,
            answer,
        })
    }
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let Report { name, subject, prompt_tokens, answer_tokens, speeds, .. } = report;
    let Subject { family, quantisation, .. } = subject;
    let (parameters, bytes) = (show_parameters(subject.parameters), show_bytes(subject.bytes));
    writeln!(out, "{name}: {family}, {parameters} parameters, {quantisation}, {bytes}")?;
    let mut table = Table::new([
        ("threads", Side::Right),
        ("engine", Side::Left),
        (&format!("prompt of {prompt_tokens}"), Side::Right),
        ("×", Side::Right),
        ("of peak", Side::Right),
        (&format!("answer of {answer_tokens}"), Side::Right),
        ("×", Side::Right),
        ("of reading", Side::Right),
    ])
    .indented(2);
    let rate = |rates: &Rates| format!("{} ± {:.0} %", show_number(rates.median), rates.spread() * 100.0);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    for Beside { threads, engines, .. } in speeds {
        for (at, engine) in engines.iter().enumerate() {
            let ratio = |ratio: f64| if at == 0 { String::new() } else { format!("{ratio:.2}") };
            table.row([
                if at == 0 { threads.to_string() } else { String::new() },
                engine.name.clone(),
                rate(&engine.prompt),
                ratio(engine.prompt_ratio),
                percent(engine.prompt_share),
                rate(&engine.answer),
                ratio(engine.answer_ratio),
                engine.answer_share.map_or_else(|| "–".to_owned(), percent),
            ]);
        }
    }
    write!(out, "{table}")?;
    for Beside { threads, limits, .. } in speeds {
        show_limits(out, *threads, limits)?;
    }
    let versions: Vec<String> = speeds
        .iter()
        .take(1)
        .flat_map(|beside| &beside.engines)
        .filter_map(|engine| Some(format!("{} {}", engine.name, engine.version.as_ref()?)))
        .collect();
    writeln!(out, "  versions: {}\n", versions.join(", "))
}
