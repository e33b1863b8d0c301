//! The angles of rotary positions: base, scaling and factors of each family.
