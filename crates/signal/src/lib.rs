//! Streams of numbers.
