//! Guessing ahead: whatever is guessed, by whom, and however wrong, what is written is the same to the last bit.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::page::CacheFormat;
use lm::batch::request::{Event, Finish, Request};
use lm::batch::{Batch, Limits};
use lm::constraint::vocabulary::{Encode, TokenBytes, Vocabulary};
use lm::constraint::{Constraint, Grammar};
use lm::guess::{Draft, DraftError, Speculation};
use lm::model::Model;
use lm::sample::{Chosen, Settings};
use lm::specimen::Specimen;
use lm::tokenizer::special::Special;

const LIMITS: Limits = Limits {
    running: 3,
    waiting: 8,
    step_tokens: 24,
    context: 256,
    cache_bytes: 64 << 20,
    prefix_bytes: 64 << 20,
};

fn model(specimen: &Specimen) -> Arc<Model> {
    let compute = Arc::new(Compute::new(Isa::best(), NonZeroUsize::new(2).expect("two")));
    let file = specimen.gguf().expect("a specimen is a file");
    Arc::new(Model::load(&file, compute).expect("a specimen is a model"))
}

/// What was written of one request, and how much of it was guessed.
#[derive(Debug, Default, PartialEq)]
struct Written {
    tokens: Vec<Chosen>,
    finish: Option<Finish>,
    guessed: usize,
    accepted: usize,
}

/// Runs requests to their end; the steps that it took, too.
fn written(model: &Arc<Model>, speculation: Speculation, requests: Vec<Request>) -> (Vec<Written>, usize) {
    let pages = model.network.page_shape(CacheFormat::F16).expect("a head is whole blocks of F16");
    let mut batch = Batch::new(Arc::clone(model), pages, LIMITS).speculating(speculation);
    let ids: Vec<_> =
        requests.into_iter().map(|request| batch.submit(request).expect("a request that fits")).collect();
    let mut all: Vec<Written> = ids.iter().map(|_| Written::default()).collect();
    let mut steps = 0;
    while batch.busy() {
        steps += 1;
        for event in batch.step().expect("a step") {
            let (Event::Begun { id, .. }
            | Event::Read { id, .. }
            | Event::Guessed { id, .. }
            | Event::Token { id, .. }
            | Event::Finished { id, .. }) = event;
            let one = &mut all[ids.iter().position(|other| *other == id).expect("an id that was given")];
            match event {
                Event::Guessed { guessed, accepted, .. } => {
                    assert!(accepted <= guessed && guessed > 0);
                    one.guessed += guessed;
                    one.accepted += accepted;
                }
                Event::Token { chosen, .. } => one.tokens.push(chosen),
                Event::Finished { finish, .. } => one.finish = Some(finish),
                Event::Begun { .. } | Event::Read { .. } => {}
            }
        }
    }
    assert_eq!(batch.cache_bytes().0, 0);
    (all, steps)
}

fn request(model: &Model, text: &str, sampling: Settings) -> Request {
    Request {
        prompt: model.tokenizer.encode_for_model(text, Special::Plain),
        max_tokens: Some(90),
        sampling,
        top: 3,
        echo: false,
        constraint: None,
        ignore_end: true,
        adapter: None,
    }
}

const GREEDY: fn() -> Settings = || Settings { temperature: 0.0, ..Settings::default() };

/// Ways to choose tokens: none, some and much chance, and what was written before matters.
fn ways() -> [Settings; 4] {
    [
        GREEDY(),
        Settings { temperature: 0.05, seed: 3, top_k: 5, ..Settings::default() },
        Settings { temperature: 1.0, seed: 4, ..Settings::default() },
        Settings {
            temperature: 0.1,
            seed: 5,
            frequency_penalty: 0.02,
            repetition_penalty: 1.1,
            ..Settings::default()
        },
    ]
}

#[test]
fn what_is_written_is_the_same_whatever_is_guessed() {
    let target = model(&Specimen::SMALL);
    // One that is always right, one that is sometimes, and one that never is.
    let drafts =
        [Specimen::SMALL, Specimen { layers: 1, ..Specimen::SMALL }, Specimen { seed: 9, ..Specimen::SMALL }];
    let drafts = drafts
        .map(|specimen| Draft::new(model(&specimen), &target, CacheFormat::F16).expect("a draft").unsure());
    let [right, near, wrong] = drafts.map(Some);
    let speculations = [
        ("lookup", Speculation { lookup: true, ..Speculation::default() }),
        ("right", Speculation { draft: right, ..Speculation::default() }),
        ("near", Speculation { draft: near.clone(), ..Speculation::default() }),
        ("wrong", Speculation { draft: wrong, ..Speculation::default() }),
        ("all", Speculation { lookup: true, forced: true, draft: near }),
    ];
    let requests = || -> Vec<Request> {
        let text = ["and the other and the one and the other thing", "the end", ""];
        let ways = ways().into_iter().zip(text.iter().cycle());
        ways.map(|(settings, text)| request(&target, text, settings)).collect()
    };
    let alone = |speculation: &Speculation| -> (Vec<Written>, usize) {
        let each = requests().into_iter().map(|one| written(&target, speculation.clone(), vec![one]));
        let (all, steps): (Vec<_>, Vec<_>) = each.map(|(mut one, steps)| (one.remove(0), steps)).unzip();
        (all, steps.iter().sum())
    };
    let (plain, plain_steps) = alone(&Speculation::default());
    assert!(plain.iter().all(|one| one.guessed == 0 && one.tokens.len() == 90));
    for (name, speculation) in &speculations {
        let (all, steps) = alone(speculation);
        let (together, _) = written(&target, speculation.clone(), requests());
        let count = |of: fn(&Written) -> usize| all.iter().map(of).sum::<usize>();
        let (guessed, accepted) = (count(|one| one.guessed), count(|one| one.accepted));
        eprintln!(
            "{name}: {accepted} of {guessed} guessed tokens were right, {steps} steps instead of {plain_steps}"
        );
        for (one, plain) in all.iter().zip(&plain).chain(together.iter().zip(&plain)) {
            assert_eq!((&one.tokens, &one.finish), (&plain.tokens, &plain.finish), "{name}");
        }
        match *name {
            "wrong" => assert!(guessed < 120, "{guessed} tokens were guessed, and {accepted} were right"),
            _ => assert_eq!(steps + accepted, plain_steps, "{name}"),
        }
        assert!(*name != "right" || accepted * 2 > guessed, "{accepted} of {guessed}");
    }
}

#[test]
fn an_answer_ends_where_it_ends_without_guesses() {
    let target = model(&Specimen::SMALL);
    let draft = Draft::new(Arc::clone(&target), &target, CacheFormat::F16).expect("a draft").unsure();
    let ahead = Speculation { lookup: true, forced: true, draft: Some(draft) };
    let (plain, _) = written(&target, Speculation::default(), vec![request(&target, "the end", GREEDY())]);
    let prompt = target.tokenizer.encode_for_model("the end", Special::Plain).len();
    for max in [1, 2, 3, 7, LIMITS.context - prompt] {
        let asked = || Request { max_tokens: Some(max), ..request(&target, "the end", GREEDY()) };
        let (all, _) = written(&target, ahead.clone(), vec![asked()]);
        assert_eq!(all[0].finish, Some(Finish::Length));
        assert_eq!(all[0].tokens.len(), max);
        assert!(all[0].tokens.iter().zip(&plain[0].tokens).all(|(one, other)| one == other));
    }
}

/// The vocabulary of a model, of which a constraint believes that it spells all words.
fn spelling(model: &Model) -> Vocabulary {
    let tokenizer = &model.tokenizer;
    let texts: Vec<_> =
        (0..tokenizer.vocabulary_size() as u32).map(|token| tokenizer.bytes_of(token)).collect();
    let of = |byte: u8| {
        (0u32..).zip(&texts).find(|(token, text)| text[..] == [byte] && !tokenizer.is_special(*token))
    };
    let bytes: Vec<u32> = (0..=255).map(|byte| of(byte).expect("a token for each byte").0).collect();
    let encode: Encode = Arc::new(move |text| text.iter().map(|byte| bytes[usize::from(*byte)]).collect());
    let tokens = (0u32..).zip(&texts).map(|(token, text)| match tokenizer.is_special(token) {
        true => TokenBytes::Special("<special>"),
        false => TokenBytes::Text(text),
    });
    Vocabulary::new(tokens, tokenizer.ends(), Some(encode)).expect("a vocabulary")
}

#[test]
fn a_form_is_followed_alike_and_what_it_leaves_no_choice_about_is_guessed() {
    let target = model(&Specimen::SMALL);
    let draft = Draft::new(Arc::clone(&target), &target, CacheFormat::F16).expect("a draft").unsure();
    let vocabulary = spelling(&target);
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "temperature_of_the_machine": { "type": "integer", "minimum": 0, "maximum": 999 },
            "state_of_the_machine": { "enum": ["it runs", "it rests", "it is broken"] },
        },
        "required": ["temperature_of_the_machine", "state_of_the_machine"],
        "additionalProperties": false,
    });
    let grammars = [Grammar::json_schema(schema, true), Grammar::regex("(the thing and )+the end[0-9]{2}")];
    for grammar in &grammars {
        let requests = || -> Vec<Request> {
            let settings = ways().into_iter();
            let each = settings.map(|settings| Request {
                constraint: Some(Constraint::new(grammar, &vocabulary).expect("a grammar")),
                ignore_end: false,
                ..request(&target, "the machine", settings)
            });
            each.collect()
        };
        let (plain, _) = written(&target, Speculation::default(), requests());
        let (all, _) = written(
            &target,
            Speculation { lookup: true, forced: true, draft: Some(draft.clone()) },
            requests(),
        );
        for (one, plain) in all.iter().zip(&plain) {
            assert_eq!((&one.tokens, &one.finish), (&plain.tokens, &plain.finish));
        }
        assert!(all.iter().map(|one| one.accepted).sum::<usize>() > 0, "{all:?}");
    }
}

#[test]
fn a_draft_must_have_the_same_words() {
    let target = model(&Specimen::SMALL);
    let other = model(&Specimen { vocabulary: 321, ..Specimen::SMALL });
    let refused = Draft::new(other, &target, CacheFormat::F16).err();
    assert_eq!(refused, Some(DraftError::OtherVocabulary));
}
