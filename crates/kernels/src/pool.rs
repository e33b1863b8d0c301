//! Threads that share a piece of work in small chunks and do not collapse when a core is taken.
