//! What must not be believed, and what the user is told.

use crate::stage::Stage;

const ROOT: [&str; 4] = ["--root", "repo/metadata/1.root.json", "--repository", "repo"];

fn verify(package: &str) -> Vec<&str> {
    [&["verify", package][..], &ROOT].concat()
}

#[test]
fn a_flipped_byte_is_found_and_told_where() {
    let stage = Stage::approved();
    stage.run(&verify("tiny")).ok();
    let blob = stage.blob("f32", "weights");
    let mut bytes = std::fs::read(&blob).unwrap();
    let good = bytes.clone();
    bytes[(2 << 20) + 5] ^= 1;
    std::fs::write(&blob, &bytes).unwrap();
    let expected = "f32/full.gguf is damaged, from byte 2097152 or soon after: get the package again";
    stage.refused(&["verify", "tiny"], expected);
    stage.refused(&["trust", "add", "repo", "tiny"], expected);
    stage.refused(&["export", "tiny", "--usb", "bad.tar"], "is damaged");
    stage.refused(&["export", "tiny", "--files", "bad"], "full.gguf is damaged");
    assert!(!stage.path("bad.tar").exists() && !stage.path("bad").exists());
    std::fs::write(&blob, &bytes[..1 << 20]).unwrap();
    stage.refused(&["verify", "tiny"], "its manifest says");
    std::fs::write(&blob, good).unwrap();
    stage.run(&verify("tiny")).ok();

    stage.run(&["export", "tiny", "--usb", "stick.tar", "--with-trust", "repo"]).ok();
    let mut stick = std::fs::read(stage.path("stick.tar")).unwrap();
    let middle = stick.len() / 2;
    stick[middle] ^= 1;
    std::fs::write(stage.path("stick.tar"), &stick).unwrap();
    stage.refused(&["verify", "stick.tar"], "damaged");
    std::fs::write(stage.path("stick.tar"), &stick[..middle]).unwrap();
    stage.refused(&["verify", "stick.tar"], "the archive is cut off");
}

#[test]
fn a_missing_layer_is_found() {
    let stage = Stage::approved();
    std::fs::remove_file(stage.blob("q8_0", "card")).unwrap();
    stage.refused(&verify("tiny"), "q8_0/README.md is not there: the package is not whole, get it again");
    stage.refused(&["export", "tiny", "--usb", "bad.tar"], "is not whole");
    std::fs::remove_file(stage.blob("q8_0", "weights")).unwrap();
    stage.refused(&verify("tiny"), "2 things are wrong");
    stage.refused(&["verify", "repo"], "repo is no package: it has no file oci-layout");
}

#[test]
fn an_older_release_is_not_approved() {
    let stage = Stage::approved();
    stage.pack("6", "older").ok();
    stage.refused(&["trust", "add", "repo", "older"], "tiny:6 is older than release 7, which is approved");
    stage.refused(&verify("older"), "tiny:6 is not approved: no role of the repository lists models/tiny/6");
    // Approved once, withdrawn later: who still has it is told.
    stage.pack("8", "newer").ok();
    let keys = ["targets", "snapshot", "timestamp"];
    stage.trust(&["add", "repo", "newer"], &keys).ok();
    stage.run(&verify("tiny")).ok();
    stage.trust(&["withdraw", "repo", "tiny:7"], &keys).ok();
    stage.refused(
        &verify("tiny"),
        "tiny:7 is not approved: no role of the repository lists models/tiny/7, or not any more",
    );
    stage.run(&verify("newer")).ok();
    stage.refused(&["trust", "withdraw", "repo", "tiny:7"], "tiny:7 is not approved by any role");
}

#[test]
fn an_index_that_nobody_signed_is_not_approved() {
    let stage = Stage::approved();
    // The same release, made again with other words: its own files are whole.
    let words = ["pack", "full.gguf", "--model", "tiny", "--release", "7", "-o", "other"];
    stage.run(&words).ok();
    stage.run(&["verify", "other"]).ok();
    stage.refused(
        &verify("other"),
        "tiny:7 is not approved: the repository lists models/tiny/7 with another index",
    );
    stage.refused(&["trust", "add", "repo", "other"], "a release never changes");
    // A root of somebody else.
    stage.run(&["trust", "init", "theirs", "--keys", "their-keys", "--work", "4"]).ok();
    let theirs = ["verify", "tiny", "--root", "theirs/metadata/1.root.json", "--repository", "repo"];
    stage.refused(&theirs, "the repository is not accepted");
    // Metadata that was changed after it was signed.
    let path = stage.path("repo/metadata/2.targets.json");
    let targets = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, targets.replace("models/tiny/7", "models/tiny/9")).unwrap();
    stage.refused(&verify("tiny"), "2.targets.json is not the file that was announced");
    stage.refused(&["verify", "tiny", "--root", "text.txt", "--repository", "repo"], "it is no signed root");
    stage.refused(&["verify", "tiny", "--root", ROOT[1]], "no metadata travels with it");
}

#[test]
fn another_maker_is_not_this_one() {
    let stage = Stage::packed();
    for name in ["maker.age", "other.age"] {
        stage.run(&["trust", "key", "new", name, "--kind", "ecdsa-p256", "--work", "4"]).ok();
    }
    let verify = ["verify", "tiny", "--provenance", "other.pub.pem"];
    stage.refused(&verify, "has no signature of who made it");
    stage.run(&["sign", "tiny", "--provenance", "maker.age"]).ok();
    stage.refused(&verify, "is not signed by this key");
    stage.run(&["sign", "tiny", "--provenance", "other.age"]).ok();
    stage.run(&verify).ok();
    stage.run(&["verify", "tiny", "--provenance", "maker.pub.pem"]).ok();

    stage.write("pass", "another\n");
    stage.refused(&["sign", "tiny", "--provenance", "maker.age"], "the passphrase is wrong");
    stage.refused(&["sign", "tiny", "--provenance", "maker.pub.json"], "is a public key, which cannot sign");
    stage.refused(&["verify", "tiny", "--provenance", "maker.age"], "name the .pub.json beside it");
    stage.refused(&["sign", "tiny", "--provenance", "none.age"], "there is no key file none.age");
}
