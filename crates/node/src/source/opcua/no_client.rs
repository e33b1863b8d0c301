//! Stands for OPC UA in a build without it: says so.

use std::path::Path;

use super::settings::OpcuaSettings;
use crate::source::bring::{Source, SourceError};
use crate::source::queue::Inlet;

/// Nothing.
pub struct Opcua;

impl Opcua {
    /// A source that says that there is none.
    pub fn new(_settings: OpcuaSettings, _node: &str, _name: &str, _folder: &Path) -> Opcua {
        Opcua
    }
}

impl Source for Opcua {
    fn run(&mut self, _inlet: &mut Inlet) -> Result<String, SourceError> {
        let message = "this program was built without OPC UA: build it with the feature `opcua`";
        Err(SourceError::Outside(message.to_owned()))
    }
}
