//! What ModelPack and OCI allow in manifest, index and config, transcribed by hand from their schemas (model-spec d78bf32,
//! image-spec 13cff54): always here, also where the schemas are not.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::stage::Stage;

/// Has these fields, and no others than those in brackets.
fn check(value: &Value, must: &[&str], may: &[&str]) {
    let found: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    for field in must {
        assert!(found.contains(field), "{field} is missing: {value}");
    }
    for field in found {
        assert!(must.contains(&field) || may.contains(&field), "{field} is not known: {value}");
    }
}

fn descriptor(value: &Value, media_type: &str) {
    check(value, &["mediaType", "digest", "size"], &["annotations", "platform", "artifactType"]);
    assert_eq!(value["mediaType"], media_type);
    let digest = value["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    assert!(digest.len() == 64 && digest.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')), "{digest}");
    assert!(value["size"].is_u64());
    strings(&value["annotations"]);
}

fn strings(annotations: &Value) {
    let Some(annotations) = annotations.as_object() else { return };
    assert!(annotations.values().all(Value::is_string), "{annotations:?}");
}

/// A document of the package, by its descriptor.
fn read(stage: &Stage, descriptor: &Value) -> Value {
    let hex = &descriptor["digest"].as_str().unwrap()["sha256:".len()..];
    serde_json::from_slice(&std::fs::read(stage.path("tiny/blobs/sha256").join(hex)).unwrap()).unwrap()
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn documents_have_the_fields_that_their_schemas_know() {
    let stage = Stage::packed();
    stage.run(&["trust", "key", "new", "maker.age", "--kind", "ecdsa-p256", "--work", "4"]).ok();
    stage.run(&["sign", "tiny", "--provenance", "maker.age"]).ok();
    let mark: Value = serde_json::from_slice(&std::fs::read(stage.path("tiny/oci-layout")).unwrap()).unwrap();
    assert_eq!(mark, serde_json::json!({ "imageLayoutVersion": "1.0.0" }));
    let top: Value = serde_json::from_slice(&std::fs::read(stage.path("tiny/index.json")).unwrap()).unwrap();
    check(&top, &["schemaVersion", "mediaType", "manifests"], &["annotations"]);
    assert_eq!(top["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "tiny:7");
    descriptor(&top["manifests"][0], INDEX);

    let index = read(&stage, &top["manifests"][0]);
    check(&index, &["schemaVersion", "mediaType", "artifactType", "manifests", "annotations"], &[]);
    assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&Value::from(2), &Value::from(INDEX)));
    strings(&index["annotations"]);
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 4, "two variants, two signatures");
    for listed in manifests {
        descriptor(listed, MANIFEST);
        let manifest = read(&stage, listed);
        check(
            &manifest,
            &["schemaVersion", "mediaType", "artifactType", "config", "layers"],
            &["annotations", "subject"],
        );
        assert_eq!(
            (&manifest["schemaVersion"], &manifest["mediaType"]),
            (&Value::from(2), &Value::from(MANIFEST))
        );
        // Not every tool that copies an index keeps the types of its entries; the manifests say theirs themselves.
        assert_eq!(listed["artifactType"], Value::Null);
        if manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json" {
            variant(&stage, &manifest);
        } else {
            descriptor(&manifest["subject"], MANIFEST);
            descriptor(&manifest["config"], "application/vnd.oci.empty.v1+json");
            descriptor(&manifest["layers"][0], "application/vnd.dev.sigstore.bundle.v0.3+json");
            assert_eq!(listed["platform"]["os"], "unknown");
        }
    }
}

fn variant(stage: &Stage, manifest: &Value) {
    descriptor(&manifest["config"], "application/vnd.cncf.model.config.v1+json");
    let layers = manifest["layers"].as_array().unwrap();
    let kinds = ["weight", "weight.config", "doc", "dataset"];
    let kinds = kinds.map(|kind| format!("application/vnd.cncf.model.{kind}.v1.raw"));
    for layer in layers {
        let media_type = layer["mediaType"].as_str().unwrap();
        assert!(kinds.iter().any(|kind| kind == media_type), "{media_type}");
        descriptor(layer, media_type);
        assert!(layer["annotations"]["org.cncf.model.filepath"].is_string());
    }
    let config = read(stage, &manifest["config"]);
    check(&config, &["descriptor", "config", "modelfs"], &[]);
    let about = "createdAt authors family name docURL sourceURL datasetsURL version revision vendor licenses title description";
    check(&config["descriptor"], &[], &about.split(' ').collect::<Vec<_>>());
    let shape = "architecture format paramSize precision quantization capabilities";
    check(&config["config"], &[], &shape.split(' ').collect::<Vec<_>>());
    let can = "inputTypes outputTypes knowledgeCutoff reasoning toolUsage reward languages";
    check(&config["config"]["capabilities"], &[], &can.split(' ').collect::<Vec<_>>());
    check(&config["modelfs"], &["type", "diffIds"], &[]);
    let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    assert_eq!(config["modelfs"]["diffIds"].as_array().unwrap().iter().collect::<Vec<_>>(), digests);
}
