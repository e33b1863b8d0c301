//! Features beside what others compute from the same frames, and on recordings of a bearing test bench.
//!
//! `SELVEDGE_PYTHON` names a Python that has scipy; `SHARED_DATA` a folder with the recordings. What is not there is
//! said to be skipped.

#![expect(clippy::unwrap_used, reason = "a test may stop at any fault")]

mod bench;
mod scipy;
