//! The binary: a file per verb.
fn main() {}
