//! A flow as a release: taken while the node runs, proven by its own tests, there again after a restart, and gone back from.

use serde_json::Value;

use crate::plant::{Plant, current};

/// What the node has of its own: its rule never fires.
const OWN: &str = r#"
[source.line]
type = "exec"
command = ["sh", "-c", "while sleep 0.02; do echo 1,2; done"]
payload = "columns"
channels = ["a", "b"]

[rule.own]
inputs = ["source.line"]
when = "line.a > 10"
"#;

/// A flow whose rule fires above `least`, and says so in its test.
fn flow(least: u32, expected: &str) -> String {
    let rule = format!("\n[rule.high]\ninputs = [\"source.line\"]\nwhen = \"line.b > {least}\"\n");
    let test = format!(
        "\n[[test]]\nname = \"above\"\ngiven = {{ line = {{ a = 0.0, b = 100.0 }} }}\n\
         after = \"2s\"\nexpect = {{ rule = \"high\", state = \"{expected}\" }}\n"
    );
    format!("{}{rule}{test}", OWN.split("\n[rule.own]").next().unwrap())
}

struct Line(Plant);

impl Line {
    fn release(&self, release: &str, text: &str) {
        let Plant { stage, url, .. } = &self.0;
        let (file, package) = (format!("line-{release}.toml"), format!("line-{release}"));
        stage.write(&file, text);
        stage.run(&["pack", &file, "--model", "line", "--release", release, "-o", &package]).ok();
        stage.run(&["push", &package, "hub:line", "--hub", url]).ok();
        stage.trust(&["add", "repo", &package], &["targets", "snapshot", "timestamp"]).ok();
        let model = format!("line:{release}");
        stage.trust(&["assign", "repo", "--node", "pump-1", "--model", &model], &["assigner"]).ok();
        stage.run(&["trust", "push", "repo", "--hub", url]).ok();
    }

    /// The decisions that the hub knows, the newest first, as rule and state.
    fn decisions(&self) -> Vec<String> {
        let told = self.0.records("pump-1", "decisions");
        told.iter()
            .map(|it| format!("{} {}", it["rule"].as_str().unwrap(), it["state"].as_str().unwrap()))
            .collect()
    }
}

#[test]
fn a_flow_comes_as_a_release_and_its_own_tests_send_it_back() {
    let line = Line(Plant::new());
    let plant = &line.0;
    let mut node = plant.node_without_server("pump-1", "flow = \"line\"\n", OWN);
    let until = |node: &mut _, done: &dyn Fn(&Value) -> bool| plant.until_of("line", "pump-1", node, done);

    line.release("1", &flow(1, "firing"));
    until(&mut node, &|slots| current(slots) == Some(1));
    plant.wait(|| line.decisions().first().is_some_and(|newest| newest == "high firing"));

    // Its test says what its rule does not.
    line.release("2", &flow(3, "quiet"));
    let slots =
        until(&mut node, &|slots| slots["kept"]["refused"].as_array().is_some_and(|them| !them.is_empty()));
    let why = slots["kept"]["refused"][0]["why"].as_str().unwrap();
    assert!(why.contains("above"), "{why}");
    assert_eq!(current(&slots), Some(1));

    // The next one fires no more; after a restart the node begins with it, without a look at its file.
    line.release("3", &flow(3, "firing"));
    until(&mut node, &|slots| current(slots) == Some(3));
    plant.wait(|| line.decisions().first().is_some_and(|newest| newest == "high cleared"));
    node.stop();
    plant.stage.write("flow.toml", &OWN.replace("> 10", "> 0"));
    let mut node = plant.start("pump-1");
    until(&mut node, &|slots| slots["is_loaded"] == true && current(slots) == Some(3));
    assert!(line.decisions().iter().all(|said| !said.starts_with("own")), "{:?}", line.decisions());

    plant.stage.run(&["rollback", "line", "--config", "pump-1.toml"]).ok();
    plant.wait(|| line.decisions().first().is_some_and(|newest| newest == "high firing"));
    node.stop();
}
