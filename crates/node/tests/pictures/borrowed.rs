//! What other crates' tests have already: where data of others lies.

#[path = "../../../net/tests/shared/data.rs"]
pub(crate) mod data;
