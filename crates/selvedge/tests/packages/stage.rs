//! A folder with two small models, a text and a passphrase, and the binary run in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kernels::format::Format;
use lm::specimen::Specimen;

pub(crate) struct Stage {
    folder: tempfile::TempDir,
}

/// What a run left.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// What it printed, if all went well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

/// Larger than a chunk, so that there is a list of them.
const MODEL: Specimen = Specimen { width: 256, feed_forward: 512, ..Specimen::SMALL };

impl Stage {
    /// With `full.gguf` (F32) and `small.gguf` (Q8_0).
    pub(crate) fn new() -> Stage {
        let stage = Stage { folder: tempfile::tempdir().unwrap() };
        let small = Specimen { format: Format::Q8_0, output_format: Format::Q8_0, ..MODEL };
        for (name, specimen) in [("full.gguf", MODEL), ("small.gguf", small)] {
            specimen.write(&mut std::fs::File::create(stage.path(name)).unwrap()).unwrap();
        }
        stage.write("pass", "a passphrase for tests\n");
        stage.write("text.txt", &"the rain in the north and the heat on the road\n".repeat(40));
        stage.write("prompts.txt", "the heat\n\nis on\n");
        stage
    }

    /// And a package of both models, release 7 of `tiny`, in the folder `tiny`.
    pub(crate) fn packed() -> Stage {
        let stage = Stage::new();
        stage.pack("7", "tiny").ok();
        stage
    }

    /// Packs both models.
    pub(crate) fn pack(&self, release: &str, output: &str) -> Ran {
        let words =
            ["pack", "full.gguf", "small.gguf", "--model", "tiny", "--release", release, "-o", output];
        let more = ["--quality", "text.txt", "--golden-from", "prompts.txt", "--licence", "Apache-2.0"];
        self.run(&[&words[..], &more[..]].concat())
    }

    /// And a repository `repo` with keys in `keys`, in which the package is approved.
    pub(crate) fn approved() -> Stage {
        let stage = Stage::packed();
        stage.run(&["trust", "init", "repo", "--keys", "keys", "--work", "4"]).ok();
        stage.trust(&["add", "repo", "tiny"], &["targets", "snapshot", "timestamp"]).ok();
        stage
    }

    /// A verb of `trust` with these keys of the folder `keys`.
    pub(crate) fn trust(&self, words: &[&str], keys: &[&str]) -> Ran {
        let keys: Vec<String> = keys.iter().map(|key| format!("keys/{key}.age")).collect();
        let keys = keys.iter().flat_map(|key| ["--key", key.as_str()]);
        self.run(&["trust"].into_iter().chain(words.iter().copied()).chain(keys).collect::<Vec<_>>())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The binary with these words, in the folder, without colours.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program(words));
        command.current_dir(self.folder.path()).args(words);
        command.env("SELVEDGE_PASSPHRASE_FILE", "pass").env("NO_COLOR", "1");
        command.env("SELVEDGE_MODELS", self.path("shelf"));
        command.env_remove("SOURCE_DATE_EPOCH").env_remove("KERNELS_ISA");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        let output = self.command(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs it, and sees that it ends with 1 and says this.
    #[track_caller]
    pub(crate) fn refused(&self, words: &[&str], expected: &str) {
        let Ran { code, out, err } = self.run(words);
        assert_eq!(code, Some(1), "{words:?}: {out}{err}");
        assert!(format!("{out}{err}").contains(expected), "{words:?}: {out}{err}");
        assert!(!err.contains("panicked"), "{err}");
    }

    /// A file of a variant of the package `tiny`, by its role: where its blob lies.
    pub(crate) fn blob(&self, variant: &str, role: &str) -> PathBuf {
        let found = self.run(&["inspect", "tiny", "--json"]).json();
        let variants = found["releases"][0]["variants"].as_array().unwrap();
        let variant = variants.iter().find(|it| it["name"] == variant).unwrap();
        let file = variant["files"].as_array().unwrap().iter().find(|it| it["role"] == role).unwrap();
        let digest = file["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        self.path("tiny/blobs/sha256").join(digest)
    }
}

/// This build, unless it is for a node's own verbs and `SELVEDGE_NODE_PROGRAM` names another build for them, as `deploy/build` makes it.
fn program(words: &[&str]) -> OsString {
    let is_of_a_node =
        words.first().is_some_and(|verb| ["node", "slots", "install", "rollback"].contains(verb));
    let named = std::env::var_os("SELVEDGE_NODE_PROGRAM").filter(|_| is_of_a_node);
    named.unwrap_or_else(|| env!("CARGO_BIN_EXE_selvedge").into())
}

/// All files below a folder with their bytes, by path.
pub(crate) fn files(folder: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}
