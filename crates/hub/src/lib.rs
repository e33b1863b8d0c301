//! Placeholder map of hub.
