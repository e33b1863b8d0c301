//! Pages of sequences that ended, kept as a tree, so that the next with the same beginning need not read it again.
//!
//! A chat sends its whole history with each turn, and an agent the same long instructions: of what begins alike only the
//! rest goes through the model. Each edge of the tree is the tokens of one page ([`PAGE`] of them, fewer only where a
//! sequence ended), so the longest known beginning is found page by page, in time proportional to the prompt, and a page
//! that many sequences begin with is there, and counted, once. Pages are shared with those who write ([`Cache`] copies
//! what it must change), and the one unused for longest goes first. A page counts as used a moment after those that
//! follow it, so none goes before what follows it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kernels::page::{PAGE, Page};

use crate::adapter::Adapter;
use crate::cache::Cache;
use crate::network::Network;

/// Beginnings of sequences, with their keys and values.
pub struct Prefixes {
    /// In the order of their tokens, so that those that begin most alike are neighbours.
    kept: BTreeMap<Place, Kept>,
    /// Places by when they were last used, the oldest first.
    order: BTreeMap<u64, Place>,
    roots: Vec<Root>,
    /// Bytes of all pages.
    bytes: usize,
    /// Bytes of pages to keep at most.
    limit: usize,
    /// Counts what happens: names places, and says what was used before what.
    count: u64,
}

/// Where a page stands: after which, and the tokens in it, at most [`PAGE`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    after: u64,
    tokens: Vec<u32>,
}

struct Kept {
    name: u64,
    page: Arc<Page>,
    used: u64,
}

/// What sequences must share beside their tokens to share their pages.
struct Root {
    name: u64,
    adapter: Option<Arc<Adapter>>,
    /// Stands for all reaches with the same angles.
    reach: usize,
}

/// A page that is kept, as it can be written down and taken back.
pub struct Saved<P> {
    /// After which of those before it; `None`: it begins a sequence.
    pub after: Option<usize>,
    /// How far the sequence may reach: rope factors may depend on it.
    pub reach: usize,
    /// The tokens in it.
    pub tokens: Vec<u32>,
    /// Their keys and values.
    pub page: P,
}

impl Prefixes {
    /// Keeps at most `limit` bytes of pages.
    pub fn new(limit: usize) -> Prefixes {
        let (kept, order) = (BTreeMap::new(), BTreeMap::new());
        Prefixes { kept, order, roots: Vec::new(), bytes: 0, limit, count: 0 }
    }

    /// Bytes of all pages kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts the longest known beginning of `prompt` into `cache`, which is empty; gives how many tokens that is. At least
    /// the last token of the prompt is left, as its logits are wanted.
    pub fn begin(
        &mut self,
        network: &Network,
        prompt: &[u32],
        adapter: Option<&Arc<Adapter>>,
        cache: &mut Cache,
    ) -> usize {
        let Some(root) = self.root(network, adapter, cache.reach()) else { return 0 };
        let known = &prompt[..prompt.len().saturating_sub(1)];
        let (mut after, mut len, mut path) = (root, 0, Vec::new());
        for tokens in known.chunks(PAGE) {
            let Some((place, shared)) = self.nearest(Place { after, tokens: tokens.to_vec() }) else { break };
            let kept = &self.kept[&place];
            cache.share(Arc::clone(&kept.page), shared);
            (after, len) = (kept.name, len + shared);
            path.push(place);
            if shared < PAGE {
                break;
            }
        }
        self.touch(path);
        len
    }

    /// Keeps the pages of a sequence that ended.
    pub fn keep(&mut self, network: &Network, tokens: &[u32], cache: &Cache, adapter: Option<&Arc<Adapter>>) {
        let tokens = &tokens[..tokens.len().min(cache.len())];
        let mut after = self.root_or_new(network, adapter, cache.reach());
        let mut path = Vec::new();
        for (tokens, page) in tokens.chunks(PAGE).zip(cache.pages()) {
            let place = Place { after, tokens: tokens.to_vec() };
            let nearest = self.nearest(place.clone());
            let nearest = match nearest {
                // All of it is there, maybe with more behind it.
                Some((nearest, shared)) if shared == tokens.len() => nearest,
                nearest => {
                    // What ended within this page begins like it, and need not stand beside it.
                    if let Some((shorter, shared)) = nearest
                        && shorter.tokens.len() == shared
                    {
                        self.remove(&shorter);
                    }
                    let name = self.next();
                    self.kept.insert(place.clone(), Kept { name, page: Arc::clone(page), used: name });
                    self.bytes += page.shape().bytes();
                    place
                }
            };
            after = self.kept[&nearest].name;
            path.push(nearest);
        }
        self.touch(path);
        while self.bytes > self.limit
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            self.remove(&oldest.clone());
        }
        let kept = &self.kept;
        self.roots.retain(|root| {
            let first = kept.range(Place { after: root.name, tokens: Vec::new() }..).next();
            first.is_some_and(|(place, _)| place.after == root.name)
        });
    }

    /// All pages, the last used first; but for those of adapters, which have no name that would outlive them.
    pub fn saved(&self) -> Vec<Saved<&Page>> {
        let mut all: Vec<Saved<&Page>> = Vec::new();
        // Places by name, as those that follow see them: which they are, and how far their root reaches.
        let mut known: HashMap<u64, (Option<usize>, usize)> = HashMap::new();
        let roots = self.roots.iter().filter(|root| root.adapter.is_none());
        known.extend(roots.map(|root| (root.name, (None, root.reach))));
        for place in self.order.values().rev() {
            let (Some(kept), Some(&(after, reach))) = (self.kept.get(place), known.get(&place.after)) else {
                continue;
            };
            known.insert(kept.name, (Some(all.len()), reach));
            all.push(Saved { after, reach, tokens: place.tokens.clone(), page: &kept.page });
        }
        all
    }

    /// Takes pages back in the order of [`saved`](Prefixes::saved), as many as there is room for; gives how many that were.
    pub fn restore(&mut self, network: &Network, pages: impl IntoIterator<Item = Saved<Page>>) -> usize {
        let (mut names, mut path) = (Vec::new(), Vec::new());
        for Saved { after, reach, tokens, page } in pages {
            let bytes = page.shape().bytes();
            // What follows must follow a whole page.
            let after = match after {
                None => Some(self.root_or_new(network, None, reach)),
                Some(index) => names.get(index).copied().flatten(),
            };
            let (Some(after), 1..=PAGE, true) = (after, tokens.len(), self.bytes + bytes <= self.limit)
            else {
                break;
            };
            let place = Place { after, tokens };
            let name = self.next();
            names.push((place.tokens.len() == PAGE).then_some(name));
            if !self.kept.contains_key(&place) {
                self.bytes += bytes;
                self.kept.insert(place.clone(), Kept { name, page: Arc::new(page), used: name });
                path.push(place);
            }
        }
        let count = path.len();
        self.touch(path);
        count
    }

    /// Gives all pages back.
    pub fn clear(&mut self) {
        *self = Prefixes::new(self.limit);
    }

    fn root(&self, network: &Network, adapter: Option<&Arc<Adapter>>, reach: usize) -> Option<u64> {
        let same = |root: &&Root| {
            root.adapter.as_ref().map(Arc::as_ptr) == adapter.map(Arc::as_ptr)
                && network.same_angles(root.reach, reach)
        };
        self.roots.iter().find(same).map(|root| root.name)
    }

    fn root_or_new(&mut self, network: &Network, adapter: Option<&Arc<Adapter>>, reach: usize) -> u64 {
        self.root(network, adapter, reach).unwrap_or_else(|| {
            let name = self.next();
            self.roots.push(Root { name, adapter: adapter.cloned(), reach });
            name
        })
    }

    /// The page after the same page that begins most like `wanted`, and how many tokens they share; `None` of nothing.
    fn nearest(&self, wanted: Place) -> Option<(Place, usize)> {
        let shared = |place: &Place| match place.after == wanted.after {
            true => place.tokens.iter().zip(&wanted.tokens).take_while(|(a, b)| a == b).count(),
            false => 0,
        };
        let before = self.kept.range(..&wanted).next_back();
        let from = self.kept.range(&wanted..).next();
        let neighbours = before.into_iter().chain(from).map(|(place, _)| (place, shared(place)));
        let (place, shared) = neighbours.max_by_key(|(_, shared)| *shared)?;
        (shared > 0).then(|| (place.clone(), shared))
    }

    /// Takes note that a path was used, its end first.
    fn touch(&mut self, path: Vec<Place>) {
        for place in path.into_iter().rev() {
            let used = self.next();
            if let Some(kept) = self.kept.get_mut(&place) {
                self.order.remove(&kept.used);
                kept.used = used;
                self.order.insert(used, place);
            }
        }
    }

    fn remove(&mut self, place: &Place) {
        if let Some(kept) = self.kept.remove(place) {
            self.order.remove(&kept.used);
            self.bytes -= kept.page.shape().bytes();
        }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::num::NonZeroUsize;

    use kernels::compute::Compute;
    use kernels::cpu::Isa;
    use kernels::page::CacheFormat;

    use super::*;
    use crate::model::Model;
    use crate::specimen::Specimen;

    /// Numbers that look like chance.
    struct Dice(u32);

    impl Dice {
        fn below(&mut self, bound: u32) -> usize {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((self.0 >> 8) % bound) as usize
        }
    }

    fn network() -> Network {
        let compute = Arc::new(Compute::new(Isa::best(), NonZeroUsize::MIN));
        Model::load(&Specimen::SMALL.gguf().unwrap(), compute).unwrap().network
    }

    fn sequence(network: &Network, tokens: usize) -> Cache {
        let mut cache = network.sequence(network.page_shape(CacheFormat::F16).unwrap(), 1_000);
        cache.grow(tokens).unwrap();
        cache
    }

    fn begin(prefixes: &mut Prefixes, network: &Network, prompt: &[u32]) -> usize {
        let mut cache = sequence(network, 0);
        let len = prefixes.begin(network, prompt, None, &mut cache);
        assert_eq!(cache.len(), len);
        assert_eq!(cache.pages().len(), len.div_ceil(PAGE));
        len
    }

    fn shared(one: &[u32], other: &[u32]) -> usize {
        one.iter().zip(other).take_while(|(a, b)| a == b).count()
    }

    /// A sequence that begins as one of `others` does and then goes its own way, in an alphabet of two.
    fn branch(dice: &mut Dice, others: &[Vec<u32>]) -> Vec<u32> {
        let mut tokens = match others.len() {
            0 => Vec::new(),
            len => others[dice.below(len as u32)].clone(),
        };
        tokens.truncate(dice.below(130));
        tokens.extend((0..dice.below(70)).map(|_| dice.below(2) as u32).collect::<Vec<_>>());
        tokens
    }

    #[test]
    fn the_longest_known_beginning_is_found_and_each_page_is_there_once() {
        let network = network();
        let page = network.page_shape(CacheFormat::F16).unwrap().bytes();
        let (mut prefixes, mut dice, mut kept) = (Prefixes::new(usize::MAX), Dice(1), Vec::<Vec<u32>>::new());
        for _ in 0..300 {
            let prompt = branch(&mut dice, &kept);
            let known = &prompt[..prompt.len().saturating_sub(1)];
            let expected = kept.iter().map(|one| shared(one, known)).max().unwrap_or(0);
            assert_eq!(begin(&mut prefixes, &network, &prompt), expected, "{prompt:?}");
            prefixes.keep(&network, &prompt, &sequence(&network, prompt.len()), None);
            kept.push(prompt);
            // A page is known by all tokens up to its end; one that another goes on from within is not kept beside it.
            let ends = |one: &Vec<u32>| {
                (0..one.len().div_ceil(PAGE))
                    .map(|page| ((page + 1) * PAGE).min(one.len()))
                    .collect::<Vec<_>>()
            };
            let pages: HashSet<&[u32]> =
                kept.iter().flat_map(|one| ends(one).into_iter().map(|end| &one[..end])).collect();
            let alone = pages.iter().filter(|one| {
                let within = |other: &&&[u32]| {
                    other.len() > one.len() && (other.len() - 1) / PAGE == (one.len() - 1) / PAGE
                };
                !pages.iter().filter(within).any(|other| other.starts_with(one))
            });
            assert_eq!(prefixes.bytes(), alone.count() * page);
        }
    }

    #[test]
    fn what_was_unused_longest_goes_first_and_ends_before_beginnings() {
        let network = network();
        let page = network.page_shape(CacheFormat::F16).unwrap().bytes();
        let mut prefixes = Prefixes::new(6 * page);
        let sequence = |first: u32, len: usize| -> Vec<u32> {
            (0..len as u32).map(|token| token * 10 + first).collect()
        };
        let keep = |prefixes: &mut Prefixes, tokens: &[u32]| {
            prefixes.keep(&network, tokens, &self::sequence(&network, tokens.len()), None);
        };
        let (one, two, three) = (sequence(1, 3 * PAGE), sequence(2, 3 * PAGE), sequence(3, 2 * PAGE));
        keep(&mut prefixes, &one);
        keep(&mut prefixes, &two);
        assert_eq!(prefixes.bytes(), 6 * page);
        assert_eq!(begin(&mut prefixes, &network, &one), 3 * PAGE - 1);
        // Room for two pages: the end of the second, which was not used since.
        keep(&mut prefixes, &three);
        assert_eq!(prefixes.bytes(), 6 * page);
        assert_eq!(
            [&one, &two, &three].map(|tokens| begin(&mut prefixes, &network, tokens)),
            [3 * PAGE - 1, PAGE, 2 * PAGE - 1]
        );
        // More than there is room for: its beginning.
        let long = sequence(4, 9 * PAGE);
        keep(&mut prefixes, &long);
        assert_eq!([&one, &long].map(|tokens| begin(&mut prefixes, &network, tokens)), [0, 6 * PAGE]);
        prefixes.clear();
        assert_eq!((prefixes.bytes(), begin(&mut prefixes, &network, &long)), (0, 0));
    }

    #[test]
    fn what_was_saved_is_known_again_as_far_as_there_is_room() {
        let network = network();
        let (mut prefixes, mut dice, mut kept) = (Prefixes::new(usize::MAX), Dice(2), Vec::<Vec<u32>>::new());
        for _ in 0..60 {
            kept.push(branch(&mut dice, &kept));
            let tokens = &kept[kept.len() - 1];
            prefixes.keep(&network, tokens, &sequence(&network, tokens.len()), None);
        }
        let restored = |limit: usize| {
            let mut again = Prefixes::new(limit);
            let pages = prefixes.saved().into_iter().map(|saved| {
                let Saved { after, reach, tokens, page } = saved;
                Saved { after, reach, tokens, page: page.clone() }
            });
            let count = again.restore(&network, pages);
            (again, count)
        };
        let page = network.page_shape(CacheFormat::F16).unwrap().bytes();
        let (mut whole, count) = restored(usize::MAX);
        assert_eq!((count * page, whole.bytes()), (prefixes.bytes(), prefixes.bytes()));
        let (mut less, count) = restored(5 * page + 1);
        assert_eq!((count, less.bytes()), (5, 5 * page));
        // The last is the last used.
        let last = kept.iter().rev().find(|tokens| tokens.len() > 1).unwrap();
        assert_eq!(begin(&mut less, &network, last), (last.len() - 1).min(5 * PAGE));
        for tokens in &kept {
            assert_eq!(begin(&mut whole, &network, tokens), begin(&mut prefixes, &network, tokens));
        }
    }
}
