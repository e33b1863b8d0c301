//! Batches: sequences that go through a model together write what each writes alone, pages come back, and room is kept to.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::page::{CacheFormat, PAGE};
use lm::batch::request::{Event, Finish, Id, Refused, Request};
use lm::batch::{Batch, Limits};
use lm::constraint::vocabulary::{TokenBytes, Vocabulary};
use lm::constraint::{Constraint, Grammar};
use lm::model::Model;
use lm::sample::{Chosen, Settings};
use lm::specimen::Specimen;
use lm::tokenizer::special::Special;

const LIMITS: Limits = Limits {
    running: 4,
    waiting: 8,
    step_tokens: 24,
    context: 256,
    cache_bytes: 64 << 20,
    prefix_bytes: 64 << 20,
};

fn model() -> Arc<Model> {
    let compute = Arc::new(Compute::new(Isa::best(), NonZeroUsize::new(2).expect("two")));
    let file = Specimen::SMALL.gguf().expect("a specimen is a file");
    Arc::new(Model::load(&file, compute).expect("a specimen is a model"))
}

fn batch(model: &Arc<Model>, limits: Limits) -> Batch {
    let pages = model.network.page_shape(CacheFormat::F16).expect("a head is whole blocks of F16");
    Batch::new(Arc::clone(model), pages, limits)
}

fn request(model: &Model, text: &str, max_tokens: usize) -> Request {
    Request {
        prompt: model.tokenizer.encode_for_model(text, Special::Plain),
        max_tokens: Some(max_tokens),
        sampling: Settings { temperature: 0.0, ..Settings::default() },
        top: 0,
        echo: false,
        constraint: None,
        ignore_end: true,
        adapter: None,
    }
}

/// Runs a batch to its end; gives the tokens of each sequence, how many were reused, and how it finished.
fn finish(batch: &mut Batch, ids: &[Id]) -> Vec<(Vec<u32>, usize, Option<Finish>)> {
    let mut found = vec![(Vec::new(), 0, None); ids.len()];
    let of = |id: Id| ids.iter().position(|other| *other == id).expect("an id that was given");
    while batch.busy() {
        for event in batch.step().expect("a step") {
            match event {
                Event::Begun { id, reused } => found[of(id)].1 = reused,
                Event::Token { id, chosen } => found[of(id)].0.push(chosen.token),
                Event::Finished { id, finish } => found[of(id)].2 = Some(finish),
                Event::Read { .. } | Event::Guessed { .. } => {}
            }
        }
    }
    found
}

#[test]
fn together_each_writes_what_it_writes_alone() {
    let model = model();
    let texts =
        ["the end", "and so on and on, for longer than a step may be: and then some more", "", "a", "other"];
    let lengths = [20, 7, 33, 1, 12];
    let alone: Vec<Vec<u32>> = texts
        .iter()
        .zip(lengths)
        .map(|(text, length)| {
            let mut batch = batch(&model, LIMITS);
            let id = batch.submit(request(&model, text, length)).expect("taken");
            finish(&mut batch, &[id]).remove(0).0
        })
        .collect();
    let mut batch = batch(&model, LIMITS);
    let ids: Vec<Id> = texts
        .iter()
        .zip(lengths)
        .map(|(text, length)| batch.submit(request(&model, text, length)).expect("taken"))
        .collect();
    for (((tokens, _, end), alone), length) in finish(&mut batch, &ids).into_iter().zip(alone).zip(lengths) {
        assert_eq!(tokens, alone);
        assert_eq!(tokens.len(), length);
        assert_eq!(end, Some(Finish::Length));
    }
    assert_eq!(batch.load(), (0, 0));
    assert_eq!(batch.cache_bytes().0, 0, "pages of sequences that ended are still in use");
}

#[test]
fn a_known_beginning_is_not_read_again_and_changes_nothing() {
    let model = model();
    let text = "and the other and the other and the other and the other and the other";
    let longer = format!("{text} thing is that");
    let mut fresh = batch(&model, Limits { prefix_bytes: 0, ..LIMITS });
    let id = fresh.submit(request(&model, &longer, 20)).expect("taken");
    let (expected, reused, _) = finish(&mut fresh, &[id]).remove(0);
    assert_eq!(reused, 0);

    let mut batch = batch(&model, LIMITS);
    let id = batch.submit(request(&model, text, 5)).expect("taken");
    finish(&mut batch, &[id]);
    let known = model.tokenizer.encode_for_model(text, Special::Plain).len();
    let id = batch.submit(request(&model, &longer, 20)).expect("taken");
    let (tokens, reused, _) = finish(&mut batch, &[id]).remove(0);
    assert_eq!(tokens, expected);
    assert!(reused + 3 >= known, "{reused} of {known} tokens were reused");
    // The same prompt once more: all but its last token is known.
    let id = batch.submit(request(&model, &longer, 20)).expect("taken");
    let (tokens, reused, _) = finish(&mut batch, &[id]).remove(0);
    assert_eq!(tokens, expected);
    assert_eq!(reused, model.tokenizer.encode_for_model(&longer, Special::Plain).len() - 1);
    batch.clear();
    assert_eq!(batch.cache_bytes(), (0, 0));
}

#[test]
fn a_long_known_beginning_is_one_step_away_from_its_first_token() {
    let model = model();
    let context = 2_304;
    let known: Vec<u32> = (0..2_000).map(|index| 20 + index * 7 % 251).collect();
    let asked = |end: u32| Request { prompt: [&known[..], &[end]].concat(), ..request(&model, "", 3) };
    let mut batch = batch(&model, Limits { context, step_tokens: 128, ..LIMITS });
    let mut steps_to_first = |end| {
        batch.submit(asked(end)).expect("taken");
        let mut first = None;
        for step in 1.. {
            let events = batch.step().expect("a step");
            let wrote = events.iter().any(|event| matches!(event, Event::Token { .. }));
            first = first.or(wrote.then_some(step));
            if !batch.busy() {
                break;
            }
        }
        (first, batch.cache_bytes().1)
    };
    let (cold, once) = steps_to_first(30);
    assert_eq!(cold, Some(2_001_usize.div_ceil(128)));
    let (warm, twice) = steps_to_first(31);
    assert_eq!(warm, Some(1));
    // Of the second only the page that ends otherwise is kept beside the first.
    let page = model.network.page_shape(CacheFormat::F16).expect("pages").bytes();
    assert_eq!((once, twice), (2_003_usize.div_ceil(PAGE) * page, (2_003_usize.div_ceil(PAGE) + 1) * page));
}

#[test]
fn what_several_begin_with_is_read_once() {
    let model = model();
    let text = "and the other ".repeat(9) + "and so on";
    let prompt = model.tokenizer.encode_for_model(&text, Special::Plain);
    assert!(prompt.len() > 2 * PAGE, "{} tokens", prompt.len());
    let longer = format!("{text} to the end");
    let mut fresh = batch(&model, LIMITS);
    let alone = [&text, &longer].map(|text| {
        fresh.clear();
        let id = fresh.submit(request(&model, text, 20)).expect("taken");
        finish(&mut fresh, &[id]).remove(0).0
    });
    let mut batch = batch(&model, Limits { prefix_bytes: 0, ..LIMITS });
    let ids = [&text, &text, &longer].map(|text| batch.submit(request(&model, text, 20)).expect("taken"));
    let found = finish(&mut batch, &ids);
    let reused: Vec<usize> = found.iter().map(|(_, reused, _)| *reused).collect();
    // Nobody waits for less than a page.
    assert!(reused[0] == 0 && reused[1..].iter().all(|reused| reused + PAGE >= prompt.len()), "{reused:?}");
    for ((tokens, ..), alone) in found.iter().zip([&alone[0], &alone[0], &alone[1]]) {
        assert_eq!(tokens, alone);
    }
}

#[test]
fn what_cannot_fit_is_refused_with_its_figures() {
    let model = model();
    let mut small = batch(&model, Limits { running: 1, waiting: 1, context: 32, ..LIMITS });
    let long = "x".repeat(40);
    let refused = small.submit(request(&model, &long, 1)).expect_err("too long");
    assert!(matches!(refused, Refused::TooLong { answer: 1, context: 32, .. }), "{refused}");
    let refused = small.submit(request(&model, "", 32)).expect_err("too long");
    assert_eq!(refused, Refused::TooLong { prompt: 1, answer: 32, context: 32 });
    let nothing = Request { prompt: Vec::new(), ..request(&model, "", 1) };
    assert_eq!(small.submit(nothing).expect_err("empty"), Refused::Empty);
    let wild = Request { prompt: vec![99_999], ..request(&model, "", 1) };
    assert_eq!(
        small.submit(wild).expect_err("wild"),
        Refused::NoSuchToken { token: 99_999, vocabulary: 320 }
    );
    small.submit(request(&model, "a", 1)).expect("begins at once");
    small.submit(request(&model, "b", 1)).expect("waits");
    assert_eq!(small.submit(request(&model, "c", 1)).expect_err("full"), Refused::Full { waiting: 2 });
    // Pages for one page of tokens: what needs more is refused, what fits runs one after the other.
    let page = model.network.page_shape(CacheFormat::F16).expect("pages").bytes();
    let mut tight = batch(&model, Limits { cache_bytes: page, ..LIMITS });
    let refused = tight.submit(request(&model, "a", PAGE)).expect_err("too long");
    assert!(matches!(refused, Refused::TooLong { context: PAGE, .. }), "{refused}");
    let ids = [(); 3].map(|()| tight.submit(request(&model, "a", 4)).expect("taken"));
    let ends = finish(&mut tight, &ids);
    assert!(ends.iter().all(|(tokens, ..)| *tokens == ends[0].0 && tokens.len() == 4));
}

#[test]
fn a_cancelled_sequence_is_gone_and_the_others_do_not_notice() {
    let model = model();
    let mut alone = batch(&model, LIMITS);
    let id = alone.submit(request(&model, "the other", 30)).expect("taken");
    let expected = finish(&mut alone, &[id]).remove(0).0;
    let mut batch = batch(&model, LIMITS);
    let gone = batch.submit(request(&model, "and then", 200)).expect("taken");
    let stays = batch.submit(request(&model, "the other", 30)).expect("taken");
    for _ in 0..5 {
        batch.step().expect("a step");
    }
    batch.cancel(gone);
    batch.cancel(gone);
    assert_eq!(batch.load(), (1, 0));
    let mut tokens = 0;
    while batch.busy() {
        for event in batch.step().expect("a step") {
            match event {
                Event::Token { id, .. } => {
                    assert_eq!(id, stays);
                    tokens += 1;
                }
                Event::Finished { id, .. } => assert_eq!(id, stays),
                _ => {}
            }
        }
    }
    assert!(tokens >= 25 && tokens < expected.len(), "{tokens}");
}

#[test]
fn a_prompt_can_be_told_token_by_token() {
    let model = model();
    let mut batch = batch(&model, LIMITS);
    let text = "the other and the other and the other thing, too";
    let prompt = model.tokenizer.encode_for_model(text, Special::Plain);
    let asked = Request { echo: true, top: 3, ..request(&model, text, 2) };
    batch.submit(asked).expect("taken");
    let (mut read, mut written): (Vec<Chosen>, usize) = (Vec::new(), 0);
    while batch.busy() {
        for event in batch.step().expect("a step") {
            match event {
                Event::Read { chosen, .. } => read.push(chosen),
                Event::Token { .. } => written += 1,
                _ => {}
            }
        }
    }
    assert_eq!(read.iter().map(|chosen| chosen.token).collect::<Vec<_>>(), prompt[1..]);
    assert!(read.iter().all(|chosen| chosen.top.len() == 3 && chosen.signal.logprob <= chosen.top[0].1));
    assert_eq!(written, 2);
}

#[test]
fn an_answer_follows_its_grammar() {
    let model = model();
    let tokens: Vec<Vec<u8>> = (0..model.tokenizer.vocabulary_size() as u32)
        .map(|token| model.tokenizer.bytes_of(token).into_owned())
        .collect();
    let tokens = tokens.iter().zip(0u32..).map(|(bytes, token)| match model.tokenizer.is_special(token) {
        true => TokenBytes::Special("<special>"),
        false => TokenBytes::Text(bytes),
    });
    let vocabulary = Vocabulary::new(tokens, model.tokenizer.ends(), None).expect("a vocabulary");
    let grammar = Grammar::regex("[0-9]{3}-[a-f]{2}");
    let mut batch = batch(&model, LIMITS);
    let ids = [1, 2, 3].map(|seed| {
        let constraint = Constraint::new(&grammar, &vocabulary).expect("a grammar");
        let sampling = Settings { seed, ..Settings::default() };
        batch
            .submit(Request {
                constraint: Some(constraint),
                sampling,
                ignore_end: false,
                ..request(&model, "is", 20)
            })
            .expect("taken")
    });
    for (tokens, _, end) in finish(&mut batch, &ids) {
        let tokens: Vec<u32> =
            tokens.into_iter().filter(|token| !model.tokenizer.is_special(*token)).collect();
        let text = model.tokenizer.decode(&tokens);
        let letters = text.trim().as_bytes();
        assert!(matches!(end, Some(Finish::Complete | Finish::End(_))), "{text}: {end:?}");
        assert!(
            letters.len() == 6 && letters[3] == b'-' && letters[..3].iter().all(u8::is_ascii_digit),
            "{text}"
        );
    }
}
