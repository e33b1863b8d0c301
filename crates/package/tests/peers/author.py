"""Writes TUF repositories with python-tuf, for our client to follow.

Usage: author.py FOLDER KEYTYPE, where KEYTYPE is ed25519 or ecdsa. Below FOLDER come `1` (a first state) and `2` (the
same repository after a rotation of every top-level key, a new delegation and a new target). Exits with 3, saying why, if the
packages are not there.
"""

import sys
from datetime import datetime, timezone
from pathlib import Path

try:
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import (
        DelegatedRole,
        Delegations,
        Metadata,
        MetaFile,
        Root,
        Snapshot,
        TargetFile,
        Targets,
        Timestamp,
    )
except ImportError as error:
    print(error)
    sys.exit(3)

EXPIRES = datetime(2026, 6, 1, tzinfo=timezone.utc)
TOP = ("root", "timestamp", "snapshot", "targets")

out, keytype = Path(sys.argv[1]), sys.argv[2]
make = {"ed25519": CryptoSigner.generate_ed25519, "ecdsa": CryptoSigner.generate_ecdsa}[keytype]

keys = {role: make() for role in (*TOP, "team-a", "team b/ä")}
old_root_key = None
root = Root(expires=EXPIRES, consistent_snapshot=True)
for role in TOP:
    root.add_key(keys[role].public_key, role)
targets = Targets(expires=EXPIRES)
snapshot, timestamp = Snapshot(expires=EXPIRES), Timestamp(expires=EXPIRES)
delegated = {}


def delegate(role, pattern, terminating):
    key = keys[role].public_key
    if targets.delegations is None:
        targets.delegations = Delegations({}, {})
    targets.delegations.roles[role] = DelegatedRole(role, [], 1, terminating, [pattern])
    targets.add_key(key, role)
    delegated[role] = Targets(expires=EXPIRES)


def quoted(role):
    from urllib.parse import quote

    return quote(role, "")


def write(folder, name, signed, signers):
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    data = metadata.to_bytes()
    (folder / name).write_bytes(data)
    return data


def publish(folder):
    folder.mkdir(parents=True)
    for role, signed in [*delegated.items(), ("targets", targets)]:
        data = write(folder, f"{signed.version}.{quoted(role)}.json", signed, [keys[role]])
        snapshot.meta[f"{role}.json"] = MetaFile.from_data(signed.version, data, ["sha256", "sha512"])
    data = write(folder, f"{snapshot.version}.snapshot.json", snapshot, [keys["snapshot"]])
    timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, data, ["sha256"])
    write(folder, "timestamp.json", timestamp, [keys["timestamp"]])
    signers = [keys["root"]] + ([old_root_key] if old_root_key else [])
    write(folder, f"{root.version}.root.json", root, signers)


delegate("team-a", "models/a/*", False)
delegated["team-a"].targets["models/a/1"] = TargetFile.from_data("models/a/1", b"one", ["sha256"])
publish(out / "1")

old_root_key = keys["root"]
for role in TOP:
    root.revoke_key(keys[role].public_key.keyid, role)
    keys[role] = make()
    root.add_key(keys[role].public_key, role)
delegate("team b/ä", "models/b/?", True)
delegated["team b/ä"].targets["models/b/2"] = TargetFile.from_data("models/b/2", b"two", ["sha512"])
for signed in (root, timestamp, snapshot, targets, delegated["team-a"]):
    signed.version += 1
    signed.unrecognized_fields["x-note"] = {"kept": [1, None, "é\n"]}
publish(out / "2")
