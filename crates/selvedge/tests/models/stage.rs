//! A folder with the tiny model and a shelf of its own, and the binary run in it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::tiny::{CHATS, CONTINUES};

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
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// What it complained of, with how it exited.
    pub(crate) fn failed(self) -> (Option<i32>, String) {
        assert_ne!(self.code, Some(0), "{}{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        (self.code, self.err)
    }

    /// What it printed, as JSON.
    pub(crate) fn json(self) -> serde_json::Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

impl Stage {
    /// `tiny.gguf` chats, `plain.gguf` continues text.
    pub(crate) fn new() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        CHATS.write(&folder.path().join("tiny.gguf"));
        CONTINUES.write(&folder.path().join("plain.gguf"));
        Stage { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The binary with these words, in the folder, without colours.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
        command.current_dir(self.folder.path()).args(words);
        command.env("SELVEDGE_MODELS", self.path("shelf")).env("NO_COLOR", "1").env("LC_ALL", "C.UTF-8");
        for name in ["KERNELS_ISA", "HF_ENDPOINT", "HF_TOKEN", "SELVEDGE_URL", "SELVEDGE_API_KEY"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        Ran::of(self.command(words))
    }

    /// The same with text piped in.
    pub(crate) fn run_fed(&self, words: &[&str], text: &str) -> Ran {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Ran::from(output)
    }

    /// A text in which this folder's name is always the same.
    pub(crate) fn tidy(&self, text: &str) -> String {
        let real = std::fs::canonicalize(self.folder.path()).unwrap();
        text.replace(real.to_str().unwrap(), "/folder")
            .replace(self.folder.path().to_str().unwrap(), "/folder")
    }
}

impl Ran {
    pub(crate) fn of(mut command: Command) -> Ran {
        Ran::from(command.output().unwrap())
    }
}

impl From<std::process::Output> for Ran {
    fn from(output: std::process::Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// A file of the shared data, if this machine has it.
pub(crate) fn shared(path: &str) -> Option<String> {
    let data = std::env::var_os("SELVEDGE_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let path = data.join(path);
    if !path.exists() {
        eprintln!("skipped: {}: no shared data", path.display());
        return None;
    }
    Some(path.to_str().unwrap().to_owned())
}
