"""Checks every document of a package against the schemas of OCI and ModelPack.

Usage: schemas.py LAYOUT SCHEMAS. Prints how many documents of each kind were right, and how many of two spoilt ones were
found out. Exits with 3, saying why, if the packages are not there.
"""

import json
import sys
from pathlib import Path

try:
    from jsonschema import validators
    from referencing import Registry
    from referencing.jsonschema import specification_with
except ImportError as error:
    print(error)
    sys.exit(3)

layout, schemas = Path(sys.argv[1]), Path(sys.argv[2])


def plain(schema):
    """Without ids: OCI's do not fit the names by which its schemas refer to each other."""
    if isinstance(schema, dict):
        return {
            name: plain(value)
            for name, value in schema.items()
            if not (name in ("id", "$id") and isinstance(value, str))
        }
    return [plain(value) for value in schema] if isinstance(schema, list) else schema


base = "file:///"
registry, loaded = Registry(), {}
for file in schemas.glob("*.json"):
    schema = plain(json.loads(file.read_text()))
    loaded[file.name] = schema
    dialect = specification_with(schema.get("$schema", "http://json-schema.org/draft-04/schema#"))
    registry = registry.with_resource(base + file.name, dialect.create_resource(schema))


def validator(name):
    kind = validators.validator_for(loaded[name])
    return kind({"$schema": loaded[name]["$schema"], "$ref": base + name}, registry=registry)


checks = {
    "layout": validator("image-layout-schema.json"),
    "index": validator("image-index-schema.json"),
    "manifest": validator("image-manifest-schema.json"),
    "config": validator("model-config-schema.json"),
}
right = dict.fromkeys(checks, 0)


def check(kind, document):
    checks[kind].validate(document)
    right[kind] += 1


def blob(descriptor):
    return json.loads((layout / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes())


check("layout", json.loads((layout / "oci-layout").read_bytes()))
top = json.loads((layout / "index.json").read_bytes())
check("index", top)
for named in top["manifests"]:
    release = blob(named)
    check("index", release)
    for listed in release["manifests"]:
        manifest = blob(listed)
        check("manifest", manifest)
        if manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json":
            config = blob(manifest["config"])
            check("config", config)

for kind, count in right.items():
    print(kind, count)
# Two that must not pass, so that this check can fail.
spoilt = [("config", {**config, "more": 1}), ("manifest", {**manifest, "schemaVersion": 3})]
found = sum(not checks[kind].is_valid(document) for kind, document in spoilt)
print("wrong", found, "of", len(spoilt))
