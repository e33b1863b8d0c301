//! Weights that only some nodes can read: sealed in chunks, the key to them wrapped to each node.
//!
//! `content` is the key of one file, `stream` seals and opens the file with it, `hybrid` is the key pair of a node, and
//! `wrap` is the grant: the content key of one sealed file, for one node. Grants travel beside a package and not in it,
//! so that a new node needs no new release; `folder` says where they lie.
//!
//! The cryptography is aws-lc's. Keys, salts and X25519 secrets come from `wire::world::Entropy`; the key pair of
//! ML-KEM-768 and the randomness of its encapsulation are drawn by aws-lc itself, which takes no seed for them.

pub mod content;
pub mod folder;
pub mod hybrid;
pub mod stream;
pub mod wrap;
