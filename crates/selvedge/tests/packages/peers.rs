//! Programs of others that read what we write, and write what we read: the schemas of OCI and ModelPack, OpenSSF's
//! `model_signing`, age (`pyrage`), python-tuf. Runs where `SELVEDGE_PYTHON` names a Python that has them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use package::trust::key::{PublicKey, from_pem};
use package::trust::provenance::{File, check};
use wire::hash::Hash;

use crate::stage::Stage;

/// Runs a script; what it printed, or `None`, and said, where its packages are missing.
fn python(script: &Path, arguments: &[&OsStr]) -> Option<String> {
    let python = std::env::var_os("SELVEDGE_PYTHON").unwrap_or_else(|| "python3".into());
    let name = script.file_name().unwrap().to_string_lossy().into_owned();
    let output = match Command::new(&python).arg(script).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: packages against {name}: {}: {error}", python.display());
            return None;
        }
    };
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(3) {
        println!("skipped: packages against {name}: {}", printed.trim());
        return None;
    }
    assert!(output.status.success(), "{name}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    Some(printed)
}

fn ours(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages/peers").join(script)
}

#[test]
fn shared_data_schemas_take_our_documents() {
    let data = std::env::var_os("SELVEDGE_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let schemas = data.join("modelpack");
    if !schemas.exists() {
        println!("skipped: {}: no shared data", schemas.display());
        return;
    }
    let stage = Stage::packed();
    stage.run(&["trust", "key", "new", "maker.age", "--kind", "ecdsa-p256", "--work", "4"]).ok();
    stage.run(&["sign", "tiny", "--provenance", "maker.age"]).ok();
    let arguments = [stage.path("tiny").into_os_string(), schemas.into_os_string()];
    let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    let Some(printed) = python(&ours("schemas.py"), &arguments) else { return };
    // oci-layout; index.json and the release; two variants and two signatures; two configs of models.
    assert_eq!(printed, "layout 1\nindex 2\nmanifest 4\nconfig 2\nwrong 2 of 2\n");
}

#[test]
fn model_signing_and_we_believe_each_other() {
    let stage = Stage::packed();
    stage.run(&["trust", "key", "new", "maker.age", "--kind", "ecdsa-p256", "--work", "4"]).ok();
    stage.run(&["sign", "tiny", "--provenance", "maker.age"]).ok();
    stage.run(&["export", "tiny", "--files", "plain"]).ok();
    let path = |name: &str| stage.path(name).into_os_string();
    let arguments =
        [path("plain/f32"), path("plain/f32.sigstore.json"), path("maker.pub.pem"), path("theirs")];
    let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    let Some(printed) = python(&ours("maker.py"), &arguments) else { return };
    assert_eq!(printed, "ours verifies\nours with a changed file does not\ntheirs is signed\n");

    // Theirs, over the same files, with a key that they made.
    let pem = std::fs::read_to_string(stage.path("theirs.pem")).unwrap();
    let key = PublicKey::EcdsaP256(from_pem(&pem).unwrap());
    let bundle = std::fs::read(stage.path("theirs.sig")).unwrap();
    let names = ["full.gguf", "golden.json", "README.md", "bom.cdx.json"];
    let files = names.map(|name| {
        let bytes = std::fs::read(stage.path("plain/f32").join(name)).unwrap();
        File { name: name.to_owned(), sha256: *Hash::of(&bytes).as_bytes() }
    });
    check(&bundle, &key, &files).unwrap();
    assert!(check(&bundle, &key, &files[1..]).is_err());
}

#[test]
fn age_opens_our_keys_and_we_open_its() {
    let stage = Stage::new();
    stage.run(&["trust", "key", "new", "ours.age", "--work", "10"]).ok();
    let id = stage.run(&["trust", "key", "show", "ours.pub.json", "--json"]).json()["id"].clone();
    let arguments = [stage.path("ours.age").into_os_string(), stage.path("theirs.age").into_os_string()];
    let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    let Some(printed) = python(&ours("age.py"), &arguments) else { return };
    assert_eq!(printed, "selvedge-secret-1 hybrid\n");
    let theirs = stage.run(&["trust", "key", "show", "theirs.age", "--json"]).json();
    assert_eq!(theirs["id"], id, "locked anew by another program, it is the same key");
}

#[test]
fn python_tuf_follows_our_repository() {
    let stage = Stage::approved();
    let index = stage.run(&["inspect", "tiny", "--json"]).json()["releases"][0]["index"].clone();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../package/tests/peers/client.py");
    let folder = stage.path("repo/metadata").into_os_string();
    let arguments: [&OsStr; 3] = [&folder, "models/tiny/7".as_ref(), "models/tiny/8".as_ref()];
    let Some(printed) = python(&script, &arguments) else { return };
    let hex = index.as_str().unwrap().strip_prefix("sha256:").unwrap();
    assert_eq!(printed, format!("models/tiny/7 {hex}\nmodels/tiny/8 none\n"));
}

#[test]
fn a_passphrase_is_typed_and_never_seen() {
    let stage = Stage::new();
    let key = stage.path("typed.age").into_os_string();
    let arguments: [&OsStr; 2] = [env!("CARGO_BIN_EXE_selvedge").as_ref(), &key];
    let Some(printed) = python(&ours("terminal.py"), &arguments) else { return };
    for typed in ["secret\n", "secä", "another", "two"] {
        let shown = printed.replace("the secret", "").replace("secret and", "").replace("the two", "");
        assert!(!shown.contains(typed), "{typed}: {printed}");
    }
    let ended: Vec<&str> = printed.lines().filter(|line| line.starts_with("ended with")).collect();
    assert_eq!(
        ended,
        ["ended with 0", "ended with 0", "ended with 1", "ended with 1", "ended with 1"],
        "{printed}"
    );
    for expected in
        ["the same again: ", "the passphrase is wrong", "error: interrupted", "the two passphrases differ"]
    {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
    assert!(stage.path("typed.pub.json").exists() && !stage.path("typed.age2").exists());
}
