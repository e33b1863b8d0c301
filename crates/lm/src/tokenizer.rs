//! Text to tokens and back, from the vocabulary in the file.
