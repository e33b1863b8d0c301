//! The instruction sets: each file one path, opened only by the value that proves the processor can.
