//! The instructions and the threads that arithmetic runs on, as one value.

use std::num::NonZeroUsize;

use crate::cpu::Isa;
use crate::pool::Pool;

/// What arithmetic runs on. One per process is enough; several callers may use it at once (their work is done in turn).
#[derive(Debug)]
pub struct Compute {
    isa: Isa,
    pool: Pool,
}

impl Compute {
    /// With these instructions on this many threads, the calling one included.
    pub fn new(isa: Isa, threads: NonZeroUsize) -> Compute {
        Compute { isa, pool: Pool::new(threads) }
    }

    /// The instructions.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}
