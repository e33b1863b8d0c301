//! The unmodified `openai` Python package against the server.
//!
//! `SELVEDGE_PYTHON` names a Python that has it; without one that has, the test says that it is skipped.

use std::path::Path;
use std::process::{Command, Stdio};

use node::serve::settings::Settings;

use crate::house::{house, settings};

#[test]
fn the_openai_package_is_served() {
    let python = std::env::var("SELVEDGE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python)
        .args(["-c", "import openai"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !has.is_ok_and(|status| status.success()) {
        println!("skipped: the openai Python package: {python} does not have it (set SELVEDGE_PYTHON)");
        return;
    }
    let house = house(Settings { key: Some("sk-test".to_owned()), ..settings() });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openai/client.py");
    let ran = Command::new(&python)
        .arg(script)
        .arg(format!("http://{}/v1", house.address))
        .env_remove("OPENAI_API_KEY")
        .env("NO_PROXY", "*")
        .output()
        .unwrap();
    let (out, error) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    println!("{out}");
    assert!(ran.status.success(), "{out}\n{error}");
    // Each check says that it was done: a script that ends early has not passed.
    assert_eq!(out.lines().filter(|line| line.starts_with("ok ")).count(), 12, "{out}");
    crate::house::until("an empty batch", || {
        let list = crate::client::ask_with(
            house.address,
            "GET",
            "/selvedge/models",
            "Authorization: Bearer sk-test\r\n",
            b"",
        )
        .json();
        list["data"].as_array().unwrap().iter().all(|model| model["running"] == 0 && model["users"] == 0)
    });
}
