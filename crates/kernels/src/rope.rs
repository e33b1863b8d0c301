//! Rotary position embedding: turns pairs of a head's numbers by an angle that grows with the position.
