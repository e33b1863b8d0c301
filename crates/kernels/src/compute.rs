//! The instructions and the threads that arithmetic runs on, as one value.
