//! The next token from logits: greedy, temperature, top-k, top-p, min-p, typical, penalties, bias.
