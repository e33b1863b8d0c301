//! The non-linear steps of a feed-forward block: SiLU, GELU and their gated forms.
