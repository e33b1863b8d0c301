//! Whom the hub knows by certificates: its own authority ([`ca`]), how nodes come in ([`enrol`], and [`factory`] for those that
//! their maker vouches for), who is at the other end of a
//! connection ([`peer`]), who is out ([`denied`]), and what time it is for those whose clock is wrong ([`time`]).
//!
//! Always: who a peer is, the table `keys` says, by the digest of its public key; names in certificates are for people.

pub mod ca;
pub mod denied;
pub mod enrol;
pub mod factory;
pub mod peer;
pub mod stranger;
pub mod time;
