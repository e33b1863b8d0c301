//! The engine under test, asked in every way that its users ask it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kernels::compute::Compute;
use kernels::cpu::Isa;
use kernels::page::{CacheFormat, PageShape};
use lm::adapter::Adapter;
use lm::cache::Cache;
use lm::forward::{Part, Scratch, Wanted};
use lm::gguf::Gguf;
use lm::network::Network;

/// Positions that a sequence may grow to. Within the original context of `phi3-longrope-short` (64), beyond that of
/// `phi3-longrope` (32): it decides which of their factors hold.
pub(crate) const REACH: usize = 64;

/// A way to put a prompt through the model; all must give the same logits.
pub(crate) type Way = fn(&Engine, CacheFormat, &[u32]) -> Vec<f32>;

/// The ways, with what to call them.
pub(crate) const WAYS: [(&str, Way); 5] = [
    ("whole", Engine::whole),
    ("token by token", Engine::singly),
    ("in pieces", Engine::pieces),
    ("among others", Engine::among_others),
    ("forked", Engine::forked),
];

/// New tokens of a sequence, its cache, and its adapter.
type Asked<'a> = (&'a [u32], &'a mut Cache, Option<&'a Adapter>);

/// A loaded model, and the adapter of the sequence in question; sequences beside it have none.
pub(crate) struct Engine {
    pub(crate) network: Network,
    adapter: Option<Adapter>,
}

impl Engine {
    pub(crate) fn load(file: Vec<u8>, isa: Isa) -> Engine {
        let threads = NonZeroUsize::new(2).expect("two is not zero");
        let file = Gguf::parse(file.into()).expect("the tiny model is a GGUF file");
        let network = Network::load(&file, Arc::new(Compute::new(isa, threads)));
        Engine {
            network: network.unwrap_or_else(|error| panic!("the tiny model loads: {error}")),
            adapter: None,
        }
    }

    /// The same with an adapter.
    pub(crate) fn adapted(mut self, file: Vec<u8>) -> Engine {
        let file = Gguf::parse(file.into()).expect("the tiny adapter is a GGUF file");
        self.adapter = Some(self.network.adapter(&file, 1.0).expect("the adapter fits"));
        self
    }

    /// The pages of a cache; `None` where heads are no whole blocks of the format.
    pub(crate) fn pages(&self, format: CacheFormat) -> Option<PageShape> {
        self.network.page_shape(format).ok()
    }

    fn sequence(&self, format: CacheFormat) -> Cache {
        self.network.sequence(self.pages(format).expect("the caller has asked whether it fits"), REACH)
    }

    /// Logits of all new tokens of the sequences, `[tokens, vocabulary]` each.
    fn step(&self, sequences: &mut [Asked]) -> Vec<Vec<f32>> {
        let counts: Vec<usize> = sequences.iter().map(|(tokens, ..)| tokens.len()).collect();
        let mut parts: Vec<Part> = sequences
            .iter_mut()
            .map(|(tokens, cache, adapter)| Part { tokens, cache, adapter: *adapter, wanted: Wanted::All })
            .collect();
        let logits = self.network.step(&mut Scratch::default(), &mut parts).expect("the step is taken");
        let vocabulary = self.network.shape().vocabulary;
        let mut rest = logits.as_slice();
        let rows = counts.into_iter().map(|count| {
            let (mine, others) = rest.split_at(count * vocabulary);
            rest = others;
            mine.to_vec()
        });
        let rows = rows.collect();
        assert!(rest.is_empty(), "logits for the tokens that were asked for, and no more");
        rows
    }

    fn one(&self, tokens: &[u32], cache: &mut Cache) -> Vec<f32> {
        self.step(&mut [(tokens, cache, self.adapter.as_ref())]).swap_remove(0)
    }

    /// The prompt in one step.
    pub(crate) fn whole(&self, format: CacheFormat, tokens: &[u32]) -> Vec<f32> {
        self.one(tokens, &mut self.sequence(format))
    }

    /// As decoding does.
    fn singly(&self, format: CacheFormat, tokens: &[u32]) -> Vec<f32> {
        let mut cache = self.sequence(format);
        tokens.iter().flat_map(|token| self.one(&[*token], &mut cache)).collect()
    }

    /// In pieces that begin and end on neither side of a page.
    fn pieces(&self, format: CacheFormat, tokens: &[u32]) -> Vec<f32> {
        let mut cache = self.sequence(format);
        let mut rest = tokens;
        let mut logits = Vec::new();
        for len in [5, 1, 27, 9].into_iter().cycle() {
            let (piece, others) = rest.split_at(rest.len().min(len));
            logits.extend(self.one(piece, &mut cache));
            rest = others;
            if rest.is_empty() {
                break;
            }
        }
        logits
    }

    /// With two other sequences in each step: one that reads the same words in another order, one that decodes.
    fn among_others(&self, format: CacheFormat, tokens: &[u32]) -> Vec<f32> {
        let (mut mine, mut before, mut after) =
            (self.sequence(format), self.sequence(format), self.sequence(format));
        let backwards: Vec<u32> = tokens.iter().rev().copied().collect();
        let mut logits = Vec::new();
        for (piece, other) in tokens.chunks(11).zip(backwards.chunks(11)) {
            let step = &mut [
                (other, &mut before, None),
                (piece, &mut mine, self.adapter.as_ref()),
                (&other[..1], &mut after, None),
            ];
            logits.extend(self.step(step).swap_remove(1));
        }
        logits
    }

    /// From the beginning of a sequence that went on with something else: pages are shared, and one of them is copied.
    fn forked(&self, format: CacheFormat, tokens: &[u32]) -> Vec<f32> {
        let at = tokens.len() - 7;
        let mut first = self.sequence(format);
        let mut logits = self.one(&tokens[..at], &mut first);
        let mut second = first.fork(at, REACH);
        let backwards: Vec<u32> = tokens[..9].iter().rev().copied().collect();
        self.one(&backwards, &mut first);
        // A third forks inside a page that the second still writes to.
        let mut third = second.fork(at - 3, REACH);
        logits.extend(self.one(&tokens[at..], &mut second));
        let again = self.one(&tokens[at - 3..], &mut third);
        let kept = logits.split_off((at - 3) * self.network.shape().vocabulary);
        let apart = kept.iter().zip(&again).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-4, "a fork of a fork is {apart} away");
        logits.extend(again);
        logits
    }
}
