//! Another engine, measured by its own program: llama.cpp's `llama-bench`, and that of engines that descend from it.
//!
//! It loads, warms up, and times in a process of its own, so that neither loading nor starting counts. What comes back
//! is checked: figures of other threads or lengths than were asked for would be no comparison.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// The most that is read of what a program prints; figures are some kB.
const OUTPUT_MAX: u64 = 16 << 20;
/// Lines of a failure that are shown.
const LAST_LINES: usize = 8;

/// An engine, as `NAME=PATH ARGUMENT…` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
}

/// What is asked of every engine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) model: &'a Path,
    pub(super) threads: usize,
    /// Tokens of the prompt.
    pub(super) prompt: usize,
    /// Tokens of the answer.
    pub(super) answer: usize,
    /// How long a program may take.
    pub(super) limit: Duration,
}

/// Tokens a second, measured once.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub(super) prompt: f64,
    pub(super) answer: f64,
    /// The engine's own word for its version.
    pub(super) version: Option<String>,
}

/// A line of `llama-bench -o json`; it has more fields.
#[derive(Deserialize)]
struct Row {
    n_threads: usize,
    n_prompt: usize,
    n_gen: usize,
    avg_ts: f64,
    build_commit: Option<String>,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(word: &str) -> Result<Peer, String> {
        let split = word.split_once('=').and_then(|(name, command)| {
            let mut words = command.split_whitespace().map(str::to_owned);
            Some((name.trim(), words.next()?, words.collect()))
        });
        match split {
            Some((name, program, arguments)) if !name.is_empty() => {
                Ok(Peer { name: name.to_owned(), program: program.into(), arguments })
            }
            _ => Err("it is NAME=PATH, such as llama.cpp=build/bin/llama-bench".to_owned()),
        }
    }
}

impl Peer {
    /// Its name and what else it was told: `llama.cpp --repack 0`.
    pub(super) fn label(&self) -> String {
        [&self.name].into_iter().chain(&self.arguments).map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Measures it once.
    pub(super) fn run(&self, task: &Task<'_>) -> anyhow::Result<Run> {
        let Task { threads, prompt, answer, .. } = task;
        let mut command = Command::new(&self.program);
        command.arg("-m").arg(task.model).args(["-o", "json", "-r", "1"]);
        command.args(["-t", &threads.to_string(), "-p", &prompt.to_string(), "-n", &answer.to_string()]);
        command.args(&self.arguments);
        let out =
            output(command, task.limit).with_context(|| format!("{} cannot be measured", self.label()))?;
        let wrong = || format!("{} printed something else than figures:\n{}", self.label(), last_lines(&out));
        // Some versions print other lines first.
        let begin = if out.starts_with('[') { Some(0) } else { out.find("\n[").map(|at| at + 1) };
        let rows: Vec<Row> = serde_json::from_str(&out[begin.with_context(wrong)?..]).with_context(wrong)?;
        let figure = |n_prompt, n_gen| {
            let asked = |row: &&Row| (row.n_threads, row.n_prompt, row.n_gen) == (*threads, n_prompt, n_gen);
            let found = rows.iter().find(asked).map(|row| row.avg_ts).filter(|rate| *rate > 0.0);
            found.with_context(|| {
                let label = self.label();
                format!(
                    "{label} has no figure for {n_prompt} + {n_gen} tokens on {threads} threads:\n{}",
                    last_lines(&out)
                )
            })
        };
        let (prompt, answer) = (figure(*prompt, 0)?, figure(0, *answer)?);
        let version = rows.into_iter().find_map(|row| row.build_commit).filter(|commit| commit != "unknown");
        Ok(Run { prompt, answer, version })
    }
}

/// What a program printed, if it ended well and in time. One that does not is ended.
pub(super) fn output(mut command: Command, limit: Duration) -> anyhow::Result<String> {
    let program = command.get_program().display().to_string();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{program} cannot be started"))?;
    let (open, closed) = mpsc::channel();
    let readers = [
        read(child.stdout.take().context("it has no output")?, open.clone()),
        read(child.stderr.take().context("it has no errors")?, open),
    ];
    // Nobody sends: the channel ends when both readers are done.
    if closed.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        end(&mut child)?;
        bail!("{program} had not ended after {} s, and was ended", limit.as_secs_f64());
    }
    let status = child.wait()?;
    let [out, err] = readers.map(|reader| reader.join().unwrap_or_default());
    match status.success() {
        true => Ok(out),
        false => bail!("{program} failed ({status}):\n{}", last_lines(&(out + &err))),
    }
}

/// Reads to the end in a thread, which holds `open` that long.
fn read(from: impl Read + Send + 'static, open: Sender<()>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks has ended.
        let _ = from.take(OUTPUT_MAX).read_to_end(&mut bytes);
        drop(open);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn end(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_and_a_command() {
        let peer: Peer = "llama.cpp=bin/llama-bench  --repack 0".parse().unwrap();
        assert_eq!(peer.program, Path::new("bin/llama-bench"));
        assert_eq!(peer.label(), "llama.cpp --repack 0");
        for wrong in ["", "x", "=path", "name=", "name= "] {
            assert!(wrong.parse::<Peer>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_lines_are_kept() {
        assert_eq!(last_lines("a\n\nb\n"), "a\nb");
        assert_eq!(last_lines(&"x\n".repeat(99)).lines().count(), LAST_LINES);
    }
}
