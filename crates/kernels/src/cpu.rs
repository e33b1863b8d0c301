//! What this processor can do, as values: only the value opens the door to its instructions.
