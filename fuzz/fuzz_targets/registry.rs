//! Headers and refusals of a stranger's registry, and the words of its clients: any text is understood or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use package::digest::Digest;
use package::registry::{
    Address, Challenge, Reference, RegistryErrors, RepoName, Told, Upload, UploadStep, upload_range,
};

fuzz_target!(|text: &str| {
    let _ = Challenge::parse(text);
    let _ = Reference::parse(text);
    let _ = RegistryErrors::parse(text.as_bytes()).map(|errors| errors.to_string());
    if let Some(range) = upload_range(text) {
        assert!(range.start < range.end);
    }
    if let Ok(address) = Address::parse(text) {
        assert_eq!(Address::parse(&address.to_string()).expect("we wrote it"), address);
    }
    let name = RepoName::new("a").expect("a name");
    let mut upload = Upload::new(&name, Digest::of(b""), 1000, 100);
    // Each byte of the text is an answer; however it goes, a push ends.
    let mut answers = text.bytes().cycle();
    for _ in 0..1_000_000 {
        let Some(answer) = answers.next() else { return };
        let status = [200, 201, 202, 204, 404, 416][usize::from(answer % 6)];
        let range = format!("0-{}", u32::from(answer) * 4);
        let told = Told { status, location: Some("/u"), range: (answer & 64 != 0).then_some(&*range) };
        if upload.take(told).is_err() || *upload.step() == UploadStep::Done {
            return;
        }
    }
    panic!("it does not end");
});
