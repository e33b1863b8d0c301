//! Settings with a mistake in them: the program does not start, and shows the place, the reason and the mend.

use std::path::Path;

use crate::process::{Ended, run};

/// The program itself, its libraries and their pages are most of it.
const PEAK_MAX_KIB: u64 = 64 << 10;

const NODE: &str = "[node]\nname = \"pump-7\"\n";
const FLOW: &str = "[source.pump]\ntype = \"simulated\"\n";

/// Runs the binary beside these two files, and gives its exit code and its screen.
fn screen(node: &str, flow: &str, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("node.toml", node);
    write("flow.toml", flow);
    let Ended { code, stdout, stderr, .. } = run(folder.path(), arguments);
    assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
    assert!(!has_started(folder.path()), "it left something behind");
    format!("$ selvedge {}\n{stderr}", arguments.join(" "))
}

fn has_started(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().count() > 2
}

#[test]
fn a_nodes_settings() {
    let arguments = ["node", "--config", "node.toml"];
    let wrong = [
        "[node]\nname = \"pump-7\"\nflwo = \"flow.toml\"\n",
        "[node]\nname = 7\n",
        "[node]\nname = \"pump-7\"\n\n[journal]\nmax_bytes = \"256MBit\"\n",
        "[node]\nname = \"pump-7\"\nflow = \"flows.toml\"\n",
        "[node]\nname = \"pump-7\n",
    ];
    let screens: Vec<String> = wrong.iter().map(|node| screen(node, FLOW, &arguments)).collect();
    insta::assert_snapshot!(screens.join("\n"));
}

#[test]
fn a_flow() {
    let wrong = [
        "[source.pump]\ntype = \"simulated\"\nrate_hertz = 10.0\n",
        "[source.pump]\ntype = \"simulated\"\nrate_hz = \"ten\"\n",
        "[source.pump]\ntype = \"simulated\"\n\n[model.health]\ntype = \"subspace\"\ninputs = [\"source.pumps\"]\n",
        "[source.pump]\ntype = \"simulated\"\nsummary = \"10 parsecs\"\n",
    ];
    let mut screens: Vec<String> =
        wrong.iter().map(|flow| screen(NODE, flow, &["flow", "check", "flow.toml"])).collect();
    // A node says the same.
    screens.push(screen(NODE, wrong[2], &["node", "--config", "node.toml"]));
    insta::assert_snapshot!(screens.join("\n"));
}

#[test]
fn programs_hear_what_is_wrong_with_a_flow_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let flow = "[source.pump]\ntype = \"simulated\"\nrate_hertz = 10.0\n";
    std::fs::write(folder.path().join("flow.toml"), flow).unwrap();
    let ended = run(folder.path(), &["flow", "check", "--json"]);
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    let said: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let problem = &said["problems"][0];
    assert!(problem["file"] == "flow.toml" && problem["line"] == 3 && problem["column"] == 1, "{said}");
    assert!(problem["message"].as_str().unwrap().contains("`rate_hertz`"), "{said}");
    assert!(problem["help"].as_str().unwrap().contains("rate_hz"), "{said}");
}

#[test]
fn a_hubs_settings() {
    let wrong = [
        "lisen = \"127.0.0.1:0\"\n",
        "nodes_max = \"many\"\n",
        "# ours\nnodes_max = 0\n",
        "hosts = [\"a/b\"]\n",
    ];
    let arguments = ["hub", "--config", "node.toml"];
    let screens: Vec<String> = wrong.iter().map(|hub| screen(hub, FLOW, &arguments)).collect();
    insta::assert_snapshot!(screens.join("\n"));
}

#[test]
fn a_file_without_an_end_is_not_read_to_it() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in
        [["flow", "check", "/dev/zero"], ["node", "--config", "/dev/zero"], ["hub", "--config", "/dev/zero"]]
    {
        let ended = run(folder.path(), &arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(78), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains("/dev/zero is longer than the 1048576 bytes"), "{}", ended.stderr);
        assert!(ended.peak_kib < PEAK_MAX_KIB, "{} KiB", ended.peak_kib);
    }
    let token = ["hub", "--listen", "127.0.0.1:0", "--data", "data", "--token-file", "/dev/zero"];
    let ended = run(folder.path(), &token);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("the token in /dev/zero must have") && ended.peak_kib < PEAK_MAX_KIB,
        "{ended:?}"
    );
}

#[test]
fn a_hub_is_not_opened_to_all() {
    let folder = tempfile::tempdir().unwrap();
    let Ended { code, stdout, stderr, .. } =
        run(folder.path(), &["hub", "--listen", "0.0.0.0:0", "--data", "data"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(
        stderr,
        "error: the hub would listen on 0.0.0.0:0, which others can reach, without a token; set token_file, or \
         listen on 127.0.0.1\n"
    );
    assert!(!folder.path().join("data").exists());
}
