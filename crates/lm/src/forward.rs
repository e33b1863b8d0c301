//! The one forward pass, which reads like the paper.
