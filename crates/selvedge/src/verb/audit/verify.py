#!/usr/bin/env python3
"""Checks this folder with nothing but Python: that the log's key has signed `checkpoint`; that the entries in `tile/entries`
are those whose root it names; and what else lies here: chains of records, the plan, blobs by their digests.

    python3 verify.py [KEY]

KEY is the line of the hub's audit.pub, from somebody you trust; without it the one that lies here is taken, `log.pub`.
"""

import base64
import hashlib
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

# What a chain of records had come to, by its file and a record's number.
HASHES = {}


# Ed25519, RFC 8032 section 5.1: points are (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def point(encoded):
    number = int.from_bytes(encoded, "little")
    y, sign = number % 2**255, number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT_OF_MINUS_1 % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        fail("a key or a signature is no point of the curve")
    if x % 2 != sign:
        x = P - x
    return x, y, 1, x * y % P


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number, p):
    result = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = add(result, p)
        p, number = add(p, p), number >> 1
    return result


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def is_signed(public, message, signature):
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= ORDER:
        return False
    hashed = hashlib.sha512(signature[:32] + public + message).digest()
    challenge = int.from_bytes(hashed, "little") % ORDER
    left, right = times(s, BASE), add(point(signature[:32]), times(challenge, point(public)))
    return all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))


def fail(why):
    sys.exit("wrong  " + why)


def read(name):
    with open(os.path.join(HERE, name), "rb") as file:
        return file.read()


def checkpoint(key):
    """The name, the size and the root that the key has signed: C2SP signed-note and tlog-checkpoint."""
    name, number, public = key.split("+", 2)
    public = base64.b64decode(public, validate=True)
    named = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
    if public[0] != 1 or named.hex() != number:
        fail("the key is none of a log")
    text, _, signatures = read("checkpoint").decode().rpartition("\n\n")
    text += "\n"
    for line in signatures.splitlines():
        _, signer, signature = line.split(" ")
        signature = base64.b64decode(signature, validate=True)
        if signer == name and signature[:4] == named:
            if not is_signed(public[1:], text.encode(), signature[4:]):
                fail("the signature of the checkpoint is wrong")
            origin, size, root = text.splitlines()[:3]
            if origin != name:
                fail("the checkpoint is of another log than the key")
            return origin, int(size), base64.b64decode(root, validate=True)
    fail("the key has not signed the checkpoint")


def place(kind, number, width):
    parts = ["%03d" % (number % 1000)]
    rest = number // 1000
    while rest:
        parts.insert(0, "x%03d" % (rest % 1000))
        rest //= 1000
    return "tile/" + kind + "/" + "/".join(parts) + ("" if width == 256 else ".p/%d" % width)


def bundle(name, width):
    """The entries of a bundle, each behind its length in two bytes: C2SP tlog-tiles."""
    held, at, found = read(name), 0, []
    for _ in range(width):
        length = int.from_bytes(held[at : at + 2], "big")
        found.append(held[at + 2 : at + 2 + length])
        if len(found[-1]) != length:
            fail(name + " is cut short")
        at += 2 + length
    if at != len(held):
        fail(name + " is too long")
    return found


def leaves(size, seen):
    """The hash of each entry: of the entry itself where it lies here, else as the tile has it. `seen` gets the entries."""
    for number in range((size + 255) // 256):
        width = min(256, size - 256 * number)
        name = place("entries", number, width)
        hashes = read(place("0", number, width))
        hashes = [hashes[at : at + 32] for at in range(0, 32 * width, 32)]
        if os.path.exists(os.path.join(HERE, name)) or not is_part():
            held = bundle(name, width)
            for at, entry in enumerate(held):
                if hashlib.sha256(b"\0" + entry).digest() != hashes[at]:
                    fail("%s: entry %d is not the one whose hash stands in the tile" % (name, 256 * number + at + 1))
            seen.extend(held)
        yield from hashes


def is_part():
    return os.path.exists(os.path.join(HERE, "about.json"))


def root_of(hashes):
    """The root of RFC 6962: complete subtrees, the largest first, then folded from the right."""
    subtrees = []
    for top in hashes:
        height = 0
        while subtrees and subtrees[-1][0] == height:
            top = hashlib.sha256(b"\1" + subtrees.pop()[1] + top).digest()
            height += 1
        subtrees.append((height, top))
    if not subtrees:
        return hashlib.sha256(b"").digest()
    root = subtrees.pop()[1]
    while subtrees:
        root = hashlib.sha256(b"\1" + subtrees.pop()[1] + root).digest()
    return root


def files(folder):
    for at, _, names in os.walk(os.path.join(HERE, folder)):
        for name in sorted(names):
            yield os.path.relpath(os.path.join(at, name), HERE)


def chain(name):
    """Hashes a stream of records again: `sha256sum` over the header and the body says the same."""
    head, following = "0" * 64, 1
    HASHES[name, 0] = head
    for number, line in enumerate(read(name).decode().splitlines()):
        it = json.loads(line)
        where = "%s, line %d: " % (name, number + 1)
        if "first" in it:
            if it["first"] != following:
                fail(where + "records are missing, and it does not say so")
            head, following = it["hash"], it["last"] + 1
            HASHES[name, it["last"]] = head
            continue
        if it["seq"] != following:
            fail(where + "records are missing, and it does not say so")
        header = "selvedge-record/1\n%s\n%s %d %s %s\n%s %d %d %s\n" % (
            head, it["stream"], it["seq"], it["class"], it["kind"], it["boot"], it["mono_ns"], it["wall_ms"], it["clock"],
        )
        head = hashlib.sha256((header + it["body"]).encode()).hexdigest()
        if head != it["hash"]:
            fail(where + "record %d was changed, or the one before it" % it["seq"])
        HASHES[name, it["seq"]] = head
        following += 1
    return following - 1


def heads(seen):
    """Holds chains to the lists of heads that the log tells of: of how many it has one."""
    told = {}
    for entry in seen:
        it = json.loads(entry)
        if it.get("act") == "heads" and "lines" in (it.get("after") or {}):
            told["heads/" + it["after"]["file"].replace(".zst", "")] = it["after"]["lines"]
    held = set()
    for name in files("heads"):
        if hashlib.sha256(read(name)).hexdigest() != told.get(name):
            fail(name + " is not a list that the log tells of")
        for line in read(name).decode().splitlines():
            it = json.loads(line)
            chained = "records/%s/%s/%s.jsonl" % (it["node"], it["journal"], it["stream"])
            if HASHES.get((chained, it["seq"]), it["hash"]) != it["hash"]:
                fail("%s is not the chain whose head the log has at %d" % (chained, it["seq"]))
            if (chained, it["seq"]) in HASHES:
                held.add(chained)
    return len(held)


def canonical(it):
    """What is signed: the JSON of OLPC, names sorted, only quotes and backslashes escaped."""
    if isinstance(it, dict):
        return "{" + ",".join(canonical(name) + ":" + canonical(it[name]) for name in sorted(it)) + "}"
    if isinstance(it, list):
        return "[" + ",".join(map(canonical, it)) + "]"
    if isinstance(it, str):
        return '"' + it.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return json.dumps(it)


def signers(document, keys, role):
    """How many of a role's keys have signed a document, and how many must. Of a hybrid key the Ed25519 half is looked at."""
    message, good = canonical(document["signed"]).encode(), set()
    for signature in document["signatures"]:
        key = keys.get(signature["keyid"])
        if signature["keyid"] in role["keyids"] and key and key["keytype"] == "ed25519":
            public = bytes.fromhex(key["keyval"]["public"])
            if is_signed(public, message, bytes.fromhex(signature["sig"])):
                good.add(public)
    return len(good), max(1, role["threshold"])


def must_be_signed(name, keys, role):
    good, threshold = signers(json.loads(read(name)), keys, role)
    if good < threshold:
        fail("%s is not signed by those who might: %d of %d signatures are good" % (name, good, threshold))


def documents(plan):
    """Whether the documents were signed by those whom the roots and the targets of the plan name."""
    names = list(files("rollout/documents"))
    if not names:
        return
    name = "trust/%d.targets.json" % plan["targets_version"]
    targets, is_under_one, version, before = json.loads(read(name)), False, 1, None
    while os.path.exists(os.path.join(HERE, "trust/%d.root.json" % version)):
        of_root = "trust/%d.root.json" % version
        root = json.loads(read(of_root))["signed"]
        for believed in (before, root):
            if believed:
                must_be_signed(of_root, believed["keys"], believed["roles"]["root"])
        good, threshold = signers(targets, root["keys"], root["roles"]["targets"])
        is_under_one, version, before = is_under_one or good >= threshold, version + 1, root
    if not is_under_one:
        fail(name + " is signed under no root that is here")
    delegations = targets["signed"]["delegations"]
    roles = [role for role in delegations["roles"] if role["name"] == "assignments"]
    if not roles:
        fail(name + " names nobody who might sign")
    for document in names:
        must_be_signed(document, delegations["keys"], roles[0])
    print("ok     %d documents are signed by those who might; of hybrid keys the Ed25519 half was looked at" % len(names))


def evidence(seen):
    about = json.loads(read("about.json"))
    if about.get("rollout"):
        if not hashlib.sha256(read("rollout/plan.json")).hexdigest().startswith(about["rollout"]):
            fail("rollout/plan.json is not the plan of the rollout that this is about")
        print("ok     the plan is the one of rollout %s" % about["rollout"])
        documents(json.loads(read("rollout/plan.json")))
    for name in files("releases"):
        if hashlib.sha256(read(name)).hexdigest() != os.path.basename(name):
            fail(name + " is not what its name says")
    streams = list(files("records"))
    records = sum(chain(name) for name in streams)
    print("ok     %d records in %d chains, each hashed again; of %d the log has the head" % (records, len(streams), heads(seen)))


def main():
    is_given = len(sys.argv) > 1
    key = (sys.argv[1] if is_given else read("log.pub").decode()).strip()
    origin, size, root = checkpoint(key)
    print("ok     %s: %d entries, signed by %s" % (origin, size, key))
    seen = []
    if root_of(leaves(size, seen)) != root:
        fail("the entries are not those whose root is signed")
    print("ok     every entry is under the root %s" % root.hex())
    lines, held = read("entries.jsonl").splitlines(), set(seen)
    if not is_part() and lines != seen or not all(line in held for line in lines):
        fail("entries.jsonl is not what the tiles hold")
    print("ok     entries.jsonl has entries of the log" if is_part() else "ok     entries.jsonl has the same entries")
    if is_part():
        evidence(seen)
    if not is_given:
        print("note   the key is this folder's own: give the one that you know as an argument")


main()
