//! Compares a candidate with the current model, before its trial or because it was ordered to answer beside it: it answers some
//! of what people ask, in a process of its own.
//!
//! The server hands on a share of the answers that any engine gives alike ([`Sample`]). [`Comparison`] starts our own binary, whose
//! hidden verb `prove --shadow` calls [`answer_each`], puts it the same prompts one after the other, and counts how often it begins
//! as the current model did. Nobody waits for it: it runs on one thread with low priority, is the first to go when memory runs
//! out, and what it cannot keep up with is dropped. What people ask stays in memory: it comes to no disk and no log.
//!
//! Before a trial a few answers are enough. What was ordered goes on, within what a [`Purse`] gives, and makes room when memory
//! is short.
//!
//! Both ways a line of JSON each: [`Question`]s in, [`Said`] out, [`Said::Ready`] first.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::page::CacheFormat;
use lm::family;
use lm::memory::Needed;
use lm::memory::machine::{Memory, peak_bytes_of};
use lm::model::Model;
use lm::processor::energy_uj;
use package::digest::Digest;
use package::disk::system;
use package::golden::Budget;
use package::store::Store;
use package::trust::shadow::Limits;
use serde::{Deserialize, Serialize};
use wire::world::{Clock as _, System};

use crate::install::event::Agreement;
use crate::install::keys::Keys;
use crate::install::prove::ChildProver;
use crate::install::prove::language::likeliest_after;
use crate::install::purse::Purse;
use crate::install::state::Slot;
use crate::install::trial::Extent;
use crate::install::weights::gguf;
use crate::why::why;

/// The longest prompt that is compared, in tokens.
pub const PROMPT_MAX: usize = 4_096;

/// So many tokens of an answer are compared.
pub const ANSWER_MAX: usize = 32;

/// The longest line, either way: a prompt of [`PROMPT_MAX`] tokens has less.
const LINE_MAX_BYTES: u64 = 64 << 10;

/// How often a child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often it is asked how much memory is free.
const MEMORY_EVERY_NS: u64 = 1_000_000_000;

/// What starts a process that gives way to others, where there is such a program.
const GIVES_WAY: [&str; 3] = ["nice", "-n", "10"];

/// What somebody asked of the current model, and how it answered. It cannot be printed: that is nobody's business.
#[derive(Clone, PartialEq, Eq)]
pub struct Sample {
    /// All that it read, at most [`PROMPT_MAX`] tokens.
    pub prompt: Vec<u32>,
    /// The first tokens that it wrote, at most [`ANSWER_MAX`].
    pub answer: Vec<u32>,
}

/// How many answers there are for each that is compared, at this share of them.
pub fn every(share: f64) -> u32 {
    // As a cast does it: more than fit are as many as fit.
    (1.0 / share).ceil() as u32
}

/// What a child is asked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Tokens to read.
    pub prompt: Vec<u32>,
    /// Tokens to write at most.
    pub max: usize,
}

/// What a child says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It can be asked.
    Ready,
    /// It cannot be compared here now, which is not its fault.
    NotHere(String),
    /// It never can be.
    Never(String),
    /// Its answer.
    Tokens(Vec<u32>),
    /// It has no answer to this question.
    Failed(String),
}

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// So much was compared, perhaps nothing.
    Whole(Agreement),
    /// This machine cannot compare them now.
    NotHere(String),
    /// It never can.
    Never(String),
    /// The candidate broke down.
    Crashed(String),
}

/// What became of an answer that was chosen to be compared.
#[derive(Clone, PartialEq, Eq)]
pub struct One {
    /// Whether they agree; `None`: it was not compared.
    pub agrees: Option<bool>,
    /// What was asked, what people got, and what the candidate said, if they part.
    pub parted: Option<(Sample, Vec<u32>)>,
    /// How long the candidate took.
    pub took: Duration,
    /// What the machine used meanwhile, in microjoules, if that can be measured.
    pub used_uj: Option<u64>,
}

impl One {
    /// One for which there was no time.
    pub fn skipped() -> One {
        One { agrees: None, parted: None, took: Duration::ZERO, used_uj: None }
    }
}

/// Compares a candidate with the current model.
pub struct Comparison {
    /// Starts the child, and says when nobody wants the result any more.
    pub prover: ChildProver,
    /// How far.
    pub extent: Extent,
    /// What it may cost, if it was ordered.
    pub limits: Option<Limits>,
    /// How keys and values are kept: as the current model has them.
    pub cache: CacheFormat,
    /// Memory that stays free, in bytes.
    pub keep_bytes: u64,
}

impl Comparison {
    /// Puts samples to a slot's model, and tells what becomes of each. Blocks until there is a result.
    pub fn compare(
        &self,
        slot: &Slot,
        budget: Budget,
        samples: &Receiver<Sample>,
        tell: &mut dyn FnMut(One),
    ) -> Compared {
        let limit = self.limits.and_then(|limits| limits.memory_bytes).unwrap_or(u64::MAX);
        let rss_bytes = Some(budget.rss_bytes.unwrap_or(u64::MAX).min(limit)).filter(|most| *most < u64::MAX);
        let budget = Budget { rss_bytes, ..budget };
        let (keep, cache) = (self.keep_bytes.to_string(), cache_word(self.cache));
        let more = ["--shadow", "--leave", &keep, "--cache-type", cache, "--threads", "1"].map(str::to_owned);
        let started = self.prover.start(slot, &GIVES_WAY, &more).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => self.prover.start(slot, &[], &more),
            _ => Err(error),
        });
        let mut child = match started {
            Ok(child) => child,
            Err(error) => return Compared::NotHere(format!("no process can be started: {error}")),
        };
        let compared =
            Asking::new(&mut child).and_then(|asking| self.ask(asking, &child, budget, samples, tell));
        // It may have ended already; then its own end stands.
        drop(child.kill());
        let status = child.wait();
        match (compared, status) {
            (Ok(compared), _) => compared,
            (Err(_), Ok(status)) if is_killed(status) => {
                Compared::NotHere("the system ended it, as it does when memory runs out".to_owned())
            }
            (Err(Ends { is_ready: true }), Ok(status)) => Compared::Crashed(format!(
                "the process that answered beside the current model died: {status}"
            )),
            (Err(_), Ok(status)) => {
                Compared::NotHere(format!("its process ended before it was loaded: {status}"))
            }
            (Err(_), Err(error)) => Compared::NotHere(format!("its process cannot be waited for: {error}")),
        }
    }

    /// Asks until the end of this comparison; the error is the end of the child.
    fn ask(
        &self,
        mut asking: Asking,
        child: &Child,
        budget: Budget,
        samples: &Receiver<Sample>,
        tell: &mut dyn FnMut(One),
    ) -> Result<Compared, Ends> {
        let Extent { answers, at_most } = self.extent;
        let clock = System::new();
        let begun_ns = clock.mono_ns();
        let mut agreement = Agreement { compared: 0, agreed: 0 };
        let mut purse = self.limits.map(|limits| Purse::new(&limits, begun_ns));
        let (mut put_ns, mut put_uj, mut looked_ns) = (begun_ns, None, begun_ns);
        loop {
            let is_over = Duration::from_nanos(clock.mono_ns().saturating_sub(begun_ns)) >= at_most;
            if is_over || agreement.compared >= answers || self.prover.ends.load(Ordering::Relaxed) {
                return Ok(Compared::Whole(agreement));
            }
            if let (Some(found), Some(most)) = (peak_bytes_of(child.id()), budget.rss_bytes)
                && found > most
            {
                let why = format!("it took {found} bytes of memory, {most} are allowed");
                return Ok(Compared::Never(why));
            }
            let now_ns = clock.mono_ns();
            if asking.is_ready && now_ns.saturating_sub(looked_ns) >= MEMORY_EVERY_NS {
                looked_ns = now_ns;
                if let Some(free) = free_bytes().filter(|free| *free < self.keep_bytes) {
                    return Ok(Compared::NotHere(format!("it makes room: {} MiB are free", free >> 20)));
                }
            }
            if asking.is_ready && asking.open.is_none() {
                match samples.recv_timeout(LOOK_EVERY) {
                    Ok(_) if purse.as_mut().is_some_and(|purse| !purse.may(clock.mono_ns())) => {
                        tell(One::skipped());
                    }
                    Ok(sample) => {
                        (put_ns, put_uj) = (clock.mono_ns(), energy_uj());
                        asking.put(sample);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return Ok(Compared::Whole(agreement)),
                }
                continue;
            }
            let answer = match asking.said.recv_timeout(LOOK_EVERY) {
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Err(Ends { is_ready: asking.is_ready }),
                Ok(Err(error)) => {
                    return Ok(Compared::Crashed(format!("it says what nobody understands: {error}")));
                }
                Ok(Ok(Said::NotHere(why))) => return Ok(Compared::NotHere(why)),
                Ok(Ok(Said::Never(why))) => return Ok(Compared::Never(why)),
                Ok(Ok(Said::Ready)) => {
                    asking.is_ready = true;
                    continue;
                }
                Ok(Ok(Said::Tokens(tokens))) => tokens,
                // No answer is another one than people got.
                Ok(Ok(Said::Failed(_))) => Vec::new(),
            };
            if let Some(sample) = asking.open.take() {
                let took_ns = clock.mono_ns().saturating_sub(put_ns);
                // A counter that began anew says nothing.
                let used_uj = energy_uj().zip(put_uj).and_then(|(now, then)| now.checked_sub(then));
                if let Some(purse) = &mut purse {
                    purse.spend(took_ns, used_uj);
                }
                let agrees = sample.answer == answer;
                agreement.compared = agreement.compared.saturating_add(1);
                agreement.agreed = agreement.agreed.saturating_add(u32::from(agrees));
                let parted = (!agrees).then_some((sample, answer));
                tell(One { agrees: Some(agrees), parted, took: Duration::from_nanos(took_ns), used_uj });
            }
        }
    }
}

/// A child said its last word.
struct Ends {
    /// Whether it could be asked before.
    is_ready: bool,
}

/// A child that is asked one thing after the other.
struct Asking {
    questions: ChildStdin,
    said: Receiver<Result<Said, serde_json::Error>>,
    is_ready: bool,
    /// What it was asked and has not answered.
    open: Option<Sample>,
}

impl Asking {
    fn new(child: &mut Child) -> Result<Asking, Ends> {
        let (Some(questions), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Ends { is_ready: false });
        };
        let (tell, said) = sync_channel(1);
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Ok(Some(line)) = next_line(&mut stdout) {
                // Nobody listens any more to a child that was stopped.
                if tell.send(serde_json::from_slice(&line)).is_err() {
                    break;
                }
            }
        });
        Ok(Asking { questions, said, is_ready: false, open: None })
    }

    fn put(&mut self, sample: Sample) {
        let question = Question { prompt: sample.prompt.clone(), max: sample.answer.len() };
        let mut line = serde_json::to_vec(&question).unwrap_or_default();
        line.push(b'\n');
        // A child that has ended is heard of when nothing is said any more.
        drop(self.questions.write_all(&line));
        self.open = Some(sample);
    }
}

/// Whether the system ended it.
fn is_killed(status: ExitStatus) -> bool {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal = status.code().filter(|_| false);
    signal == Some(9)
}

/// As `--cache-type` has it.
fn cache_word(cache: CacheFormat) -> &'static str {
    match cache {
        CacheFormat::F32 => "f32",
        CacheFormat::F16 => "f16",
        CacheFormat::Q8_0 => "q8_0",
    }
}

/// The next line without its end, at most [`LINE_MAX_BYTES`]; `None`: there are no more.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.take(LINE_MAX_BYTES).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long, or has no end")),
    }
}

/// Reads questions until there are no more, or nobody takes them. The first that cannot be read is the last.
pub fn read_questions(input: &mut impl BufRead, ask: &SyncSender<io::Result<Question>>) {
    let mut next = || next_line(input)?.map(|line| Ok(serde_json::from_slice(&line)?)).transpose();
    while let Some(question) = next().transpose() {
        let is_last = question.is_err();
        if ask.send(question).is_err() || is_last {
            break;
        }
    }
}

/// The model that a child loads, and how.
pub struct Beside<'s> {
    /// Where its blobs are.
    pub store: &'s Store<system::System>,
    /// What opens sealed ones.
    pub keys: &'s Keys,
    /// Which.
    pub manifest: &'s Digest,
    /// On so many threads.
    pub threads: NonZeroUsize,
    /// How keys and values are kept.
    pub cache: CacheFormat,
    /// Memory that stays free, in bytes.
    pub keep_bytes: u64,
}

/// Loads a model and answers each question by the likeliest tokens: what the child does. The error is that of a question, or of
/// `say`.
pub fn answer_each(
    beside: &Beside,
    questions: &Receiver<io::Result<Question>>,
    mut say: impl FnMut(&Said) -> io::Result<()>,
) -> io::Result<()> {
    go_first();
    let model = match load(beside) {
        Ok(model) => model,
        Err(said) => return say(&said),
    };
    say(&Said::Ready)?;
    for question in questions {
        let Question { prompt, max } = question?;
        let answer = if prompt.len() > PROMPT_MAX || max > ANSWER_MAX {
            Err(format!("{} tokens are too many, or {max} in the answer", prompt.len()))
        } else {
            likeliest_after(&model, prompt, max, beside.cache, &|| 0, &mut Vec::new())
        };
        say(&answer.map_or_else(Said::Failed, Said::Tokens))?;
    }
    Ok(())
}

/// Loads a model, if there is room for it beside what runs; or says why not.
fn load(beside: &Beside) -> Result<Model, Said> {
    fn not_here<E: std::error::Error>(error: E) -> Said {
        Said::NotHere(why(&error))
    }
    let Beside { store, keys, manifest, threads, cache, keep_bytes } = *beside;
    let file = gguf::open(store, keys, manifest, threads.get(), |_| ()).map_err(not_here)?;
    let shape = family::shape(file.metadata()).map_err(not_here)?;
    if !shape.causal {
        return Err(Said::Never("an encoder's vectors are not compared".to_owned()));
    }
    let context = shape.context.clamp(1, PROMPT_MAX + ANSWER_MAX);
    let needed = Needed::reckon(&file, &shape, context, cache).map_err(not_here)?.total();
    if let Some(free_bytes) = free_bytes().map(|free_bytes| free_bytes.saturating_sub(keep_bytes))
        && needed > free_bytes
    {
        let (needed, free) = (needed >> 20, free_bytes >> 20);
        let words = format!("it needs {needed} MiB beside the current model, and {free} MiB are free");
        return Err(Said::NotHere(words));
    }
    let isa = Isa::from_environment().map_err(not_here)?;
    Model::load(&file, Arc::new(Compute::new(isa, threads))).map_err(not_here)
}

/// Bytes of memory that are free on this machine, if it says so.
fn free_bytes() -> Option<u64> {
    Memory::of_this_machine().and_then(|memory| memory.free_bytes)
}

/// When memory runs out, this process goes before the one that serves.
fn go_first() {
    // proc(5): 1000 is the first. Where there is no such file, the system chooses by itself.
    drop(std::fs::write("/proc/self/oom_score_adj", "1000"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_one_of_so_many() {
        let check = |share, expected| assert_eq!(every(share), expected, "{share}");
        check(1.0, 1);
        check(0.5, 2);
        check(0.3, 4);
        check(0.1, 10);
        check(0.01, 100);
        check(1e-300, u32::MAX);
    }

    #[test]
    fn questions_are_lines_with_a_bound() {
        let read = |text: &str| {
            let (ask, questions) = sync_channel(8);
            read_questions(&mut text.as_bytes(), &ask);
            drop(ask);
            let mut asked = Vec::new();
            for question in questions {
                match question {
                    Ok(Question { prompt, max }) => asked.push((prompt, max)),
                    Err(error) => return (asked, Err(error.to_string())),
                }
            }
            (asked, Ok(()))
        };
        let two = "{\"prompt\":[1,2],\"max\":3}\n{\"prompt\":[],\"max\":0}\n";
        assert_eq!(read(two), (vec![(vec![1, 2], 3), (vec![], 0)], Ok(())));
        assert_eq!(read(""), (vec![], Ok(())));
        for wrong in
            ["{\"prompt\":[-1],\"max\":1}\n", "{\"prompt\":[1],\"max\":1,\"more\":0}\n", "what?\n", "\n"]
        {
            assert!(matches!(read(wrong), (asked, Err(_)) if asked.is_empty()), "{wrong}");
        }
        let cut = read("{\"prompt\":[1],\"max\":1}").1.unwrap_err();
        assert!(cut.contains("has no end"), "{cut}");
        let long = read(&format!("[{}]\n", "1,".repeat(40_000))).1.unwrap_err();
        assert!(long.contains("too long"), "{long}");
        // The longest question that is put fits.
        let question = Question { prompt: vec![u32::MAX; PROMPT_MAX], max: ANSWER_MAX };
        let line = format!("{}\n", serde_json::to_string(&question).unwrap());
        assert_eq!(read(&line).1, Ok(()));
    }

    /// What a comparison of two samples comes to if the child does this.
    #[cfg(unix)]
    fn child(script: &str, rss_bytes: Option<u64>) -> Compared {
        use std::ffi::OsString;

        use package::name::VariantName;

        let command = ["/bin/sh", "-c", script, "prove"].map(OsString::from).to_vec();
        let (packages, limit) = ("/".into(), Duration::from_secs(60));
        let prover = ChildProver { command, packages, keys: None, limit, ends: Arc::default() };
        let extent = Extent { answers: 2, at_most: Duration::from_secs(30) };
        let comparison = Comparison { prover, extent, limits: None, cache: CacheFormat::F16, keep_bytes: 0 };
        let digest = Digest::of(b"m");
        let slot = Slot {
            release: 8,
            index: digest,
            manifest: digest,
            variant: VariantName::new("f32").unwrap(),
            weights: digest,
            golden: None,
            committed_ms: None,
            rollout: None,
        };
        let (tell, samples) = sync_channel(4);
        for answer in [vec![5, 6], vec![7]] {
            tell.send(Sample { prompt: vec![1, 2], answer }).unwrap();
        }
        comparison.compare(&slot, Budget { rss_bytes, ..Budget::default() }, &samples, &mut |_| ())
    }

    #[cfg(unix)]
    #[test]
    fn whatever_a_child_does_the_current_model_goes_on() {
        let check = |script: &str, expected: &str| {
            let compared = format!("{:?}", child(script, None));
            assert!(compared.contains(expected), "{script}: {compared}");
        };
        let answers = |first: &str, second: &str| {
            format!("echo '\"ready\"'; read one; echo '{first}'; read two; echo '{second}'; read three")
        };
        check(&answers("{\"tokens\":[5,6]}", "{\"tokens\":[7]}"), "compared: 2, agreed: 2");
        check(&answers("{\"tokens\":[5]}", "{\"tokens\":[7]}"), "compared: 2, agreed: 1");
        check(&answers("{\"failed\":\"no such token\"}", "{\"tokens\":[]}"), "compared: 2, agreed: 0");
        check("echo '{\"not_here\":\"it needs more\"}'", "NotHere(\"it needs more\")");
        check("exit 3", "NotHere(\"its process ended before it was loaded: exit status: 3\")");
        check("echo '\"ready\"'; read one; exit 3", "Crashed(\"the process that answered beside");
        check("echo '\"ready\"'; read one; kill -9 $$", "NotHere(\"the system ended it");
        check("echo '\"ready\"'; read one; echo nonsense; read two", "Crashed(\"it says what nobody");
        // What it was asked is what was asked.
        let same = "echo '\"ready\"'; read one; test \"$one\" = '{\"prompt\":[1,2],\"max\":2}' || exit 3; \
                    echo '{\"tokens\":[5,6]}'; read two; echo '{\"tokens\":[]}'; read three";
        check(same, "compared: 2, agreed: 1");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_that_eats_memory_is_ended_and_not_to_blame() {
        let compared = child("echo '\"ready\"'; exec sleep 600", Some(1));
        assert!(matches!(&compared, Compared::Never(why) if why.contains("1 are allowed")), "{compared:?}");
    }
}
