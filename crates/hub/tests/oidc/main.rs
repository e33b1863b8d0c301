//! Signing in elsewhere: at a provider that somebody else wrote, and at one of ours that lies.

#![cfg(feature = "oidc")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test ends where something is not as it should be"
)]

mod browser;
mod liar;
mod provider;
