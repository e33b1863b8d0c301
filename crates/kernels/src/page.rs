//! Keys and values of a run of positions, in the number format of the cache.
//!
//! A page holds [`PAGE`] positions for all layers of a model; a cache is a list of pages, shared between sequences where
//! they begin alike. Keys lie with positions side by side (`[head_dim][PAGE]` per layer and head), because a query meets 32
//! of them at once; values lie as they come (`[PAGE][head_dim]`), because their sum is what attention gives.

use crate::cpu::Isa;
use crate::format::float::widen;
use crate::simd::{Body, Simd, load_part};

/// Positions in a page.
pub const PAGE: usize = 32;

/// Numbers that share a scale in a `Q8_0` page.
const SHARED: usize = 32;

/// Bytes that a vector register may want to lie in one piece.
const LINE_BYTES: usize = 64;

/// How a cache stores numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CacheFormat {
    /// As computed.
    F32,
    /// Half precision.
    F16,
    /// 32 numbers of a head share an f16 scale, as in a file's Q8_0.
    Q8_0,
}

/// What a page has room for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageShape {
    /// Layers of the model.
    pub layers: usize,
    /// Heads that have keys and values of their own.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// How they are stored.
    pub format: CacheFormat,
}

/// Why there can be no such page.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Something is zero, or a page would not fit into memory.
    #[error("a page for {} layers of {} heads of {} numbers is empty or too large", .0.layers, .0.kv_heads, .0.head_dim)]
    Impossible(PageShape),
    /// `Q8_0` needs heads of whole blocks.
    #[error("a q8_0 cache needs heads of a multiple of 32 numbers, these have {head_dim}; use f16")]
    RaggedHeads {
        /// Numbers of a head.
        head_dim: usize,
    },
}

impl PageShape {
    /// Whether a page can have this shape.
    pub fn check(self) -> Result<(), PageError> {
        let numbers = [self.layers, self.kv_heads, self.head_dim.max(16), PAGE * 16]
            .into_iter()
            .try_fold(1_usize, usize::checked_mul);
        let possible = self.layers > 0 && self.kv_heads > 0 && self.head_dim > 0;
        if !possible || numbers.is_none_or(|numbers| isize::try_from(numbers).is_err()) {
            return Err(PageError::Impossible(self));
        }
        if self.format == CacheFormat::Q8_0 && !self.head_dim.is_multiple_of(SHARED) {
            return Err(PageError::RaggedHeads { head_dim: self.head_dim });
        }
        Ok(())
    }

    /// Bytes of a page.
    pub fn bytes(self) -> usize {
        let numbers = self.layers * self.kv_heads * PAGE * (self.head_dim + self.value_stride());
        match self.format {
            CacheFormat::F32 => 4 * numbers,
            CacheFormat::F16 => 2 * numbers,
            CacheFormat::Q8_0 => numbers + numbers / SHARED * 2,
        }
    }

    /// Numbers from one position's values to the next: whole vectors of sixteen.
    pub(crate) fn value_stride(self) -> usize {
        self.head_dim.next_multiple_of(16)
    }

    fn heads(self) -> usize {
        self.layers * self.kv_heads
    }
}

/// Keys and values of [`PAGE`] positions, zero where not yet written.
#[derive(Clone, Debug)]
pub struct Page {
    shape: PageShape,
    keys: Store,
    values: Store,
}

/// The numbers of one side. Scales: keys `[heads][head_dim / 32][PAGE]`, values `[heads][PAGE][head_dim / 32]`.
#[derive(Clone, Debug)]
enum Store {
    F32(Aligned<f32>),
    F16(Aligned<u16>),
    Q8 { codes: Aligned<i8>, scales: Vec<u16> },
}

impl Store {
    fn new(format: CacheFormat, len: usize) -> Store {
        match format {
            CacheFormat::F32 => Store::F32(Aligned::new(len)),
            CacheFormat::F16 => Store::F16(Aligned::new(len)),
            CacheFormat::Q8_0 => Store::Q8 { codes: Aligned::new(len), scales: vec![0; len / SHARED] },
        }
    }

    /// `len` numbers from `at` on, and where those lie that are asked for on the way.
    #[inline(always)]
    fn part<'a>(&'a self, at: usize, len: usize, ahead: &'a Store) -> Stored<'a> {
        fn cut<T>(all: &[T], at: usize, len: usize) -> &[[T; 16]] {
            all[at..at + len].as_chunks().0
        }
        match (self, ahead) {
            (Store::F32(all), _) => Stored::F32(Singles(cut(all.slice(), at, len))),
            (Store::F16(all), Store::F16(ahead)) => {
                Stored::F16(Halves(cut(all.slice(), at, len), cut(ahead.slice(), at, len)))
            }
            (Store::Q8 { codes, scales }, Store::Q8 { codes: ahead, .. }) => {
                let scales = &scales[at / SHARED..][..len / SHARED];
                Stored::Q8((cut(codes.slice(), at, len), cut(ahead.slice(), at, len), scales))
            }
            _ => panic!("pages of one sequence are of one format"),
        }
    }

    /// Appends all numbers as they lie, each with its lowest byte first.
    fn save(&self, out: &mut Vec<u8>) {
        match self {
            Store::F32(all) => all.slice().iter().for_each(|x| out.extend(x.to_le_bytes())),
            Store::F16(all) => all.slice().iter().for_each(|x| out.extend(x.to_le_bytes())),
            Store::Q8 { codes, scales } => {
                out.extend(codes.slice().iter().map(|code| code.cast_unsigned()));
                scales.iter().for_each(|scale| out.extend(scale.to_le_bytes()));
            }
        }
    }

    /// Takes what `save` gave from the beginning of `from`, as far as it goes; gives the rest.
    fn restore<'a>(&mut self, from: &'a [u8]) -> &'a [u8] {
        fn fill<'a, const N: usize, T>(to: &mut [T], from: &'a [u8], of: impl Fn([u8; N]) -> T) -> &'a [u8] {
            let (mine, rest) = from.split_at((to.len() * N).min(from.len()));
            to.iter_mut().zip(mine.as_chunks().0).for_each(|(to, bytes)| *to = of(*bytes));
            rest
        }
        match self {
            Store::F32(all) => fill(all.slice_mut(), from, f32::from_le_bytes),
            Store::F16(all) => fill(all.slice_mut(), from, u16::from_le_bytes),
            Store::Q8 { codes, scales } => {
                let rest = fill(codes.slice_mut(), from, i8::from_le_bytes);
                fill(scales, rest, u16::from_le_bytes)
            }
        }
    }

    fn number(&self, at: usize, scale: usize) -> f32 {
        match self {
            Store::F32(all) => all.slice()[at],
            Store::F16(all) => widen(all.slice()[at]),
            Store::Q8 { codes, scales } => f32::from(codes.slice()[at]) * widen(scales[scale]),
        }
    }
}

impl Page {
    /// An empty page.
    ///
    /// # Panics
    /// If the shape does not pass [`PageShape::check`].
    pub fn new(shape: PageShape) -> Page {
        assert_eq!(shape.check(), Ok(()), "the shape was checked");
        Page {
            shape,
            keys: Store::new(shape.format, shape.heads() * shape.head_dim * PAGE),
            values: Store::new(shape.format, shape.heads() * PAGE * shape.value_stride()),
        }
    }

    /// What it has room for.
    pub fn shape(&self) -> PageShape {
        self.shape
    }

    /// Appends all that is in it, [`PageShape::bytes`] of it, for [`Page::restore`] of the same version.
    pub fn save(&self, out: &mut Vec<u8>) {
        self.keys.save(out);
        self.values.save(out);
    }

    /// The page that was saved as `bytes`; `None` if they are not as many as such a page has.
    pub fn restore(shape: PageShape, bytes: &[u8]) -> Option<Page> {
        if bytes.len() != shape.bytes() {
            return None;
        }
        let mut page = Page::new(shape);
        let rest = page.keys.restore(bytes);
        page.values.restore(rest);
        Some(page)
    }

    /// Stores a position's keys and values of one layer, each `[kv_heads * head_dim]`.
    pub fn write(&mut self, layer: usize, slot: usize, keys: &[f32], values: &[f32]) {
        let (shape, len) = (self.shape, self.shape.kv_heads * self.shape.head_dim);
        assert!(layer < shape.layers && slot < PAGE, "layer {layer}, slot {slot} of {shape:?}");
        assert!(keys.len() == len && values.len() == len, "{len} keys and values");
        Isa::best().run(Write { page: self, layer, slot, keys, values });
    }

    /// A position's keys of one layer, `[kv_heads * head_dim]`, as far as the format kept them.
    pub fn read_keys(&self, layer: usize, slot: usize, out: &mut [f32]) {
        let dim = self.shape.head_dim;
        assert_eq!(out.len(), self.shape.kv_heads * dim, "a number for each key");
        for (i, out) in out.iter_mut().enumerate() {
            let at = (layer * self.shape.kv_heads * dim + i) * PAGE + slot;
            *out = self.keys.number(at, at / (PAGE * SHARED) * PAGE + slot);
        }
    }

    /// A position's values of one layer, `[kv_heads * head_dim]`, as far as the format kept them.
    pub fn read_values(&self, layer: usize, slot: usize, out: &mut [f32]) {
        let dim = self.shape.head_dim;
        assert_eq!(out.len(), self.shape.kv_heads * dim, "a number for each value");
        for (i, out) in out.iter_mut().enumerate() {
            let head = layer * self.shape.kv_heads + i / dim;
            let at = (head * PAGE + slot) * self.shape.value_stride() + i % dim;
            *out = self.values.number(at, at / SHARED);
        }
    }

    /// A head's keys, `[head_dim][PAGE]`; those of the page `ahead` are asked for on the way, as pages lie anywhere in memory.
    #[inline(always)]
    pub(crate) fn keys<'a>(&'a self, layer: usize, head: usize, ahead: &'a Page) -> Stored<'a> {
        let len = self.shape.head_dim * PAGE;
        self.keys.part((layer * self.shape.kv_heads + head) * len, len, &ahead.keys)
    }

    /// A head's values, `[PAGE][value_stride]`; as for keys.
    #[inline(always)]
    pub(crate) fn values<'a>(&'a self, layer: usize, head: usize, ahead: &'a Page) -> Stored<'a> {
        let len = PAGE * self.shape.value_stride();
        self.values.part((layer * self.shape.kv_heads + head) * len, len, &ahead.values)
    }

    /// Has memory bring a head's values nearer.
    #[inline(always)]
    pub(crate) fn ask_for_values<S: Simd>(&self, simd: S, layer: usize, head: usize) {
        match self.values(layer, head, self) {
            Stored::F32(Singles(all)) => ask_for(simd, all),
            Stored::F16(Halves(all, _)) => ask_for(simd, all),
            Stored::Q8((all, ..)) => ask_for(simd, all),
        }
    }
}

/// Has memory bring numbers nearer, line by line.
#[inline(always)]
fn ask_for<S: Simd, T>(simd: S, all: &[[T; 16]]) {
    let mut place = 0;
    while place < all.len() {
        simd.prefetch(all, place);
        place += LINE_BYTES / size_of::<[T; 16]>();
    }
}

/// The numbers of one side of a head in a page, as they lie.
pub(crate) enum Stored<'a> {
    F32(Singles<'a>),
    F16(Halves<'a>),
    /// And their scales: keys `[head_dim / 32][PAGE]`, values `[PAGE][head_dim / 32]`.
    Q8(Narrow<'a>),
}

/// Codes, what is asked for on the way, and scales in half precision.
type Narrow<'a> = (&'a [[i8; 16]], &'a [[i8; 16]], &'a [u16]);

/// Numbers that are read by sixteen.
pub(crate) trait Numbers: Copy {
    /// The sixteen from `16 * place` on, as f32.
    fn sixteen<S: Simd>(self, simd: S, place: usize) -> S::F;
}

/// As computed, or in a panel.
#[derive(Clone, Copy)]
pub(crate) struct Singles<'a>(pub(crate) &'a [[f32; 16]]);

impl Numbers for Singles<'_> {
    #[inline(always)]
    fn sixteen<S: Simd>(self, simd: S, place: usize) -> S::F {
        simd.load(&self.0[place])
    }
}

/// In half precision, and what is asked for on the way.
#[derive(Clone, Copy)]
pub(crate) struct Halves<'a>(&'a [[u16; 16]], &'a [[u16; 16]]);

impl Numbers for Halves<'_> {
    #[inline(always)]
    fn sixteen<S: Simd>(self, simd: S, place: usize) -> S::F {
        if place.is_multiple_of(2) {
            simd.prefetch(self.1, place);
        }
        simd.widen_f16(&self.0[place])
    }
}

/// Codes, what is asked for on the way, and scales.
#[derive(Clone, Copy)]
pub(crate) struct Codes<'a, const KEYS: bool> {
    codes: &'a [[i8; 16]],
    ahead: &'a [[i8; 16]],
    scales: &'a [[f32; 16]],
}

impl<'a, const KEYS: bool> Codes<'a, KEYS> {
    /// `scales`: room for them as f32.
    #[inline(always)]
    pub(crate) fn new<S: Simd>(
        simd: S,
        (codes, ahead, narrow): Narrow<'a>,
        scales: &'a mut Vec<f32>,
    ) -> Codes<'a, KEYS> {
        scales.resize(narrow.len(), 0.0);
        let wide = scales.as_chunks_mut().0;
        for (narrow, wide) in narrow.as_chunks().0.iter().zip(wide.iter_mut()) {
            simd.store(simd.widen_f16(narrow), wide);
        }
        Codes { codes, ahead, scales: wide }
    }
}

impl<const KEYS: bool> Numbers for Codes<'_, KEYS> {
    #[inline(always)]
    fn sixteen<S: Simd>(self, simd: S, place: usize) -> S::F {
        if place.is_multiple_of(4) {
            simd.prefetch(self.ahead, place);
        }
        let scale = if KEYS {
            // Of each position; 32 rows share them.
            simd.load(&self.scales[place / (2 * SHARED) * 2 + place % 2])
        } else {
            simd.splat(self.scales.as_flattened()[place / 2])
        };
        simd.mul(simd.widen_i8(&self.codes[place]), scale)
    }
}

#[inline(always)]
fn loaded<S: Simd>(simd: S, all: &[f32; 32]) -> [S::F; 2] {
    let parts = all.as_chunks().0;
    [simd.load(&parts[0]), simd.load(&parts[1])]
}

struct Write<'a> {
    page: &'a mut Page,
    layer: usize,
    slot: usize,
    keys: &'a [f32],
    values: &'a [f32],
}

impl Body for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Write { page: Page { shape, keys, values }, layer, slot, .. } = self;
        let (dim, stride) = (shape.head_dim, shape.value_stride());
        let heads = self.keys.chunks_exact(dim).zip(self.values.chunks_exact(dim));
        for (head, (new_keys, new_values)) in heads.enumerate() {
            let head = layer * shape.kv_heads + head;
            // Keys: number i of this slot lies at i * PAGE + slot. Values: one after the other from slot * stride.
            write_to(simd, keys, new_keys, head * dim * PAGE + slot, PAGE, |at| {
                at / (PAGE * SHARED) * PAGE + slot
            });
            write_to(simd, values, new_values, (head * PAGE + slot) * stride, 1, |at| at / SHARED);
        }
    }
}

/// Stores numbers from `at` on, `step` apart; `scale_of` says where the scale of a place lies.
#[inline(always)]
fn write_to<S: Simd>(
    simd: S,
    store: &mut Store,
    numbers: &[f32],
    at: usize,
    step: usize,
    scale_of: impl Fn(usize) -> usize,
) {
    match store {
        Store::F32(all) => {
            for (to, x) in all.slice_mut()[at..].iter_mut().step_by(step).zip(numbers) {
                *to = *x;
            }
        }
        Store::F16(all) => {
            let all = &mut all.slice_mut()[at..];
            let (whole, rest) = numbers.as_chunks();
            let mut bits = [0; 16];
            for (part, x) in whole.iter().enumerate() {
                simd.narrow_f16(simd.load(x), &mut bits);
                spread(&bits, &mut all[16 * part * step..], step);
            }
            simd.narrow_f16(load_part(simd, rest, 0.0), &mut bits);
            for (i, bits) in bits[..rest.len()].iter().enumerate() {
                all[(16 * whole.len() + i) * step] = *bits;
            }
        }
        Store::Q8 { codes, scales } => {
            for (part, x) in numbers.as_chunks::<SHARED>().0.iter().enumerate() {
                let at = at + part * SHARED * step;
                let [low, high] = loaded(simd, x);
                let largest = simd.largest(simd.max(simd.abs(low), simd.abs(high)));
                let inverse = simd.splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
                let mut scale = [0; 16];
                simd.narrow_f16(simd.splat(largest / 127.0), &mut scale);
                scales[scale_of(at)] = scale[0];
                let mut new = [[0; 16]; 2];
                simd.narrow_i8(simd.mul(low, inverse), &mut new[0]);
                simd.narrow_i8(simd.mul(high, inverse), &mut new[1]);
                for (half, new) in new.iter().enumerate() {
                    spread(new, &mut codes.slice_mut()[at + 16 * half * step..], step);
                }
            }
        }
    }
}

/// Sixteen numbers, `step` apart.
#[inline(always)]
fn spread<T: Copy>(from: &[T; 16], to: &mut [T], step: usize) {
    if step == 1 {
        to[..16].copy_from_slice(from);
        return;
    }
    for i in 0..16 {
        to[i * step] = from[i];
    }
}

/// Numbers whose first lies at the beginning of a cache line, so that no vector of them lies in two.
#[derive(Debug)]
struct Aligned<T> {
    all: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    fn new(len: usize) -> Aligned<T> {
        let line = LINE_BYTES / size_of::<T>();
        let all = vec![T::default(); len + line];
        // An allocator that does not say where the line begins leaves the numbers where they are: right, only slower.
        let start = all.as_ptr().align_offset(LINE_BYTES).min(line);
        Aligned { all, start, len }
    }

    fn slice(&self) -> &[T] {
        &self.all[self.start..][..self.len]
    }

    fn slice_mut(&mut self) -> &mut [T] {
        &mut self.all[self.start..][..self.len]
    }
}

impl<T: Copy + Default> Clone for Aligned<T> {
    fn clone(&self) -> Aligned<T> {
        let mut copy = Aligned::new(self.len);
        copy.slice_mut().copy_from_slice(self.slice());
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::{CacheFormat, PAGE, Page, PageError, PageShape};

    #[test]
    fn what_is_written_is_read_within_the_format_and_nothing_else_changes() {
        for (format, bound) in [(CacheFormat::F32, 0.0), (CacheFormat::F16, 5e-4), (CacheFormat::Q8_0, 5e-3)]
        {
            for head_dim in [8, 32, 64, 80, 96] {
                let shape = PageShape { layers: 2, kv_heads: 3, head_dim, format };
                if let Err(error) = shape.check() {
                    assert_eq!(error, PageError::RaggedHeads { head_dim });
                    continue;
                }
                let mut page = Page::new(shape);
                let numbers = |layer: usize, slot: usize, side: usize| -> Vec<f32> {
                    let first = layer * 1000 + slot * 50 + side;
                    (0..3 * head_dim).map(|i| ((first + i * 13) % 89) as f32 / 50.0 - 0.8).collect()
                };
                for layer in 0..2 {
                    for slot in 0..PAGE {
                        page.write(layer, slot, &numbers(layer, slot, 0), &numbers(layer, slot, 7));
                    }
                }
                let mut saved = Vec::new();
                page.save(&mut saved);
                let page = Page::restore(shape, &saved).expect("a whole page");
                assert!(Page::restore(shape, &saved[1..]).is_none());
                for layer in 0..2 {
                    for slot in 0..PAGE {
                        let (mut keys, mut values) = (vec![0.0; 3 * head_dim], vec![0.0; 3 * head_dim]);
                        page.read_keys(layer, slot, &mut keys);
                        page.read_values(layer, slot, &mut values);
                        let near =
                            |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= bound);
                        assert!(near(&keys, &numbers(layer, slot, 0)), "{format:?} {head_dim}");
                        assert!(near(&values, &numbers(layer, slot, 7)), "{format:?} {head_dim}");
                    }
                }
            }
        }
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        let shape = PageShape { layers: 16, kv_heads: 8, head_dim: 64, format: CacheFormat::F16 };
        assert_eq!((shape.check(), shape.bytes()), (Ok(()), 16 * 8 * 64 * 32 * 2 * 2));
        for wrong in [
            PageShape { layers: 0, ..shape },
            PageShape { head_dim: 0, ..shape },
            PageShape { layers: usize::MAX / 2, ..shape },
        ] {
            assert_eq!(wrong.check(), Err(PageError::Impossible(wrong)));
        }
    }
}
