//! Root keys in a token: SoftHSM's, which speaks PKCS#11 as smart cards do.

const NEW: [&str; 5] = ["trust", "key", "new", "--work", "4"];

#[cfg(not(feature = "pkcs11"))]
#[test]
fn without_the_feature_it_is_said_how_to_get_it() {
    let stage = crate::stage::Stage::new();
    let words = [&NEW[..], &["root-1.age", "--token", "pkcs11:token=trust;object=root-1"]].concat();
    stage.refused(&words, "--features pkcs11");
    assert!(!stage.path("root-1.age").exists());
}

#[cfg(feature = "pkcs11")]
mod with {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::NEW;
    use crate::stage::{Ran, Stage, files};

    /// Where Linux and macOS have SoftHSM's module.
    const MODULES: [&str; 4] = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
        "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    ];

    /// A stage with a token that is called `trust`, and its PIN in the file `pin`.
    struct House {
        stage: Stage,
        module: PathBuf,
    }

    impl House {
        /// `None`, and says so, where there is no SoftHSM.
        fn new(stage: impl FnOnce() -> Stage) -> Option<House> {
            let module = MODULES.iter().map(PathBuf::from).find(|module| module.exists());
            let (Some(module), true) =
                (module, Command::new("softhsm2-util").arg("--version").output().is_ok())
            else {
                println!("skipped: softhsm2-util and libsofthsm2.so are not installed");
                return None;
            };
            let house = House { stage: stage(), module };
            std::fs::create_dir(house.stage.path("tokens")).unwrap();
            let config = format!("directories.tokendir = {}\n", house.stage.path("tokens").display());
            house.stage.write("softhsm2.conf", &config);
            house.stage.write("pin", "2718\n");
            house.stage.write("wrong", "3141\n");
            let words =
                ["--init-token", "--free", "--label", "trust", "--so-pin", "16180339", "--pin", "2718"];
            let made =
                Command::new("softhsm2-util").args(words).env("SOFTHSM2_CONF", house.config()).output();
            let made = made.unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            Some(house)
        }

        fn config(&self) -> PathBuf {
            self.stage.path("softhsm2.conf")
        }

        /// Runs the binary with SoftHSM's settings and the file that a PIN is in.
        fn run_with(&self, pin: &str, words: &[&str], more: &[(&str, &Path)]) -> Ran {
            let mut command = self.stage.command(words);
            command.env("SOFTHSM2_CONF", self.config()).env("SELVEDGE_PIN_FILE", pin);
            command.env_remove("PKCS11_MODULE").envs(more.iter().copied());
            let output = command.output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
        }

        fn run(&self, words: &[&str]) -> Ran {
            self.run_with("pin", words, &[])
        }

        /// Makes a key in the token, as `keys/NAME.age`.
        fn make(&self, name: &str, uri: &str) -> Ran {
            let (file, module) = (format!("keys/{name}.age"), self.module.to_str().unwrap());
            self.run(&[&NEW[..], &[&file, "--token", uri, "--module", module]].concat())
        }
    }

    #[track_caller]
    fn refused(ran: Ran, expected: &str) {
        assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
        assert!(ran.err.contains(expected), "{expected}: {}", ran.err);
    }

    #[test]
    fn root_keys_in_a_token_sign() {
        let Some(house) = House::new(Stage::packed) else { return };
        std::fs::create_dir(house.stage.path("keys")).unwrap();
        for name in ["root-1", "root-2"] {
            let made = house.make(name, &format!("pkcs11:token=trust;object={name}")).ok();
            assert!(made.contains("half of the secret"), "{made}");
        }
        // Nothing is signed without both: the root takes two signatures, and both keys lie in the token.
        let init = ["trust", "init", "repo", "--keys", "keys", "--root-keys", "2", "--work", "4"];
        house.run(&init).ok();
        let add = ["targets", "snapshot", "timestamp"].map(|name| format!("keys/{name}.age"));
        let add: Vec<&str> = add.iter().flat_map(|file| ["--key", file]).collect();
        house.run(&[&["trust", "add", "repo", "tiny"], &add[..]].concat()).ok();
        let verify = ["verify", "tiny", "--root", "repo/metadata/1.root.json", "--repository", "repo"];
        let verified = house.stage.run(&verify).ok();
        assert!(verified.contains("approved: root 1"), "{verified}");

        // What lies in the file and beside it is the same key as the token's.
        let id = |file: &str| house.run(&["trust", "key", "show", file, "--json"]).json()["id"].clone();
        assert_eq!(id("keys/root-1.age"), id("keys/root-1.pub.json"));
        assert_ne!(id("keys/root-1.pub.json"), id("keys/root-2.pub.json"));
    }

    #[test]
    fn what_a_token_refuses_is_told() {
        let Some(house) = House::new(Stage::new) else { return };
        std::fs::create_dir(house.stage.path("keys")).unwrap();
        let uri = "pkcs11:token=trust;object=root-1";
        house.make("root-1", uri).ok();
        refused(house.make("again", uri), "has a key \"root-1\" already");
        refused(house.make("other", "pkcs11:token=other;object=root-1"), "no token is");
        refused(house.make("nameless", "pkcs11:token=trust"), "object=NAME");
        refused(house.make("pin", &format!("{uri}?pin-value=2718")), "a PIN has no place in it");
        let lone = [&NEW[..], &["keys/lone.age", "--token", uri]].concat();
        refused(house.run(&lone), "PKCS11_MODULE");
        let made: Vec<PathBuf> = files(&house.stage.path("keys")).into_keys().collect();
        assert_eq!(made, [PathBuf::from("root-1.age"), PathBuf::from("root-1.pub.json")]);

        let show = ["trust", "key", "show", "keys/root-1.age"];
        house.run(&show).ok();
        refused(house.run_with("wrong", &show, &[]), "refuses this PIN");
        let absent = [("PKCS11_MODULE", Path::new("/nowhere/module.so"))];
        refused(house.run_with("pin", &show, &absent), "/nowhere/module.so cannot be loaded");
        let here = [("PKCS11_MODULE", house.module.as_path())];
        house.run_with("pin", &show, &here).ok();

        // Its keys are removed; the token itself stays.
        let tokens = house.stage.path("tokens");
        let keys = files(&tokens).into_keys().filter(|file| {
            file.extension().is_some_and(|it| it == "object") && !file.ends_with("token.object")
        });
        for key in keys {
            std::fs::remove_file(tokens.join(key)).unwrap();
        }
        refused(house.run(&show), "has no Ed25519 key pkcs11:object=root-1;id=");
        // And another comes in its place: what it signs is not this key's.
        let id = |key: &str| key.split_once("id=").map(|(_, id)| id.split('\n').next().unwrap().to_owned());
        let id = id(&house.run(&show).err).unwrap();
        house.make("false", &format!("{uri};id={}", id.trim())).ok();
        refused(house.run(&show), "does not verify");
    }
}
