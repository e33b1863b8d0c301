//! Models of slots: loaded when the slots say so, followed by others without a word to clients, and told of.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use kernels::page::CacheFormat;
use node::install::event::Event;
use node::install::keys::Keys;
use node::install::prove::{self, Told};
use node::install::shadow::Sample;
use node::install::state::Slot;
use node::install::trial::Answer;
use node::pressure::Squeeze;
use node::serve::offer::{Offer, Offers};
use node::serve::settings::Settings;
use node::serve::slots::Slots;
use node::serve::{Serving, start};
use package::chunks::Chunks;
use package::descriptor::Descriptor;
use package::digest::Digest;
use package::disk::system;
use package::golden::{self, Budget, Case, Golden, Text};
use package::manifest::Manifest;
use package::media::{self, Role};
use package::name::{ModelName, VariantName};
use package::store::Store;
use serde_json::{Value, json};
use tempfile::TempDir;
use wire::world::{Clock, Entropy, MonoNs, System, WallMs};

use crate::client::{Answer as Said, Events, ask_with, get, post};
use crate::house::{chat, loaded, settings, until};
use crate::tiny::{self, CONTEXT};

const CHAT: &str = "/v1/chat/completions";

/// A world whose clock can be put forward, and be made to break.
#[derive(Clone)]
struct Odd {
    world: System,
    ahead_ns: Arc<AtomicU64>,
    /// A model that looks so often at the clock breaks down; 0: none does.
    fuse: Arc<AtomicI64>,
}

impl Clock for Odd {
    fn wall_ms(&self) -> WallMs {
        self.world.wall_ms()
    }

    fn mono_ns(&self) -> MonoNs {
        let is_model = std::thread::current().name() == Some("model");
        if is_model && self.fuse.load(Relaxed) > 0 && self.fuse.fetch_sub(1, Relaxed) == 1 {
            panic!("the clock stopped");
        }
        self.world.mono_ns() + self.ahead_ns.load(Relaxed)
    }
}

impl Entropy for Odd {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.world.fill(bytes);
    }
}

/// A store with releases of `chat`, a server of them, and what the slots hear.
pub(crate) struct Stage {
    pub(crate) store: Arc<Store<system::System>>,
    pub(crate) slots: Slots,
    heard: Receiver<(ModelName, Event)>,
    world: Odd,
    folder: TempDir,
}

pub(crate) fn name() -> ModelName {
    ModelName::new("chat").unwrap()
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(system::System, &folder.path().join("packages"), 1 << 30).unwrap();
        let store = Arc::new(store);
        let (tell, heard) = channel();
        let tell = Arc::new(move |model: &ModelName, event| drop(tell.send((model.clone(), event))));
        let slots = Slots::new(Arc::clone(&store), None, tell);
        let world = Odd { world: System::new(), ahead_ns: Arc::default(), fuse: Arc::default() };
        Stage { store, slots, heard, world, folder }
    }

    /// A server of the slots, and of a file that is called as they are.
    pub(crate) fn start(&self, settings: Settings) -> Serving {
        let file = self.folder.path().join("file.gguf");
        tiny::chat(&file, 9);
        let offer = |name: &str| Offer { name: name.to_owned(), ..Offer::of_file(&file) };
        let offers = Offers::Listed(vec![offer("chat"), offer("file")]);
        start(settings, offers, Some(self.slots.clone()), self.world.clone()).unwrap()
    }

    /// Puts the clock forward.
    pub(crate) fn pass(&self, seconds: u64) {
        self.world.ahead_ns.fetch_add(seconds * 1_000_000_000, Relaxed);
    }

    fn put(&self, role: Role, bytes: &[u8]) -> Descriptor {
        let digest = self.store.put_small(bytes, 0).unwrap();
        let layer = Descriptor::new(role.media_type(), digest, bytes.len() as u64);
        layer.with(media::ROLE, role.word()).with(media::FILEPATH, role.word())
    }

    /// A release whose golden set has this answer.
    fn release_with(&self, release: u64, golden: &[u32]) -> Slot {
        let file = self.folder.path().join("release.gguf");
        tiny::chat(&file, release);
        let bytes = std::fs::read(&file).unwrap();
        let text = Text { prompt: "the".into(), max_tokens: 6, tokens: golden.to_vec() };
        let set =
            Golden { form: 1, kind: "lm".into(), cases: vec![Case::Text(text)], budget: Budget::default() };
        let (_, list) = Chunks::of(&bytes[..], 4096).unwrap();
        let list = self.put(Role::Chunks, &list.to_bytes());
        let weights = self.put(Role::Weights, &bytes).with(media::CHUNKS, list.digest.to_string());
        let golden = self.put(Role::Golden, &set.to_bytes());
        let mut manifest = Manifest::new(media::MODEL_MANIFEST, Descriptor::empty());
        manifest.layers = vec![weights, list, golden];
        let digest = self.store.put_small(&manifest.to_bytes(), 0).unwrap();
        let variant = VariantName::new("f32").unwrap();
        let (weights, golden) = (manifest.layers[0].digest, Some(manifest.layers[2].digest));
        let (index, manifest, committed_ms, rollout) = (digest, digest, Some(7_000), None);
        Slot { release, index, manifest, variant, weights, golden, committed_ms, rollout }
    }

    pub(crate) fn release(&self, release: u64) -> Slot {
        self.release_with(release, &[])
    }

    /// What a release answers to its golden prompt, as whoever proves it finds.
    fn right_answer(&self, slot: &Slot) -> Vec<u32> {
        let threads = NonZeroUsize::new(1).unwrap();
        let told = prove::answer(&self.store, &Keys::none(), &slot.manifest, threads, &System::new());
        match told {
            Told::Answered(answers) => match &answers.answers[..] {
                [golden::Answer::Tokens(tokens)] => tokens.clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn serve(&self, slot: &Slot) {
        self.slots.serve(&name(), slot);
    }

    pub(crate) fn next(&self) -> Event {
        let (model, event) = self.heard.recv_timeout(Duration::from_secs(60)).expect("something is told");
        assert_eq!(model, name());
        event
    }

    /// The next that is told, answers left out.
    pub(crate) fn next_but_answers(&self) -> Event {
        loop {
            match self.next() {
                Event::Answered(..) => {}
                event => return event,
            }
        }
    }

    pub(crate) fn expect_loaded(&self, slot: &Slot) {
        assert_eq!(self.next_but_answers(), Event::Loaded(slot.manifest, Ok(())));
    }

    pub(crate) fn expect_silence(&self) {
        assert_eq!(self.heard.recv_timeout(Duration::from_millis(300)).ok(), None);
    }
}

pub(crate) fn ask(serving: &Serving, tokens: usize) -> Said {
    post(serving.address(), CHAT, &chat("hello", tokens, json!({})))
}

/// Which bytes gave an answer.
pub(crate) fn digest(answer: &Value) -> Digest {
    let digest = answer["x_selvedge"]["model"]["digest"].as_str().unwrap_or_else(|| panic!("{answer}"));
    digest.parse().unwrap()
}

/// A stream that goes on for long.
pub(crate) fn long() -> Value {
    let mut body = chat("a long story", CONTEXT - 60, json!({}));
    body["stream"] = json!(true);
    body
}

pub(crate) fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_a_slot_says_is_served_and_each_answer_told() {
    let stage = Stage::new();
    let slot = stage.release(1);
    stage.serve(&slot);
    stage.expect_silence();
    let mut settings = settings();
    settings.keep_alive = Some(Duration::ZERO);
    let serving = stage.start(settings);
    stage.expect_loaded(&slot);
    let answer = ask(&serving, 8);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(digest(&answer.json()), slot.manifest);
    match stage.next() {
        Event::Answered(manifest, Answer { ms, ok: true, golden: false }) => {
            assert!(manifest == slot.manifest && ms > 0);
        }
        other => panic!("{other:?}"),
    }
    // Mistakes of a client are none of the model's.
    assert_eq!(ask(&serving, 0).status, 400);
    assert_eq!(ask(&serving, 100_000).status, 400);
    let list = get(serving.address(), "/v1/models").json();
    let (models, own) = (list["data"].as_array().unwrap(), &list["data"][0]);
    assert_eq!((models.len(), &own["id"], &own["created"]), (2, &json!("chat"), &json!(7)));
    let extra = &own["x_selvedge"];
    assert_eq!(
        (&extra["release"], &extra["variant"], &extra["loaded"]),
        (&json!(1), &json!("f32"), &json!(true))
    );
    assert_eq!(extra["digest"], json!(slot.manifest.to_string()));
    // It is told again that it is loaded, and is not loaded again; nobody but the slots unloads it.
    let vectors = json!({ "model": "chat", "input": ["a", "b"], "x_selvedge": { "pooling": "mean" } });
    assert_eq!(post(serving.address(), "/v1/embeddings", &vectors).status, 200);
    assert!(matches!(stage.next(), Event::Answered(_, Answer { ok: true, golden: false, .. })));
    stage.serve(&slot);
    stage.expect_loaded(&slot);
    let refused = ask_with(serving.address(), "DELETE", "/selvedge/models/chat", "", b"");
    assert_eq!(refused.problem(), (409, "model_in_slot".to_owned(), Some("model".to_owned())));
    assert_eq!(post(serving.address(), CHAT, &chat("x", 1, json!({ "model": "file" }))).status, 200);
    until("the idle file to be gone", || loaded(serving.address(), "file").is_none());
    let own = loaded(serving.address(), "chat").unwrap();
    assert_eq!((&own["release"], &own["variant"]), (&json!(1), &json!("f32")));
    stage.expect_silence();
    stage.slots.unload(&name());
    until("it to be gone", || loaded(serving.address(), "chat").is_none());
    let answer = ask(&serving, 1).json();
    assert_eq!(answer["x_selvedge"]["model"]["digest"], Value::Null, "the file answers");
    stage.expect_silence();
    stage.serve(&slot);
    stage.expect_loaded(&slot);
    assert_eq!(digest(&ask(&serving, 1).json()), slot.manifest, "and gives way");
    serving.stop();
}

#[test]
fn a_release_follows_another_without_an_error_to_anybody() {
    let stage = Stage::new();
    let slots = [stage.release(1), stage.release(2)];
    let serving = stage.start(settings());
    stage.serve(&slots[0]);
    stage.expect_loaded(&slots[0]);
    let address = serving.address();
    let over = Arc::new(AtomicU64::new(0));
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let mut said = Vec::new();
                while over.load(Relaxed) == 0 {
                    let answer = post(address, CHAT, &chat("hello", 4, json!({})));
                    assert_eq!(answer.status, 200, "{answer:?}");
                    let answer = answer.json();
                    said.push((digest(&answer), answer["choices"][0]["message"].clone()));
                }
                said
            })
        })
        .collect();
    for slot in [&slots[1], &slots[0], &slots[1]] {
        // Whoever is being answered is answered to the end by what began.
        let mut events = Events::ask(address, CHAT, &long());
        events.next().unwrap();
        stage.serve(slot);
        let last: Vec<String> = events.map(|(_, data)| data).collect();
        assert_eq!(last.last().unwrap(), "[DONE]");
        let before: Value = serde_json::from_str(&last[last.len() - 2]).unwrap();
        assert_ne!(digest(&before), slot.manifest);
        stage.expect_loaded(slot);
        let answer = ask(&serving, 4);
        assert_eq!(digest(&answer.json()), slot.manifest);
    }
    over.store(1, Relaxed);
    let mut said: Vec<_> = asking.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    said.push((slots[0].manifest, said.iter().find(|said| said.0 == slots[0].manifest).unwrap().1.clone()));
    for slot in &slots {
        let mut of: Vec<_> = said.iter().filter(|said| said.0 == slot.manifest).map(|said| &said.1).collect();
        of.dedup();
        assert_eq!(of.len(), 1, "each release says the same each time");
    }
    assert_eq!(loaded(address, "chat").unwrap()["release"], 2);
    serving.stop();
}

#[test]
fn damaged_weights_disturb_nobody_and_are_removed() {
    let stage = Stage::new();
    let [good, bad] = [1, 2].map(|release| stage.release(release));
    flip(&stage.store.blob_path(&bad.weights));
    let serving = stage.start(settings());
    stage.serve(&good);
    stage.expect_loaded(&good);
    let since = |serving: &Serving| loaded(serving.address(), "chat").unwrap()["tokens"].as_u64().unwrap();
    assert_eq!(ask(&serving, 8).status, 200);
    stage.serve(&bad);
    match stage.next_but_answers() {
        Event::Spoilt(manifest, why) => {
            assert!(manifest == bad.manifest && why.contains("damaged"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!stage.store.has(&bad.weights).unwrap() && stage.store.has(&bad.manifest).unwrap());
    assert_eq!(digest(&ask(&serving, 1).json()), good.manifest);
    stage.serve(&good);
    stage.expect_loaded(&good);
    assert_eq!(since(&serving), 9, "it was never unloaded");
    // Nothing else to answer with: the slots have their time to say what shall be.
    stage.slots.unload(&name());
    until("it to be gone", || loaded(serving.address(), "chat").is_none());
    let address = serving.address();
    stage.serve(&bad);
    let asking = std::thread::spawn(move || post(address, CHAT, &chat("hello", 1, json!({}))));
    assert!(matches!(stage.next_but_answers(), Event::Spoilt(..)));
    stage.serve(&good);
    stage.expect_loaded(&good);
    assert_eq!(digest(&asking.join().unwrap().json()), good.manifest);
    serving.stop();
}

#[test]
fn what_is_asked_for_in_haste_ends_as_it_should() {
    let stage = Stage::new();
    let [one, two] = [1, 2].map(|release| stage.release(release));
    let serving = stage.start(settings());
    for _ in 0..5 {
        stage.serve(&one);
        stage.serve(&two);
        stage.slots.unload(&name());
        stage.serve(&two);
        stage.serve(&one);
        stage.serve(&one);
        let address = serving.address();
        let asking = std::thread::spawn(move || post(address, CHAT, &chat("hello", 1, json!({}))));
        until("the last that was asked for", || {
            loaded(serving.address(), "chat").is_some_and(|model| model["release"] == 1)
        });
        assert_eq!(digest(&asking.join().unwrap().json()), one.manifest);
        while let Ok((_, event)) = stage.heard.recv_timeout(Duration::from_millis(100)) {
            let is_its = matches!(&event, Event::Loaded(manifest, Ok(())) | Event::Answered(manifest, _) if *manifest == one.manifest);
            assert!(is_its, "{event:?}");
        }
        stage.slots.unload(&name());
        until("it to be gone", || loaded(serving.address(), "chat").is_none());
    }
    // A server that stops tells nothing of what it was loading.
    stage.serve(&two);
    serving.stop();
    assert!(!stage.heard.try_iter().any(|(_, event)| matches!(event, Event::Loaded(_, Err(_)))));
    stage.serve(&one);
    stage.slots.exercise(&name(), &one);
    stage.expect_silence();
}

#[test]
fn golden_answers_are_played_and_judged() {
    let stage = Stage::new();
    let right = stage.right_answer(&stage.release(1));
    let wrong: Vec<u32> = right.iter().map(|token| (token + 1) % 256).collect();
    for cache in [CacheFormat::F16, CacheFormat::F32] {
        let mut settings = settings();
        settings.engine.cache = cache;
        let serving = stage.start(settings);
        for (golden, expected) in [(&right, true), (&wrong, false)] {
            let slot = stage.release_with(1, golden);
            stage.serve(&slot);
            stage.expect_loaded(&slot);
            stage.slots.exercise(&name(), &slot);
            match stage.next() {
                Event::Answered(manifest, Answer { ms, ok, golden: true }) => {
                    assert!(manifest == slot.manifest && ok == expected && ms > 0, "{cache:?} {expected}");
                }
                other => panic!("{other:?}"),
            }
            // Of what does not serve nothing is played.
            stage.slots.exercise(&name(), &stage.release(3));
            stage.expect_silence();
        }
        stage.slots.unload(&name());
        serving.stop();
    }
}

#[test]
fn answers_that_any_engine_gives_alike_are_sampled() {
    let stage = Stage::new();
    let slot = stage.release(1);
    let serving = stage.start(settings());
    stage.serve(&slot);
    stage.expect_loaded(&slot);
    let ask = |tokens: usize, more: Value| {
        let mut body = chat("hello", tokens, json!({ "logit_bias": {} }));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(serving.address(), CHAT, &body).json()["usage"]["completion_tokens"].as_u64().unwrap()
    };
    let next = |samples: &Receiver<Sample>| samples.recv_timeout(Duration::from_secs(60)).unwrap();
    let samples = stage.slots.sample(&name(), 1, Arc::default());
    for more in [
        json!({ "temperature": 0.5 }),
        json!({ "logit_bias": { "256": -100 } }),
        json!({ "presence_penalty": 0.5 }),
        json!({ "response_format": { "type": "json_object" } }),
    ] {
        ask(4, more);
    }
    let written = ask(3, json!({}));
    let Sample { prompt, answer } = next(&samples);
    assert!(answer.len() as u64 == written && written <= 3 && !prompt.is_empty());
    let written = ask(60, json!({}));
    let long = next(&samples);
    assert!(long.answer.len() as u64 == written.min(32) && long.prompt == prompt);
    assert!(long.answer.starts_with(&answer), "the likeliest tokens");
    // Golden cases are nobody's questions.
    stage.slots.exercise(&name(), &slot);
    until("the golden case", || matches!(stage.next(), Event::Answered(_, Answer { golden: true, .. })));
    assert!(samples.try_recv().is_err());

    // Whoever asks anew takes the place of the other. Nobody waits for who does not take them.
    let third = stage.slots.sample(&name(), 3, Arc::default());
    for _ in 0..20 {
        ask(1, json!({}));
    }
    assert!(samples.try_recv().is_err());
    assert_eq!(third.try_iter().count(), 4, "of six, since no more have room");
    drop(third);
    for _ in 0..3 {
        ask(1, json!({}));
    }
    serving.stop();
}

#[test]
fn a_model_that_breaks_down_is_told_and_comes_back() {
    let stage = Stage::new();
    let slot = stage.release(1);
    let serving = stage.start(settings());
    stage.serve(&slot);
    stage.expect_loaded(&slot);
    // Before a step, and in it.
    for (fuse, status) in [(1, 503), (2, 500)] {
        stage.world.fuse.store(fuse, Relaxed);
        assert_eq!(ask(&serving, 4).status, status);
        if status == 500 {
            let failed = Answer { ms: 0, ok: false, golden: false };
            assert_eq!(stage.next(), Event::Answered(slot.manifest, failed));
        }
        match stage.next() {
            Event::Crashed(manifest, why) => {
                assert!(manifest == slot.manifest && why.contains("the clock stopped"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        // Whoever asks now waits for what the slots say.
        let address = serving.address();
        let asking = std::thread::spawn(move || post(address, CHAT, &chat("hello", 1, json!({}))));
        stage.serve(&slot);
        stage.expect_loaded(&slot);
        assert_eq!(asking.join().unwrap().status, 200);
        assert!(matches!(stage.next(), Event::Answered(_, Answer { ok: true, .. })));
    }
    // While it is loaded.
    stage.slots.unload(&name());
    until("it to be gone", || loaded(serving.address(), "chat").is_none());
    stage.world.fuse.store(1, Relaxed);
    stage.serve(&slot);
    match stage.next() {
        Event::Loaded(_, Err(why)) => assert!(why.contains("the clock stopped"), "{why}"),
        other => panic!("{other:?}"),
    }
    stage.serve(&slot);
    stage.expect_loaded(&slot);
    serving.stop();
}

#[test]
fn what_a_release_has_read_is_known_to_it_and_to_no_other() {
    let stage = Stage::new();
    let mut settings = settings();
    settings.engine.prefixes = Some(stage.folder.path().join("kept"));
    let serving = stage.start(settings);
    let [one, two] = [1, 2].map(|release| stage.release(release));
    let known = |slot: &Slot| {
        stage.serve(slot);
        stage.expect_loaded(slot);
        let answer = ask(&serving, 4).json();
        assert_eq!(digest(&answer), slot.manifest);
        stage.slots.unload(&name());
        until("it to be gone", || loaded(serving.address(), "chat").is_none());
        answer["x_selvedge"]["reused_prompt_tokens"].as_u64().unwrap()
    };
    assert_eq!(known(&one), 0);
    assert!(known(&one) > 0);
    assert_eq!(known(&two), 0);
    serving.stop();
}

#[test]
fn what_nobody_uses_goes_before_the_system_takes_it_and_comes_again() {
    let stage = Stage::new();
    let slot = stage.release(1);
    let serving = stage.start(settings());
    stage.serve(&slot);
    stage.expect_loaded(&slot);
    let relief = serving.relief();
    // Caches and files are given up before it.
    relief.squeeze(Squeeze::Caches);
    relief.squeeze(Squeeze::Models);
    assert_eq!(ask(&serving, 1).status, 200);
    assert!(matches!(stage.next(), Event::Answered(..)));
    relief.squeeze(Squeeze::Answers);
    until("it to be gone", || loaded(serving.address(), "chat").is_none());
    assert_eq!(ask(&serving, 1).status, 503);
    relief.squeeze(Squeeze::Nothing);
    stage.expect_silence();
    assert!(loaded(serving.address(), "chat").is_none(), "it does not come at once");
    stage.world.ahead_ns.fetch_add(31_000_000_000, Relaxed);
    stage.expect_loaded(&slot);
    assert_eq!(digest(&ask(&serving, 1).json()), slot.manifest);
    assert!(matches!(stage.next(), Event::Answered(..)));
    // The second time in a row it stays away for twice as long; what the slots say meanwhile counts.
    relief.squeeze(Squeeze::Answers);
    until("it to be gone", || loaded(serving.address(), "chat").is_none());
    relief.squeeze(Squeeze::Nothing);
    stage.world.ahead_ns.fetch_add(31_000_000_000, Relaxed);
    stage.expect_silence();
    stage.slots.unload(&name());
    stage.world.ahead_ns.fetch_add(60_000_000_000, Relaxed);
    stage.expect_silence();
    assert!(loaded(serving.address(), "chat").is_none(), "it is not wanted any more");
    serving.stop();
}

#[test]
fn files_make_room_for_slots_and_never_the_other_way_round() {
    let stage = Stage::new();
    let probe = stage.start(settings());
    let file = json!({ "model": "file" });
    assert_eq!(post(probe.address(), CHAT, &chat("x", 1, file.clone())).status, 200);
    let needed = loaded(probe.address(), "file").unwrap()["memory_bytes"].as_u64().unwrap();
    probe.stop();
    let serving = stage.start(Settings { memory_bytes: Some(needed * 3 / 2), ..settings() });
    let slot = stage.release(1);
    // A file that is busy goes as soon as it has answered.
    let mut body = long();
    body["model"] = json!("file");
    let mut events = Events::ask(serving.address(), CHAT, &body);
    events.next().unwrap();
    stage.serve(&slot);
    assert_eq!(events.last().unwrap().1, "[DONE]");
    stage.expect_loaded(&slot);
    assert!(loaded(serving.address(), "file").is_none());
    let refused = post(serving.address(), CHAT, &chat("x", 1, file));
    assert_eq!(refused.problem(), (503, "insufficient_memory".to_owned(), None));
    assert_eq!(digest(&ask(&serving, 1).json()), slot.manifest);
    // It makes room for its own successor.
    let next = stage.release(2);
    stage.serve(&next);
    stage.expect_loaded(&next);
    // Two of them are too many.
    let other = ModelName::new("other").unwrap();
    stage.slots.serve(&other, &slot);
    let told = stage.heard.recv_timeout(Duration::from_secs(60)).unwrap();
    let (_, Event::Loaded(_, Err(why))) = &told else { panic!("{told:?}") };
    assert!(told.0 == other && why.contains("MiB"), "{why}");
    serving.stop();
}

#[test]
fn who_takes_too_long_is_cut_when_another_release_comes() {
    let stage = Stage::new();
    let [one, two] = [1, 2].map(|release| stage.release(release));
    let mut settings = settings();
    (settings.engine.parallel, settings.engine.queue) = (1, 32);
    let serving = stage.start(settings);
    stage.serve(&one);
    stage.expect_loaded(&one);
    let streams: Vec<_> = (0..16).map(|_| Events::ask(serving.address(), CHAT, &long())).collect();
    stage.serve(&two);
    until("the first to leave", || {
        loaded(serving.address(), "chat")
            .is_none_or(|model| model["unloading"] == true || model["release"] == 2)
    });
    stage.world.ahead_ns.store(31_000_000_000, Relaxed);
    stage.expect_loaded(&two);
    let last: Vec<Value> = streams
        .into_iter()
        .map(|events| {
            let data: Vec<String> = events.map(|(_, data)| data).collect();
            serde_json::from_str(&data[data.len() - 2]).unwrap()
        })
        .collect();
    assert!(last.iter().any(|last| last["error"]["code"] == "model_unloaded"), "{last:?}");
    assert_eq!(digest(&ask(&serving, 1).json()), two.manifest);
    serving.stop();
}
