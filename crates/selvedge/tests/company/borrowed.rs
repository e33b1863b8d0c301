//! What the hub's own tests drive: made-up nodes, and a bucket.

#[path = "../../../hub/tests/bucket/mod.rs"]
pub(crate) mod bucket;
#[path = "../../../hub/tests/fleet/mod.rs"]
pub(crate) mod fleet;
