//! The files that README tells a newcomer to start from are good ones.

use std::path::Path;

use node::config::Config;
use node::play::rehearse::rehearse;

#[test]
fn the_documented_node_and_flow_are_valid() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/node.toml");
    let config = Config::load(&file).unwrap();
    assert_eq!(config.name.as_str(), "pump-station-1");
    assert_eq!((config.flow.sources.len(), config.flow.models.len(), config.flow.rules.len()), (1, 1, 2));
    assert_eq!(rehearse(&config.flow).unwrap_or_else(|problems| panic!("{problems}")), 1);
}
