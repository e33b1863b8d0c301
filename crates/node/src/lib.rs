//! Placeholder map of node.
