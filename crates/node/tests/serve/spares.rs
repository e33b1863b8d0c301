//! Smaller variants of slots' models: they answer while memory is short, are told by name, and give the place back.

use std::collections::BTreeMap;
use std::sync::Arc;

use node::install::event::Event;
use node::install::state::Slot;
use node::pressure::Squeeze;
use serde_json::json;

use crate::client::{Events, get, post};
use crate::house::{chat, loaded, settings, until};
use crate::slots::{Stage, ask, digest, flip, long, name};

const CHAT: &str = "/v1/chat/completions";

/// A server of a model for which a smaller one stands by.
fn stage() -> (Stage, [Slot; 3]) {
    let stage = Stage::new();
    let slots = [1, 2, 3].map(|release| stage.release(release));
    stand_by(&stage, &slots[0], &slots[1]);
    (stage, slots)
}

fn stand_by(stage: &Stage, larger: &Slot, spare: &Slot) {
    stage.slots.keep_spares(BTreeMap::from([(name(), (larger.manifest, spare.clone()))]));
}

#[test]
fn a_smaller_variant_answers_while_memory_is_short() {
    let (stage, [large, small, other]) = stage();
    let serving = stage.start(settings());
    let (relief, address) = (serving.relief(), serving.address());
    assert!(!relief.has_spares(), "nothing serves");
    stage.serve(&large);
    stage.expect_loaded(&large);
    assert!(relief.has_spares());
    let samples = stage.slots.sample(&name(), 1, Arc::default());
    // What any engine answers alike may be compared.
    let plain = || post(address, CHAT, &chat("hello", 4, json!({ "logit_bias": {} }))).json();
    for squeeze in [Squeeze::Caches, Squeeze::Models] {
        relief.squeeze(squeeze);
        assert_eq!(digest(&plain()), large.manifest);
    }
    until("samples", || samples.try_iter().count() > 0);

    // Whoever is being answered is answered to the end by what began.
    let mut events = Events::ask(address, CHAT, &long());
    events.next().unwrap();
    relief.squeeze(Squeeze::Variants);
    let last: Vec<String> = events.map(|(_, data)| data).collect();
    assert_eq!(last.last().unwrap(), "[DONE]");
    assert_eq!(digest(&serde_json::from_str(&last[last.len() - 2]).unwrap()), large.manifest);
    stage.expect_loaded(&small);
    samples.try_iter().for_each(drop);
    let answer = plain();
    assert_eq!(digest(&answer), small.manifest);
    let told = &answer["x_selvedge"]["model"];
    assert_eq!((&told["release"], &told["spare"]), (&json!(2), &json!(true)), "{told}");
    assert!(matches!(stage.next(), Event::Answered(manifest, _) if manifest == small.manifest));
    let own = &get(address, "/v1/models").json()["data"][0]["x_selvedge"];
    let digest_of_small = json!(small.manifest.to_string());
    assert_eq!(
        (&own["digest"], &own["loaded"], &own["spare"]),
        (&digest_of_small, &json!(true), &json!(true))
    );
    assert_eq!(loaded(address, "chat").unwrap()["spare"], true);
    // The need goes on, and nothing comes twice; what the spare says is compared with nobody's, and nobody exercises it.
    relief.squeeze(Squeeze::Variants);
    stage.slots.exercise(&name(), &large);
    stage.expect_silence();
    assert_eq!(samples.try_iter().count(), 0);

    // Shorter still: nobody is answered, and what stood in goes, too. Then it comes again.
    relief.squeeze(Squeeze::Answers);
    until("it to be gone", || loaded(address, "chat").is_none());
    assert_eq!(ask(&serving, 1).status, 503);
    relief.squeeze(Squeeze::Variants);
    stage.expect_loaded(&small);
    relief.squeeze(Squeeze::Nothing);
    stage.expect_silence();
    assert_eq!(digest(&ask(&serving, 1).json()), small.manifest, "the larger one does not come at once");
    stage.pass(31);
    stage.expect_loaded(&large);
    assert_eq!(digest(&ask(&serving, 1).json()), large.manifest);

    // From no answers at all straight back: the spare answers until the larger one may come, after twice as long.
    relief.squeeze(Squeeze::Answers);
    until("it to be gone", || loaded(address, "chat").is_none());
    relief.squeeze(Squeeze::Nothing);
    stage.expect_loaded(&small);
    stage.pass(31);
    stage.expect_silence();
    stage.pass(31);
    stage.expect_loaded(&large);

    // Another release comes all the same, and has nothing that stands by.
    relief.squeeze(Squeeze::Variants);
    stage.expect_loaded(&small);
    stage.serve(&other);
    stage.expect_loaded(&other);
    assert!(!relief.has_spares());
    relief.squeeze(Squeeze::Variants);
    relief.squeeze(Squeeze::Nothing);
    stage.pass(600);
    stage.expect_silence();
    assert_eq!(digest(&ask(&serving, 1).json()), other.manifest);
    serving.stop();
}

#[test]
fn a_damaged_spare_disturbs_nobody() {
    let (stage, [large, small, _]) = stage();
    let serving = stage.start(settings());
    stage.serve(&large);
    stage.expect_loaded(&large);
    assert_eq!(ask(&serving, 8).status, 200);
    flip(&stage.store.blob_path(&small.weights));
    let relief = serving.relief();
    relief.squeeze(Squeeze::Variants);
    match stage.next_but_answers() {
        Event::Spoilt(manifest, _) => assert_eq!(manifest, small.manifest),
        other => panic!("{other:?}"),
    }
    // The slots let the larger one serve again, and know of no spare.
    stage.slots.keep_spares(BTreeMap::new());
    stage.serve(&large);
    stage.expect_loaded(&large);
    relief.squeeze(Squeeze::Variants);
    relief.squeeze(Squeeze::Nothing);
    stage.pass(600);
    stage.expect_silence();
    let its = loaded(serving.address(), "chat").unwrap();
    assert_eq!((&its["release"], &its["tokens"]), (&json!(1), &json!(8)), "it was never unloaded");
    assert_eq!(digest(&ask(&serving, 1).json()), large.manifest);
    serving.stop();
}
