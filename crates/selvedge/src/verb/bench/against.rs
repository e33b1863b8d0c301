//! `selvedge bench MODEL… --against NAME=PATH`: this engine beside others, on the same file, threads and lengths.
//!
//! A machine changes its speed by the minute. So the engines take turns: in each round every one is measured once in each
//! setting, in a process of its own (ours too), in another order each time. A ratio is of two figures of one
//! round, and its median over the rounds is what is told. Of an engine with switches the best setting is the fair bar.

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
use crate::verb::bench::neighbour::beside;
use crate::verb::bench::peer::{Peer, Run, Task, output};

/// Our own name among the engines.
const OURS: &str = "selvedge";

/// How engines are compared.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    pub(super) peers: &'a [Peer],
    pub(super) threads: &'a [NonZeroUsize],
    /// Once more on several threads, with a busy process beside.
    pub(super) busy: bool,
    pub(super) plan: Plan,
    /// As `--cache-type` takes it.
    pub(super) cache_type: &'a str,
    /// How long a program may take.
    pub(super) limit: Duration,
}

/// On what the engines are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Setting {
    threads: NonZeroUsize,
    /// Whether a busy process runs beside.
    busy: bool,
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
#[derive(Clone, Serialize, Deserialize)]
struct Subject {
    family: String,
    parameters: u64,
    quantisation: String,
    bytes: u64,
    bytes_a_token: u64,
    operations_a_token: u64,
}

/// The engines in a setting, ours first.
#[derive(Serialize)]
struct Beside {
    #[serde(flatten)]
    setting: Setting,
    /// Of the machine without a neighbour.
    limits: Limits,
    engines: Vec<Engine>,
    best: Vec<Best>,
}

/// An engine as it was told to run.
#[derive(Serialize)]
struct Engine {
    name: String,
    /// What it was told; empty: nothing.
    switches: String,
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
    /// The most memory that it ever had; absent where that cannot be told.
    peak_bytes: Option<u64>,
}

/// Another engine with the switches that suit it best: the fair bar.
#[derive(Serialize)]
struct Best {
    name: String,
    prompt: Bar,
    answer: Bar,
}

#[derive(Serialize)]
struct Bar {
    switches: String,
    /// Our speed divided by its speed.
    ratio: f64,
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
    answer_tokens: usize,
    prompt: Rates,
    answer: Option<Rates>,
}

/// Compares on each of the models, and prints.
pub(super) fn run(models: &[Located], comparison: &Comparison<'_>, json: bool) -> anyhow::Result<()> {
    let Comparison { peers, plan, .. } = comparison;
    let steps = models.len() * comparison.settings().len() * plan.repetitions * (peers.len() + 1);
    let bar = progress::steps(steps as u64).with_prefix("measuring");
    let mut out = io::stdout().lock();
    let mut reports = Vec::new();
    for model in models {
        let report = comparison.compare(model, &mut |engine| {
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
             rounds' ratios. of peak, of reading: shares of what the machine can do at\nmost, measured between the rounds. \
             memory: the most that the process had.{}\n",
            plan.repetitions,
            if comparison.busy { " busy: beside a\nprocess that takes a core for no use." } else { "" }
        )?,
    }
    Ok(())
}

impl Comparison<'_> {
    fn settings(&self) -> Vec<Setting> {
        let on = |busy| move |threads: &NonZeroUsize| Setting { threads: *threads, busy };
        let quiet = self.threads.iter().map(on(false));
        // One thread moves aside: only threads that wait for each other suffer from a neighbour.
        let busy = self.threads.iter().filter(|threads| self.busy && threads.get() > 1).map(on(true));
        quiet.chain(busy).collect()
    }

    /// `tell` hears who was measured.
    fn compare(&self, model: &Located, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
        let Comparison { peers, plan, limit, .. } = self;
        let clock = System::new();
        let isa = Isa::from_environment()?;
        let settings = self.settings();
        let measured = |setting: &Setting| Limits::measure(isa, setting.threads, &clock);
        let mut limits: Vec<Limits> = settings.iter().map(measured).collect();
        // For each setting, for each engine, ours first, a run for each round.
        let mut runs: Vec<Vec<Vec<Run>>> = vec![vec![Vec::new(); peers.len() + 1]; settings.len()];
        let mut subject = None;
        for round in 0..plan.repetitions {
            for ((setting, limits), runs) in settings.iter().zip(&mut limits).zip(&mut runs) {
                let Plan { prompt, answer, .. } = *plan;
                let threads = setting.threads.get();
                let task = Task { model: &model.path, threads, prompt, answer, limit: *limit };
                for at in order(round, runs.len()) {
                    let run = beside(setting.busy, || match at.checked_sub(1) {
                        Some(peer) => peers[peer].run(&task),
                        None => ourselves(&task, self.cache_type, &mut subject),
                    })?;
                    runs[at].push(run);
                    tell(&at.checked_sub(1).map_or_else(|| OURS.to_owned(), |peer| peers[peer].label()));
                }
                *limits = limits.higher(measured(setting));
            }
        }
        let subject: Subject = subject.context("nothing was measured")?;
        let mut speeds = Vec::new();
        for (setting, runs) in settings.iter().copied().zip(runs) {
            let alike = settings.iter().zip(&limits).filter(|(other, _)| other.threads == setting.threads);
            let Some(limits) = alike.map(|(_, limits)| *limits).reduce(Limits::higher) else { continue };
            let all = [None].into_iter().chain(peers.iter().map(Some)).zip(&runs);
            let engines = all.filter_map(|(peer, its)| Engine::of(peer, its, &runs[0], &subject, &limits));
            let engines: Vec<Engine> = engines.collect();
            speeds.push(Beside { setting, limits, best: Best::among(&engines), engines });
        }
        let (name, rounds) = (model.name.clone(), plan.repetitions);
        Ok(Report { name, subject, rounds, prompt_tokens: plan.prompt, answer_tokens: plan.answer, speeds })
    }
}

/// In which order the engines are measured in a round: forwards and backwards by turns, so that nobody always comes after the
/// same one, and beginning elsewhere.
fn order(round: usize, engines: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..engines).map(|turn| (turn + round / 2) % engines).collect();
    if !round.is_multiple_of(2) {
        order.reverse();
    }
    order
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
    let [ours]: [Ours; 1] =
        serde_json::from_str(&out.text).context("this program does not understand itself")?;
    let [speed] = &ours.speeds[..] else { anyhow::bail!("this program measured something else") };
    let answer = speed.answer.as_ref().context("this model writes no answers that could be compared")?;
    let (prompt_tokens, answer_tokens) = (speed.prompt_tokens, speed.answer_tokens);
    ensure!(
        (prompt_tokens, answer_tokens) == (task.prompt, task.answer),
        "the model's context has no room for more than a prompt of {prompt_tokens} and an answer of {answer_tokens}: \
         take a shorter --prompt or --answer"
    );
    *subject = Some(ours.subject);
    Ok(Run {
        prompt: speed.prompt.median,
        answer: answer.median,
        peak_bytes: out.peak_bytes,
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
    })
}

/// A path that is not taken for a name on the shelf, nor for a flag.
fn own_path(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Engine {
    /// `peer`: `None` for ours. `its`, `ours`: a run for each round.
    fn of(
        peer: Option<&Peer>,
        its: &[Run],
        ours: &[Run],
        subject: &Subject,
        limits: &Limits,
    ) -> Option<Engine> {
        let all = |of: fn(&Run) -> f64| Rates::of(its.iter().map(of).collect());
        let ratio = |of: fn(&Run) -> f64| {
            Rates::of(ours.iter().zip(its).map(|(ours, its)| of(ours) / of(its)).collect())
        };
        let (prompt, answer) = (all(|run| run.prompt)?, all(|run| run.answer)?);
        Some(Engine {
            name: peer.map_or(OURS, Peer::name).to_owned(),
            switches: peer.map_or_else(String::new, Peer::switches),
            version: its.first()?.version.clone(),
            prompt_ratio: ratio(|run| run.prompt)?.median,
            answer_ratio: ratio(|run| run.answer)?.median,
            prompt_share: limits.share_of_peak(prompt.median * subject.operations_a_token as f64),
            answer_share: limits.share_of_reading(answer.median * subject.bytes_a_token as f64),
            peak_bytes: its.iter().filter_map(|run| run.peak_bytes).max(),
            prompt,
            answer,
        })
    }
}

impl Best {
    /// `engines`: ours first, then in the order of the command line.
    fn among(engines: &[Engine]) -> Vec<Best> {
        let others = engines.get(1..).unwrap_or_default();
        let first =
            |(at, engine): (usize, &Engine)| others[..at].iter().all(|other| other.name != engine.name);
        let names = others.iter().enumerate().filter(|each| first(*each)).map(|(_, engine)| &engine.name);
        names
            .filter_map(|name| {
                let its = || others.iter().filter(|engine| engine.name == *name);
                let prompt = its().max_by(|a, b| a.prompt.median.total_cmp(&b.prompt.median))?;
                let answer = its().max_by(|a, b| a.answer.median.total_cmp(&b.answer.median))?;
                Some(Best {
                    name: name.clone(),
                    prompt: Bar { switches: prompt.switches.clone(), ratio: prompt.prompt_ratio },
                    answer: Bar { switches: answer.switches.clone(), ratio: answer.answer_ratio },
                })
            })
            .collect()
    }
}

impl Setting {
    /// `2 threads, busy`.
    fn words(self) -> String {
        let plural = if self.threads.get() == 1 { "" } else { "s" };
        let busy = if self.busy { ", busy" } else { "" };
        format!("{} thread{plural}{busy}", self.threads)
    }
}

impl Bar {
    /// `× 1.31 with --repack 0`.
    fn words(&self) -> String {
        let with = if self.switches.is_empty() { String::new() } else { format!(" with {}", self.switches) };
        format!("× {:.2}{with}", self.ratio)
    }
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let Report { name, subject, prompt_tokens, answer_tokens, speeds, .. } = report;
    let Subject { family, quantisation, .. } = subject;
    let (parameters, bytes) = (show_parameters(subject.parameters), show_bytes(subject.bytes));
    writeln!(out, "{name}: {family}, {parameters} parameters, {quantisation}, {bytes}")?;
    let rate = |rates: &Rates| format!("{} ± {:.0} %", show_number(rates.median), rates.spread() * 100.0);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let none = || "–".to_owned();
    for Beside { setting, limits, engines, best } in speeds {
        let mut table = Table::new([
            (&setting.words(), Side::Left),
            (&format!("prompt of {prompt_tokens}"), Side::Right),
            ("×", Side::Right),
            ("of peak", Side::Right),
            (&format!("answer of {answer_tokens}"), Side::Right),
            ("×", Side::Right),
            ("of reading", Side::Right),
            ("memory", Side::Right),
        ])
        .indented(2);
        for (at, engine) in engines.iter().enumerate() {
            let ratio = |ratio: f64| if at == 0 { String::new() } else { format!("{ratio:.2}") };
            table.row([
                format!("{} {}", engine.name, engine.switches),
                rate(&engine.prompt),
                ratio(engine.prompt_ratio),
                percent(engine.prompt_share),
                rate(&engine.answer),
                ratio(engine.answer_ratio),
                engine.answer_share.map_or_else(none, percent),
                engine.peak_bytes.map_or_else(none, show_bytes),
            ]);
        }
        write!(out, "{table}")?;
        for Best { name, prompt, answer } in best {
            writeln!(
                out,
                "  beside {name} at its best: prompt {}, answer {}",
                prompt.words(),
                answer.words()
            )?;
        }
        writeln!(out, "  {}\n", limits.line(setting.threads.get()))?;
    }
    let mut versions: Vec<String> = Vec::new();
    for Engine { name, version, .. } in speeds.iter().flat_map(|beside| &beside.engines) {
        let version = format!("{name} {}", version.as_deref().unwrap_or("(does not say)"));
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    writeln!(out, "  versions: {}\n", versions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn rounds_differ_in_their_order() {
        let orders: Vec<_> = (0..4).map(|round| order(round, 3)).collect();
        assert_eq!(orders, [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]]);
    }
}
