//! The documents of a stranger's package: any bytes give a document or an error; what is read is written and read again alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use package::config::ModelConfig;
use package::golden::Golden;
use package::index::{Index, Release};
use package::manifest::Manifest;
use package::media::Role;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let _ = manifest.size();
        let _ = Role::ALL.map(|role| manifest.layer(role).is_some());
        assert_eq!(Manifest::parse(&manifest.to_bytes()).expect("we wrote it"), manifest);
    }
    if let Ok(index) = Index::parse(bytes) {
        assert_eq!(Index::parse(&index.to_bytes()).expect("we wrote it"), index);
    }
    if let Ok(release) = Release::read(bytes) {
        assert!(!release.variants.is_empty());
        assert_eq!(Release::read(&release.to_bytes()).expect("we wrote it"), release);
        let _ = package::choose::choose(&release, &package::choose::Device::default()).to_string();
    }
    let _ = ModelConfig::parse(bytes);
    let _ = Golden::parse(bytes).map(|golden| golden.judge(&[]));
});
