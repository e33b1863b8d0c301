//! What other crates' tests have already: where data of others lies, and what stands around their networks.

#[path = "../../../net/tests/shared/data.rs"]
pub(crate) mod data;
#[path = "../../../net/tests/shared/recipes.rs"]
pub(crate) mod recipes;
