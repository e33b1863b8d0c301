//! Proves a candidate: it answers its golden set in a process of its own, so that a model that crashes, hangs or eats memory
//! costs the candidate, and not the node.
//!
//! A language model answers in [`language`], a network answers its golden set of tensors in [`network`], a flow plays its own tests
//! in [`flow`].
//!
//! [`ChildProver`] starts our own binary, whose hidden verb `prove` calls [`answer`] and prints [`Told`] as one line of
//! JSON. The parent judges, so that a child that lies about being right gains nothing but its answers.

use std::ffi::OsString;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use lm::memory::machine::{peak_bytes, peak_bytes_of, reset_peak};
use package::digest::Digest;
use package::disk::system;
use package::form::DOCUMENT_MAX_BYTES;
use package::golden::{Budget, Cost, Golden};
use package::manifest::Manifest;
use package::media::Role;
use package::store::Store;
use serde::{Deserialize, Serialize};
use wire::world::{Clock, System};

use self::answers::{Answers, Trouble, failed};
use crate::install::event::Proof;
use crate::install::keys::Keys;
use crate::install::state::{Measured, Slot};
use crate::install::weights::{self, WeightsError};
use crate::why::why;

pub mod answers;
pub mod flow;
#[cfg(feature = "language")]
pub mod language;
#[cfg(not(feature = "language"))]
#[path = "prove/no_language.rs"]
mod language;
pub mod network;

/// The most that a child may say.
const TOLD_MAX_BYTES: u64 = 64 << 20;

/// How often a child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a child says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It answered.
    Answered(Answers),
    /// The model cannot answer.
    Failed(String),
    /// Its blobs are not as they came, or what opens them is not here: nothing is known of the model.
    Damaged(String),
}

/// Proves candidates.
pub trait Prover {
    /// Lets a slot's model answer its golden set, within this budget and the package's own. Blocks until it did.
    fn prove(&self, slot: &Slot, budget: Budget) -> Proof;
}

/// Proves in a child process.
#[derive(Debug, Clone)]
pub struct ChildProver {
    /// The program and what stands before the arguments that every proof has: our own binary, and `prove`.
    pub command: Vec<OsString>,
    /// The folder of the store.
    pub packages: PathBuf,
    /// The data folder with the keys that open sealed weights, if there is one.
    pub keys: Option<PathBuf>,
    /// How long a proof may take.
    pub limit: Duration,
    /// Set by whoever does not want the result any more: the child is ended.
    pub ends: Arc<AtomicBool>,
}

/// How a child ended.
enum Ended {
    Exited(ExitStatus, Vec<u8>),
    /// It was ended by us.
    Stopped(String),
}

impl ChildProver {
    /// Proves by the verb `prove` of this very program.
    pub fn of_this_program(packages: &Path, limit: Duration) -> std::io::Result<ChildProver> {
        let command = vec![std::env::current_exe()?.into_os_string(), "prove".into()];
        Ok(ChildProver { command, packages: packages.to_owned(), keys: None, limit, ends: Arc::default() })
    }

    /// The same with the keys in a node's data folder.
    #[must_use]
    pub fn with_keys(self, data: &Path) -> ChildProver {
        ChildProver { keys: Some(data.to_owned()), ..self }
    }

    /// Starts a child for a slot's model. `before` stands before the program, `more` behind what each child is told.
    pub(super) fn start(&self, slot: &Slot, before: &[&str], more: &[String]) -> std::io::Result<Child> {
        let mut words = before.iter().map(OsString::from).chain(self.command.iter().cloned());
        let program = words.next().ok_or_else(|| std::io::Error::other("no program is named"))?;
        let mut command = Command::new(program);
        command.args(words).arg("--packages").arg(&self.packages);
        if let Some(keys) = &self.keys {
            command.arg("--keys").arg(keys);
        }
        // Standard input is held until it has answered: should this process die, the child reads the end, and dies too.
        command.args(more).arg("--until-eof").arg(slot.manifest.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    }

    /// Waits for a child, as long and as far as the budget goes. Gives the most memory that it was seen with, too.
    fn wait(&self, mut child: Child, rss_max_bytes: Option<u64>) -> std::io::Result<(Ended, Option<u64>)> {
        // Held here too, so that waiting lasts as long as it is meant to when the child has said its last word.
        let (tell, told) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let read = stdout.take(TOLD_MAX_BYTES).read_to_end(&mut bytes).map(|_| bytes);
                // Nobody listens any more to a child that was stopped.
                drop(tell.send(read));
            });
        }
        let mut last_words = None;
        let (clock, mut rss_bytes) = (System::new(), None);
        let begun_ns = clock.mono_ns();
        let stopped = loop {
            if let Some(status) = child.try_wait()? {
                let told = last_words.or_else(|| told.recv_timeout(self.limit).ok()).transpose()?;
                return Ok((Ended::Exited(status, told.unwrap_or_default()), rss_bytes));
            }
            rss_bytes = rss_bytes.max(peak_bytes_of(child.id()));
            if let (Some(found), Some(most)) = (rss_bytes, rss_max_bytes)
                && found > most
            {
                break format!("it took {found} bytes of memory, {most} are allowed");
            }
            if self.ends.load(Ordering::Relaxed) {
                break "nobody waits for it any more".to_owned();
            }
            if Duration::from_nanos(clock.mono_ns().saturating_sub(begun_ns)) > self.limit {
                break format!("it did not answer in {} s", self.limit.as_secs());
            }
            last_words = last_words.or(told.recv_timeout(LOOK_EVERY).ok());
        };
        child.kill()?;
        child.wait()?;
        Ok((Ended::Stopped(stopped), rss_bytes))
    }

    fn golden(&self, slot: &Slot) -> Result<Option<Golden>, String> {
        let Some(digest) = slot.golden else { return Ok(None) };
        let told = |error: &dyn std::error::Error| format!("its golden set: {}", why(error));
        let store = Store::open(system::System, &self.packages, u64::MAX).map_err(|error| told(&error))?;
        let bytes = store.read_small(&digest, DOCUMENT_MAX_BYTES as u64).map_err(|error| told(&error))?;
        let bytes = bytes.ok_or_else(|| format!("its golden set {digest} is not in the store"))?;
        Golden::parse(&bytes).map(Some).map_err(|error| told(&error))
    }
}

impl Prover for ChildProver {
    fn prove(&self, slot: &Slot, budget: Budget) -> Proof {
        let golden = match self.golden(slot) {
            Ok(golden) => golden,
            Err(why) => return Proof::NotNow(why),
        };
        let budget = golden.as_ref().map_or(budget, |golden| golden.budget.and(budget));
        let ended = self.start(slot, &[], &[]).and_then(|child| self.wait(child, budget.rss_bytes));
        let (ended, seen_bytes) = match ended {
            Ok(ended) => ended,
            Err(error) => return Proof::NotNow(format!("the proof cannot be run: {error}")),
        };
        let failed =
            |why| Proof::Failed { why, measured: Measured { rss_bytes: seen_bytes, ..Measured::default() } };
        let (status, told) = match ended {
            Ended::Stopped(why) => return failed(why),
            Ended::Exited(status, told) => (status, told),
        };
        match serde_json::from_slice(&told) {
            Ok(Told::Answered(answers)) if status.success() => judge(golden.as_ref(), budget, &answers),
            Ok(Told::Failed(why)) => failed(why),
            Ok(Told::Damaged(why)) => Proof::NotNow(why),
            Ok(Told::Answered(_)) | Err(_) => failed(format!("the process died of it: {status}")),
        }
    }
}

/// Whether the answers are right, and cheap enough.
fn judge(golden: Option<&Golden>, budget: Budget, told: &Answers) -> Proof {
    let p95_ms = p95(&told.answer_ms);
    let measured = Measured {
        load_ms: Some(told.load_ms.ceil() as u32),
        p95_ms: p95_ms.map(|ms| ms.ceil() as u32),
        rss_bytes: told.rss_bytes,
        own_bytes: told.own_bytes,
    };
    // What was not measured cannot be too much.
    let budget = Budget {
        p95_ms: budget.p95_ms.filter(|_| p95_ms.is_some()),
        rss_bytes: budget.rss_bytes.filter(|_| told.rss_bytes.is_some()),
        ..budget
    };
    let (p95_ms, rss_bytes) = (p95_ms.unwrap_or_default(), told.rss_bytes.unwrap_or_default());
    let right = golden.map_or(Ok(()), |golden| golden.judge(&told.answers));
    match right.and_then(|()| budget.judge(&Cost { load_ms: told.load_ms, p95_ms, rss_bytes })) {
        Ok(()) => Proof::Passed(measured),
        Err(wrong) => Proof::Failed { why: wrong.to_string(), measured },
    }
}

/// 95 of 100 took at most this; `None` of nothing.
pub fn p95(times_ms: &[f64]) -> Option<f64> {
    let mut times = times_ms.to_vec();
    times.sort_by(f64::total_cmp);
    times.get((times.len() * 95).div_ceil(100).checked_sub(1)?).copied()
}

/// Loads the model of a manifest and lets it answer its golden set: what the child does.
pub fn answer(
    store: &Store<system::System>,
    keys: &Keys,
    manifest: &Digest,
    threads: NonZeroUsize,
    clock: &dyn Clock,
) -> Told {
    // What this process has now, if the system lets it forget what it had before.
    reset_peak();
    let before_bytes = peak_bytes();
    let answered = || -> Result<Answers, Trouble> {
        let read = |digest: &Digest| {
            let bytes = store.read_small(digest, DOCUMENT_MAX_BYTES as u64).map_err(WeightsError::from)?;
            bytes.ok_or(WeightsError::Missing { digest: *digest })
        };
        let described = Manifest::parse(&read(manifest)?).map_err(failed)?;
        let golden = described.layer(Role::Golden).map(|it| read(&it.digest)).transpose()?;
        let golden = golden.map(|bytes| Golden::parse(&bytes)).transpose().map_err(failed)?;
        if network::is_one(&described) || flow::is_one(&described) {
            let file = weights::check(store, keys, manifest, threads.get(), |_| ())?;
            let answered = match flow::is_one(&described) {
                true => flow::answers(file.bytes(), clock),
                false => network::answers(file.bytes(), golden.as_ref(), clock),
            };
            return answered.map_err(Trouble::Failed);
        }
        language::answers(store, keys, manifest, golden.as_ref(), threads, clock)
    };
    match answered() {
        Ok(answers) => {
            let own_bytes =
                answers.rss_bytes.zip(before_bytes).map(|(most, before)| most.saturating_sub(before));
            Told::Answered(Answers { own_bytes, ..answers })
        }
        Err(Trouble::Failed(why)) => Told::Failed(why),
        #[cfg(not(feature = "language"))]
        Err(Trouble::NotHere(why)) => Told::Damaged(why),
        Err(Trouble::Weights(error)) if error.is_damage() || error.waits() => Told::Damaged(why(&error)),
        Err(Trouble::Weights(error)) => Told::Failed(why(&error)),
    }
}

#[cfg(test)]
#[cfg(feature = "language")]
mod tests {
    use kernels::compute::Compute;
    use kernels::cpu::Isa;
    use lm::model::Model;
    use lm::specimen::Specimen;
    use package::descriptor::Descriptor;
    use package::golden::{Answer, Case, Text};
    use package::media;
    use package::name::VariantName;

    use super::language::likeliest;
    use super::*;

    const PROMPT: &str = "<s>the";

    /// A store with a specimen whose golden set has this answer, and its slot.
    fn stored(folder: &Path, tokens: &[u32]) -> (Store<system::System>, Slot) {
        let store = Store::open(system::System, folder, 1 << 30).unwrap();
        let mut model = Vec::new();
        Specimen::SMALL.write(&mut model).unwrap();
        let text = Text { prompt: PROMPT.into(), max_tokens: 4, tokens: tokens.to_vec() };
        let golden =
            Golden { form: 1, kind: "lm".into(), cases: vec![Case::Text(text)], budget: Budget::default() };
        let mut manifest = Manifest::new(media::MODEL_MANIFEST, Descriptor::empty());
        for (role, bytes) in [(Role::Weights, model), (Role::Golden, golden.to_bytes())] {
            let digest = store.put_small(&bytes, 0).unwrap();
            let layer = Descriptor::new(role.media_type(), digest, bytes.len() as u64);
            manifest.layers.push(layer.with(media::ROLE, role.word()).with(media::FILEPATH, role.word()));
        }
        let digest = store.put_small(&manifest.to_bytes(), 0).unwrap();
        let slot = Slot {
            release: 1,
            index: digest,
            manifest: digest,
            variant: VariantName::new("f32").unwrap(),
            weights: manifest.layers[0].digest,
            golden: Some(manifest.layers[1].digest),
            committed_ms: None,
            rollout: None,
        };
        (store, slot)
    }

    fn threads() -> NonZeroUsize {
        NonZeroUsize::new(1).unwrap()
    }

    fn right_answer() -> Vec<u32> {
        let compute = Arc::new(Compute::new(Isa::from_environment().unwrap(), threads()));
        let model = Model::load(&Specimen::SMALL.gguf().unwrap(), compute).unwrap();
        likeliest(&model, PROMPT, 4, &|| 0, &mut Vec::new()).unwrap()
    }

    #[test]
    fn a_model_is_judged_by_its_answers() {
        let folder = tempfile::tempdir().unwrap();
        let right = right_answer();
        let (store, slot) = stored(folder.path(), &right);
        let answer = |manifest| answer(&store, &Keys::none(), manifest, threads(), &System::new());
        let told = answer(&slot.manifest);
        let Told::Answered(answers) = &told else { panic!("{told:?}") };
        assert_eq!(answers.answers, [Answer::Tokens(right.clone())]);
        assert_eq!(serde_json::from_slice::<Told>(&serde_json::to_vec(&told).unwrap()).unwrap(), told);
        let golden = |tokens: &[u32]| {
            let text = Text { prompt: PROMPT.into(), max_tokens: 4, tokens: tokens.to_vec() };
            Golden { form: 1, kind: "lm".into(), cases: vec![Case::Text(text)], budget: Budget::default() }
        };
        assert!(matches!(judge(Some(&golden(&right)), Budget::default(), answers), Proof::Passed(_)));
        assert!(matches!(
            judge(Some(&golden(&right[1..])), Budget::default(), answers),
            Proof::Failed { .. }
        ));
        let dear = Budget { rss_bytes: Some(1), ..Budget::default() };
        let is_measured = answers.rss_bytes.is_some();
        assert_eq!(matches!(judge(None, dear, answers), Proof::Failed { .. }), is_measured);
        assert!(matches!(
            judge(None, dear, &Answers { rss_bytes: None, ..answers.clone() }),
            Proof::Passed(_)
        ));
        store.discard(&slot.weights).unwrap();
        assert!(matches!(answer(&slot.manifest), Told::Damaged(_)));
    }

    #[test]
    fn most_times_are_below() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((p95(&times), p95(&times[..1]), p95(&[])), (Some(95.0), Some(1.0), None));
    }

    /// What becomes of a proof if the child does this.
    #[cfg(unix)]
    fn child(script: &str, limit: Duration) -> Proof {
        let folder = tempfile::tempdir().unwrap();
        let (_, slot) = stored(folder.path(), &[1]);
        let command = ["/bin/sh", "-c", script, "prove"].map(OsString::from).to_vec();
        let budget = Budget { rss_bytes: Some(1 << 40), ..Budget::default() };
        let (packages, ends) = (folder.path().to_owned(), Arc::default());
        ChildProver { command, packages, keys: None, limit, ends }.prove(&slot, budget)
    }

    #[cfg(unix)]
    #[test]
    fn whatever_a_child_does_costs_the_candidate_only() {
        let check = |script: &str, limit_ms: u64, expected: &str| {
            let proof = format!("{:?}", child(script, Duration::from_millis(limit_ms)));
            assert!(proof.contains(expected), "{script}: {proof}");
        };
        let told = |tokens: &str| {
            format!(
                r#"echo '{{"answered":{{"answers":[{{"Tokens":[{tokens}]}}],"load_ms":1,"answer_ms":[2],"rss_bytes":3}}}}'"#
            )
        };
        check(
            &told("1"),
            60_000,
            "Passed(Measured { load_ms: Some(1), p95_ms: Some(2), rss_bytes: Some(3), own_bytes: None })",
        );
        check(&told("2"), 60_000, "the answer parts at token 0");
        check(&format!("{}; exit 1", told("1")), 60_000, "died of it: exit status: 1");
        check("kill -9 $$", 60_000, "died of it: signal: 9");
        check("echo nonsense", 60_000, "died of it");
        check(r#"echo '{"failed":"its shape is odd"}'"#, 60_000, "its shape is odd");
        check(r#"echo '{"damaged":"a chunk"}'"#, 60_000, "NotNow(\"a chunk\")");
        check("exec sleep 600", 100, "it did not answer in 0 s");
        let (packages, ends) = ("/".into(), Arc::default());
        let nobody = ChildProver { command: vec![], packages, keys: None, limit: Duration::ZERO, ends };
        let (_, slot) = stored(tempfile::tempdir().unwrap().path(), &[1]);
        assert!(matches!(nobody.prove(&Slot { golden: None, ..slot }, Budget::default()), Proof::NotNow(_)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_that_eats_memory_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (_, slot) = stored(folder.path(), &[1]);
        let command = ["/bin/sh", "-c", "exec sleep 600", "prove"].map(OsString::from).to_vec();
        let (packages, limit) = (folder.path().to_owned(), Duration::from_secs(60));
        let prover = ChildProver { command, packages, keys: None, limit, ends: Arc::default() };
        let proof = prover.prove(&slot, Budget { rss_bytes: Some(1), ..Budget::default() });
        assert!(matches!(&proof, Proof::Failed { why, .. } if why.contains("1 are allowed")), "{proof:?}");
    }
}
