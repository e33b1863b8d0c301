//! A release of two variants on a node that wants spares: the smaller one comes behind the larger, answers while memory is short, and
//! gives the place back; nobody takes its answers for the release's.

use std::time::Duration;

use serde_json::Value;
use wire::world::{Clock as _, System};

use crate::plant::{Node, PATIENCE_NS, Plant, current};

/// The machine that the node cares for has so much free of 1000 MiB.
fn machine(plant: &Plant, free_mib: u64) {
    std::fs::create_dir_all(plant.stage.path("machine/proc")).unwrap();
    let info = format!("MemTotal: {} kB\nMemAvailable: {} kB\n", 1000 << 10, free_mib << 10);
    // Moved to its place whole: it is read all the time.
    plant.stage.write("machine/proc/new", &info);
    std::fs::rename(plant.stage.path("machine/proc/new"), plant.stage.path("machine/proc/meminfo")).unwrap();
}

/// Asks until this manifest answers; gives the answer.
fn until_answered_by(plant: &Plant, node: &Node, manifest: &Value) -> Value {
    let clock = System::new();
    loop {
        let answer = node.ask(&plant.runtime).unwrap_or_default();
        if answer["x_selvedge"]["model"]["digest"] == *manifest {
            return answer;
        }
        assert!(clock.mono_ns() < PATIENCE_NS, "{answer:#}\n{}", plant.log("pump-1"));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the journal says of the release as a part, the newest first.
fn told(plant: &Plant) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let records = plant.records("pump-1", "events").into_iter();
    let of_release = records.filter(|body| body["part"] == "release.tiny");
    of_release.map(|body| (text(&body["state"]), text(&body["reason"]))).collect()
}

#[test]
fn a_smaller_variant_answers_while_memory_is_short_and_steps_back() {
    let plant = Plant::new();
    plant.release("7", "tiny");
    machine(&plant, 900);
    plant.write_node("pump-1", "spare = true\n", "[source.door]\ntype = \"http\"\n");
    let mut node = plant.start_with("pump-1", &["--machine", "machine"]);
    let slots = plant.until("pump-1", &mut node, |slots| slots["kept"]["spare"]["phase"] == "ready");
    assert_eq!(current(&slots), Some(7));
    let (kept, spare) = (&slots["kept"], &slots["kept"]["spare"]["slot"]);
    assert_eq!((&kept["current"]["variant"], &spare["variant"]), (&Value::from("f32"), &Value::from("q8_0")));
    assert_eq!((&spare["index"], &spare["rollout"]), (&kept["current"]["index"], &Value::Null));
    let (large, small) = (&kept["current"]["manifest"], &spare["manifest"]);
    until_answered_by(&plant, &node, large);
    let config = ["--config", "pump-1.toml"];
    let shown = plant.stage.run(&[&["slots"][..], &config].concat()).ok();
    assert!(shown.contains("stands by for the time when memory is short, takes "), "{shown}");

    machine(&plant, 50);
    let answer = until_answered_by(&plant, &node, small);
    assert_eq!(answer["x_selvedge"]["model"]["variant"], "q8_0");
    let shown = plant.stage.run(&[&["slots"][..], &config].concat()).ok();
    assert!(shown.contains("answers: memory is short"), "{shown}");
    assert!(shown.contains("waits until there is memory for it"), "{shown}");
    plant.wait(|| !told(&plant).is_empty());
    let (state, reason) = told(&plant).remove(0);
    assert!(state == "spare" && reason.contains(small.as_str().unwrap()), "{state}: {reason}");
    assert!(reason.contains(large.as_str().unwrap()), "{reason}");
    let page = format!("{}/api/v1/nodes/pump-1", plant.url);
    let at_hub = || -> Value {
        plant.runtime.block_on(async {
            let answer = reqwest::get(&page).await.unwrap();
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
        })
    };
    plant.wait(|| at_hub()["slots"][0]["spare_answers"] == true);
    assert_eq!(at_hub()["slots"][0]["spare"], "q8_0");
    assert_eq!(at_hub()["slots"][0]["variant"], "f32", "the release is what it was");

    machine(&plant, 900);
    let answer = until_answered_by(&plant, &node, large);
    assert_eq!(answer["x_selvedge"]["model"]["spare"], Value::Null);
    plant.wait(|| told(&plant).len() == 2);
    assert_eq!(told(&plant)[0].0, "ready");
    assert_eq!(plant.outcomes("pump-1"), ["tiny 7 committed"], "a spare is nobody's result");
    plant.wait(|| !plant.records("pump-1", "behaviour").is_empty());
    let behaviour = plant.records("pump-1", "behaviour");
    let of_large = large.as_str().unwrap().trim_start_matches("sha256:");
    // What was counted until it went over was told then.
    for body in behaviour {
        assert_eq!(body["manifest"], of_large, "{body:#}");
    }
    // A restart begins with the larger one, and with the spare at hand.
    node.stop();
    let mut node = plant.start("pump-1");
    let slots = plant.until("pump-1", &mut node, |slots| slots["is_loaded"] == true);
    assert_eq!((&slots["serving"], &slots["kept"]["spare"]["phase"]), (large, &Value::from("ready")));
    until_answered_by(&plant, &node, large);
    node.stop();
}
