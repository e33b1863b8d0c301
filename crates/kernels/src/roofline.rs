//! How fast this machine reads its memory: the roof over an answer, whose every token reads all weights once.
//!
//! The roof over a prompt is [`integer_peak`](crate::matmul::integer_peak). Both are work without a clock: whoever asks
//! takes the time.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapMut;

use crate::compute::Compute;
use crate::cpu::Isa;
use crate::simd::{Body, Simd};

/// Bytes that a thread reads, one after the other, before it asks for more: long enough to be read ahead, short enough to
/// share evenly. Several places at once, or asking for lines ahead, are not faster: measured on Zen 4 within 2 %.
const CHUNK: usize = 1 << 20;

/// Of which pages a [`Field`] is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// As the processor has them without asking: 4 KiB on most.
    Small,
    /// As large as the system has them: 2 MiB on most. Fewer addresses to look up, which counts most in virtual machines.
    Huge,
}

/// Memory to be read: every page has been written, so that all of it is there.
#[derive(Debug)]
pub struct Field {
    memory: MmapMut,
}

impl Field {
    /// So many bytes, rounded up to whole MiB. An error where there is not as much memory, or no such pages.
    pub fn new(bytes: usize, pages: Pages) -> io::Result<Field> {
        let mut memory = MmapMut::map_anon(bytes.max(1).next_multiple_of(CHUNK))?;
        advise(&memory, pages)?;
        let (words, _) = memory.as_chunks_mut::<8>();
        for (word, index) in words.iter_mut().zip(1u64..) {
            // Fibonacci hashing, so that no two chunks have the same sum.
            *word = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        }
        Ok(Field { memory })
    }

    /// How many there are.
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// Reads all of it once, on all threads; gives its words of 64 bits, combined by exclusive or.
    pub fn read(&self, compute: &Compute) -> u64 {
        let sum = AtomicU64::new(0);
        compute.pool().run(self.memory.len() / CHUNK, &|chunk| {
            let part = xor(compute.isa(), &self.memory[chunk * CHUNK..][..CHUNK]);
            sum.fetch_xor(part, Ordering::Relaxed);
        });
        sum.into_inner()
    }
}

#[cfg(target_os = "linux")]
fn advise(memory: &MmapMut, pages: Pages) -> io::Result<()> {
    use memmap2::Advice;
    let switch = "/sys/kernel/mm/transparent_hugepage/enabled";
    match pages {
        // A system that knows no huge pages refuses this, and has small ones.
        Pages::Small => memory.advise(Advice::NoHugePage).or(Ok(())),
        // Where they are switched off, the advice is taken and not followed.
        Pages::Huge if std::fs::read_to_string(switch).is_ok_and(|on| on.contains("[never]")) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        Pages::Huge => memory.advise(Advice::HugePage),
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_: &MmapMut, pages: Pages) -> io::Result<()> {
    match pages {
        Pages::Small => Ok(()),
        Pages::Huge => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// All words of 64 bits, combined by exclusive or; `bytes`: whole lines of 64.
fn xor(isa: Isa, bytes: &[u8]) -> u64 {
    struct Xor<'a>(&'a [[u8; 64]]);
    impl Body for Xor<'_> {
        type Output = [u8; 64];

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> [u8; 64] {
            let mut sums = [simd.splat_i(0); 4];
            let (fours, rest) = self.0.as_chunks::<4>();
            for four in fours {
                for (sum, line) in sums.iter_mut().zip(four) {
                    *sum = simd.xor(*sum, simd.load_i(line));
                }
            }
            for line in rest {
                sums[0] = simd.xor(sums[0], simd.load_i(line));
            }
            let sum = simd.xor(simd.xor(sums[0], sums[1]), simd.xor(sums[2], sums[3]));
            let mut line = [0; 64];
            simd.store_i(sum, &mut line);
            line
        }
    }
    let (lines, _) = bytes.as_chunks::<64>();
    let line = isa.run(Xor(lines));
    let (words, _) = line.as_chunks::<8>();
    words.iter().fold(0, |sum, word| sum ^ u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::{Field, Pages};
    use crate::compute::Compute;
    use crate::cpu::Isa;

    #[test]
    fn every_byte_is_read_on_every_path() {
        let field = Field::new((2 << 20) + 1, Pages::Small).unwrap();
        assert_eq!(field.bytes(), 3 << 20);
        let words = 1..=field.bytes() as u64 / 8;
        let expected = words.fold(0, |sum, index| sum ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for isa in Isa::all_here() {
            for threads in [1, 3].map(|count| NonZeroUsize::new(count).unwrap()) {
                assert_eq!(field.read(&Compute::new(isa, threads)), expected, "{isa} on {threads}");
            }
        }
    }

    #[test]
    fn huge_pages_hold_the_same() {
        let compute = Compute::new(Isa::best(), NonZeroUsize::MIN);
        // Not every system has them.
        if let Ok(huge) = Field::new(4 << 20, Pages::Huge) {
            assert_eq!(huge.read(&compute), Field::new(4 << 20, Pages::Small).unwrap().read(&compute));
        }
    }
}
