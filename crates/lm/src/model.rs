//! A loaded model: weights, shape and tokenizer as one value that can be asked.
