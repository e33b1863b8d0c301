//! Queries against the keys and values of a sequence: softmax(q·k) v, without ever holding a whole row of scores.
