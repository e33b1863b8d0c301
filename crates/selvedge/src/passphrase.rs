//! The passphrase of a key file, and the PIN of a token: typed on the terminal, unseen, or the first line of the file that
//! `SELVEDGE_PASSPHRASE_FILE` or `SELVEDGE_PIN_FILE` names. Never on the command line, where every process of the machine could read it.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::{Zeroize as _, Zeroizing};

/// The variable that names a file with the passphrase, for scripts.
const FILE_VARIABLE: &str = "SELVEDGE_PASSPHRASE_FILE";
/// The variable that names a file with the PIN of a token.
#[cfg(feature = "pkcs11")]
const PIN_VARIABLE: &str = "SELVEDGE_PIN_FILE";
/// The longest passphrase.
const BYTES_MAX: u64 = 1_024;
/// What Ctrl-C, Ctrl-D, Ctrl-U and the two backspaces send.
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 21;
const BACKSPACE: u8 = 8;
const DELETE: u8 = 127;

/// The token for the hub that is called `hub`.
pub(crate) fn ask_token(hub: &str) -> anyhow::Result<Zeroizing<String>> {
    typed(&format!("token for {hub}: "), "--token-file")
}

/// The passphrase of the key file at `path`.
pub(crate) fn ask(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    match from_file(FILE_VARIABLE)? {
        Some(passphrase) => Ok(passphrase),
        None => typed(&format!("passphrase of {}: ", path.display()), FILE_VARIABLE),
    }
}

/// The PIN of the token that is called `token`.
#[cfg(feature = "pkcs11")]
pub(crate) fn ask_pin(token: &str) -> anyhow::Result<Zeroizing<String>> {
    match from_file(PIN_VARIABLE)? {
        Some(pin) => Ok(pin),
        None => typed(&format!("PIN of the token {token:?}: "), PIN_VARIABLE),
    }
}

/// A passphrase for a key file that is made at `path`: typed twice, and not empty.
pub(crate) fn ask_new(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let passphrase = match from_file(FILE_VARIABLE)? {
        Some(passphrase) => passphrase,
        None => {
            let passphrase = typed(&format!("new passphrase for {}: ", path.display()), FILE_VARIABLE)?;
            let again = typed("the same again: ", FILE_VARIABLE)?;
            anyhow::ensure!(passphrase == again, "the two passphrases differ: nothing was made");
            passphrase
        }
    };
    anyhow::ensure!(!passphrase.is_empty(), "an empty passphrase locks nothing: choose another");
    Ok(passphrase)
}

/// The file with the passphrase, if one is named.
pub(crate) fn file() -> Option<PathBuf> {
    named(FILE_VARIABLE)
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn from_file(variable: &str) -> anyhow::Result<Option<Zeroizing<String>>> {
    let Some(path) = named(variable) else { return Ok(None) };
    let mut text = Zeroizing::new(String::new());
    let file = File::open(&path).map(|file| file.take(BYTES_MAX));
    let read = file.and_then(|mut file| file.read_to_string(&mut text));
    read.with_context(|| format!("{variable}={} cannot be read", path.display()))?;
    Ok(Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())))
}

/// A terminal that does not show what is typed, until dropped.
struct Unseen {
    terminal: File,
    before: Termios,
}

impl Unseen {
    fn new(terminal: File) -> std::io::Result<Unseen> {
        let before = tcgetattr(&terminal)?;
        let mut unseen = before.clone();
        // Ctrl-C comes as a byte, too, so that the terminal is never left blind.
        unseen.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(&terminal, OptionalActions::Flush, &unseen)?;
        Ok(Unseen { terminal, before })
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to restore.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
        let _ = self.terminal.write_all(b"\n");
    }
}

/// What is typed; `variable` names a file with it where there is no terminal.
fn typed(prompt: &str, variable: &str) -> anyhow::Result<Zeroizing<String>> {
    let terminal = File::options().read(true).write(true).open("/dev/tty").with_context(|| {
        format!("there is no terminal to ask on: {variable} names a file with what is asked for")
    })?;
    let mut unseen = Unseen::new(terminal)?;
    unseen.terminal.write_all(prompt.as_bytes())?;
    // As long as it may become, so that no copy is left behind by growing.
    let mut typed = Zeroizing::new(Vec::with_capacity(BYTES_MAX as usize));
    loop {
        let mut byte = [0];
        match unseen.terminal.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        }
        match byte[0] {
            b'\n' | b'\r' | CTRL_D => break,
            CTRL_C => anyhow::bail!("interrupted"),
            CTRL_U => typed.zeroize(),
            BACKSPACE | DELETE => {
                // A letter may have several bytes: those after its first begin with the bits 10.
                while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            _ if typed.len() as u64 == BYTES_MAX => {
                anyhow::bail!("a passphrase has at most {BYTES_MAX} bytes")
            }
            byte => typed.push(byte),
        }
    }
    let text = std::str::from_utf8(&typed).context("the passphrase is not UTF-8")?;
    Ok(Zeroizing::new(text.to_owned()))
}
