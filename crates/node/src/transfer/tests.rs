//! Transfers as tables: what is told, and what is asked for then.

use std::path::PathBuf;
use std::sync::OnceLock;

use package::chunks::CHUNK_BYTES;
use package::descriptor::Descriptor;
use wire::world::Simulated;

use super::*;

const MIB: u64 = 1 << 20;
const SECOND_NS: MonoNs = 1_000_000_000;

/// Origins by letter, and blobs: `m` the manifest, `c` its config, `l` the list, `w` the weights.
struct Play {
    transfer: Transfer,
    effects: Vec<Effect>,
    chance: Simulated,
    now: MonoNs,
    manifest: Manifest,
    list: Chunks,
}

/// The list of weights of 20 MiB and 5 bytes.
fn list() -> Chunks {
    static LIST: OnceLock<Chunks> = OnceLock::new();
    let list = || Chunks::of(&vec![7; 20 * MIB as usize + 5][..], CHUNK_BYTES).unwrap().1;
    LIST.get_or_init(list).clone()
}

impl Play {
    fn new(origins: usize) -> Play {
        let list = list();
        let list_bytes = list.to_bytes();
        let layer = |role: Role, digest, size| {
            Descriptor::new(role.media_type(), digest, size).with(media::ROLE, role.word())
        };
        let listed = Digest::of(&list_bytes);
        let mut manifest =
            Manifest::new(media::MODEL_MANIFEST, Descriptor::of(media::MODEL_CONFIG, b"config"));
        let weights = layer(Role::Weights, list.blob(), list.blob_bytes());
        manifest.layers = vec![
            weights.with(media::CHUNKS, listed.to_string()),
            layer(Role::Chunks, listed, list_bytes.len() as u64),
        ];
        let bytes = manifest.to_bytes();
        let names = (0..origins).map(|id| letter(OriginId(id))).collect();
        let order = Order::variant(Digest::of(&bytes), bytes.len() as u64);
        let (transfer, effects) = Transfer::begin(&order, names, Rules::default());
        Play { transfer, effects, chance: Simulated::new(1), now: 0, manifest, list }
    }

    fn digest(&self, blob: &str) -> Digest {
        match blob {
            "m" => Digest::of(&self.manifest.to_bytes()),
            "c" => self.manifest.config.digest,
            "l" => self.manifest.layers[1].digest,
            _ => self.manifest.layers[0].digest,
        }
    }

    fn blob(&self, digest: Digest) -> &'static str {
        ["m", "c", "l", "w"].into_iter().find(|blob| self.digest(blob) == digest).unwrap()
    }

    /// What is to be done now, in words.
    fn told(&self) -> String {
        let told: Vec<String> = self.effects.iter().map(|effect| self.word(effect)).collect();
        told.join(" ")
    }

    fn word(&self, effect: &Effect) -> String {
        match effect {
            Effect::Open(want) if want.chunks.is_some() => {
                format!("open {} by chunks", self.blob(want.digest))
            }
            Effect::Open(want) => format!("open {}", self.blob(want.digest)),
            Effect::Fetch { wanted, ask } => {
                let Range { start, end } = ask.range;
                let all = if ask.whole { " whole" } else { "" };
                format!("{}: {} {start}..{end}{all}", letter(ask.origin), self.blob(wanted.digest))
            }
            Effect::Finish(digest) => format!("finish {}", self.blob(*digest)),
            Effect::Read { digest, .. } => format!("read {}", self.blob(*digest)),
            Effect::Wait { .. } => "wait".to_owned(),
            Effect::Done => "done".to_owned(),
            Effect::GaveUp(gave_up) => gave_up.to_string(),
        }
    }

    fn event(&mut self, event: Event) -> String {
        let transfer = self.transfer.clone();
        (self.transfer, self.effects) = step(transfer, event, self.now, &mut self.chance);
        self.told()
    }

    fn opened(&mut self, blob: &str, missing: Range<u64>) -> String {
        let (digest, missing) = (self.digest(blob), ranges(missing));
        self.event(Event::Opened { digest, missing })
    }

    fn fetched(&mut self, blob: &str, missing: Range<u64>, fault: Option<Fault>) -> String {
        let (digest, missing) = (self.digest(blob), ranges(missing));
        self.event(Event::Fetched { digest, missing, fault })
    }

    fn whole(&mut self, blob: &str) -> String {
        self.event(Event::Whole(self.digest(blob)))
    }

    fn read(&mut self, blob: &str) -> String {
        let bytes = if blob == "m" { self.manifest.to_bytes() } else { self.list.to_bytes() };
        self.event(Event::Read { digest: self.digest(blob), bytes })
    }

    /// Waits as long as it is told to.
    fn wait(&mut self) -> String {
        let [Effect::Wait { until, .. }] = self.effects[..] else { panic!("{}", self.told()) };
        assert!(until > self.now);
        self.now = until;
        self.event(Event::Tick)
    }

    /// Up to where the weights are opened.
    fn to_weights(origins: usize) -> Play {
        let mut play = Play::new(origins);
        for (blob, next) in [("m", "open l"), ("l", "open w by chunks")] {
            play.whole(blob);
            assert_eq!(play.read(blob), next);
        }
        play
    }
}

fn letter(id: OriginId) -> String {
    ["a", "b", "c"][id.0].to_owned()
}

fn ranges(missing: Range<u64>) -> Vec<Range<u64>> {
    [missing].into_iter().filter(|range| !range.is_empty()).collect()
}

fn reset() -> Option<Fault> {
    Some(Fault::Reset { why: "cut".to_owned() })
}

#[test]
fn a_variant_comes_document_by_document_and_range_by_range() {
    let mut play = Play::new(1);
    let size = play.manifest.to_bytes().len() as u64;
    assert_eq!(play.told(), "open m");
    assert_eq!(play.opened("m", 0..size), format!("a: m 0..{size}"));
    assert_eq!(play.fetched("m", 0..0, None), "finish m");
    assert_eq!(play.whole("m"), "read m");
    assert_eq!(play.read("m"), "open l");
    assert_eq!(play.whole("l"), "read l", "it was there");
    assert_eq!(play.read("l"), "open w by chunks");
    let end = 20 * MIB + 5;
    assert_eq!(play.opened("w", 3 * MIB + 7..end), format!("a: w {}..{}", 3 * MIB + 7, 11 * MIB + 7));
    assert_eq!(
        play.fetched("w", 11 * MIB + 7..end, None),
        format!("a: w {}..{}", 11 * MIB + 7, 19 * MIB + 7)
    );
    assert_eq!(play.fetched("w", 19 * MIB + 7..end, None), format!("a: w {}..{end}", 19 * MIB + 7));
    assert_eq!(play.fetched("w", 0..0, None), "finish w");
    assert_eq!(play.whole("w"), "open c");
    assert_eq!(play.whole("c"), "done");
    assert_eq!(play.whole("c"), "", "nobody asked");
}

#[test]
fn failures_count_until_more_is_there_than_ever() {
    let mut play = Play::to_weights(1);
    let (mut from, end) = (0, 20 * MIB + 5);
    play.opened("w", 0..end);
    for _ in 0..100 {
        from += 100_000;
        assert_eq!(play.fetched("w", from..end, reset()), "wait");
        assert!(play.wait().starts_with(&format!("a: w {from}..")));
        assert!(play.now < 100 * SECOND_NS, "it never waits long");
    }
    // From here on it only drips.
    let mut turns = 0;
    loop {
        from += 1000;
        turns += 1;
        let told = play.fetched("w", from..end, reset());
        if told != "wait" {
            assert!(
                told.contains("nobody gives sha256:") && told.contains("a: it broke off (cut)"),
                "{told}"
            );
            break;
        }
        play.wait();
    }
    assert_eq!(turns, 7, "and one before");
}

#[test]
fn who_fails_three_times_makes_way_for_the_next() {
    let mut play = Play::to_weights(2);
    let end = 20 * MIB + 5;
    assert!(play.opened("w", 0..end).starts_with("a: w 0.."));
    for _ in 0..2 {
        assert_eq!(play.fetched("w", 0..end, Some(Fault::Unreachable { why: String::new() })), "wait");
        assert!(play.wait().starts_with("a: w 0.."));
    }
    let unreachable = Some(Fault::Unreachable { why: String::new() });
    assert!(play.fetched("w", 0..end, unreachable).starts_with("b: w 0.."), "at once");
    assert!(play.fetched("w", 8 * MIB..end, None).starts_with("b: w 8388608.."), "and stays with it");
}

#[test]
fn each_fault_and_who_is_asked_next() {
    let end = 20 * MIB + 5;
    let check = |fault: Fault, origins: usize, expected: &str| {
        let mut play = Play::to_weights(origins);
        play.opened("w", 9 * MIB..end);
        let told = play.fetched("w", 9 * MIB..end, Some(fault.clone()));
        assert!(told.contains(expected), "{fault:?}: {told}");
    };
    let why = || "x".to_owned();
    check(Fault::NotThere, 2, "b: w 9437184..17825792");
    check(Fault::NotThere, 1, "a: it does not have the blob");
    check(Fault::Denied { why: why() }, 2, "b: w 9437184..");
    check(Fault::Slow, 2, "b: w 9437184..");
    check(Fault::Slow, 1, "wait");
    check(Fault::Busy { why: why(), asked_ms: None }, 2, "wait");
    check(Fault::Busy { why: why(), asked_ms: Some(60_000) }, 2, "b: w 9437184..");
    check(Fault::Busy { why: why(), asked_ms: Some(60_000) }, 1, "wait");
    check(Fault::Busy { why: why(), asked_ms: Some(700_000) }, 2, "b: w 9437184..");
    // Who knows no ranges is asked for all only if nobody else can be.
    check(Fault::WholeForRange, 2, "b: w 9437184..17825792");
    check(Fault::WholeForRange, 1, "a: w 0..20971525 whole");
    check(Fault::WrongRange { why: why() }, 1, "a: w 9437184..");
    // Of a wrong chunk only that is asked of another.
    check(Fault::WrongBytes { range: 9 * MIB..10 * MIB }, 2, "b: w 9437184..10485760");
    check(Fault::WrongBytes { range: 9 * MIB..10 * MIB }, 1, "a: w 9437184..10485760");
}

#[test]
fn who_answers_with_nothing_is_not_asked_for_ever() {
    let mut play = Play::to_weights(1);
    let end = 20 * MIB + 5;
    play.opened("w", 0..end);
    assert!(play.fetched("w", 0..end, None).starts_with("a: w 0.."));
    assert!(play.fetched("w", 0..end, None).contains("nothing of what it was asked for"));
}

#[test]
fn after_two_wrong_chunks_an_origin_is_out_and_after_one_it_goes_on_elsewhere() {
    let end = 20 * MIB + 5;
    let mut play = Play::to_weights(2);
    let wrong = |chunk: u64| Some(Fault::WrongBytes { range: chunk * MIB..(chunk + 1) * MIB });
    play.opened("w", 0..end);
    assert_eq!(play.fetched("w", 2 * MIB..end, wrong(2)), "b: w 2097152..3145728");
    assert_eq!(play.fetched("w", 3 * MIB..end, None), "a: w 3145728..11534336", "the best liked again");
    assert_eq!(play.fetched("w", 5 * MIB..end, wrong(5)), "b: w 5242880..6291456");
    assert_eq!(play.fetched("w", 6 * MIB..end, None), "b: w 6291456..14680064", "for good");
    play.fetched("w", 7 * MIB..end, wrong(7));
    assert!(play.fetched("w", 7 * MIB..end, wrong(7)).contains("a: its bytes 5242880 to 6291456 are wrong"));
}

#[test]
fn what_another_process_brings_is_waited_for_and_never_fetched() {
    let mut play = Play::to_weights(1);
    let weights = play.digest("w");
    assert_eq!(play.event(Event::Held { digest: weights }), "open c", "what is free comes meanwhile");
    assert_eq!(play.whole("c"), "wait");
    for _ in 0..5 {
        let before = play.now;
        assert_eq!(play.wait(), "open w by chunks");
        assert_eq!(play.now - before, SECOND_NS);
        assert_eq!(play.event(Event::Held { digest: weights }), "wait");
    }
    play.wait();
    assert_eq!(play.whole("w"), "done");
    // A list that another process brings: the weights wait for it.
    let mut play = Play::new(1);
    play.whole("m");
    play.read("m");
    assert_eq!(play.event(Event::Held { digest: play.digest("l") }), "open c");
    assert_eq!(play.whole("c"), "wait");
    assert_eq!(play.wait(), "open l");
}

#[test]
fn a_whole_that_is_another_blob_begins_again_elsewhere() {
    let mut play = Play::new(2);
    let size = play.manifest.to_bytes().len() as u64;
    let manifest = play.digest("m");
    play.opened("m", 0..size);
    play.fetched("m", 0..0, None);
    assert_eq!(play.event(Event::Spoiled(manifest)), "open m");
    assert_eq!(play.opened("m", 0..size), format!("b: m 0..{size}"));
    play.fetched("m", 0..0, None);
    assert_eq!(play.event(Event::Spoiled(manifest)), "open m");
    assert_eq!(play.opened("m", 0..size), format!("a: m 0..{size}"));
    play.fetched("m", 0..0, None);
    play.event(Event::Spoiled(manifest));
    play.opened("m", 0..size);
    play.fetched("m", 0..0, None);
    play.event(Event::Spoiled(manifest));
    let told = play.opened("m", 0..size);
    assert!(told.contains("nobody gives") && told.contains("b: its bytes 0 to"), "{told}");
}

#[test]
fn this_machine_and_what_was_signed_may_end_it_too() {
    let mut play = Play::new(1);
    let no_room = NoRoom { path: PathBuf::from("/p"), needed_bytes: 9, free_bytes: 0, keep_bytes: 0 };
    let told = play.event(Event::Stopped(Stop::NoRoom(no_room)));
    assert_eq!(told, "not enough room at /p: 9 bytes are needed, 0 are free, of which 0 stay free");
    assert_eq!(play.event(Event::Tick), "");
    let mut play = Play::new(1);
    play.whole("m");
    let told = play.event(Event::Read { digest: play.digest("m"), bytes: b"{}".to_vec() });
    assert!(told.contains("is genuine and cannot be used"), "{told}");
    let order = Order::index(Digest::of(b""), 5 << 20);
    let (_, effects) = Transfer::begin(&order, vec!["a".to_owned()], Rules::default());
    assert!(matches!(&effects[..], [Effect::GaveUp(GaveUp::Unusable { .. })]));
    let (_, effects) = Transfer::begin(&Order::index(Digest::of(b""), 0), Vec::new(), Rules::default());
    assert!(matches!(&effects[..], [Effect::Open(_)]));
}
