#!/usr/bin/env python3
"""Checks this folder with nothing but Python: that the log's key has signed `checkpoint`, and that the entries in
`tile/entries` are those whose root it names.

    python3 verify.py [KEY]

KEY is the line of the hub's audit.pub, from somebody you trust; without it the one that lies here is taken, `log.pub`.
"""

import base64
import hashlib
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


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


def entries(size):
    """All of them, from bundles of 256, each behind its length in two bytes: C2SP tlog-tiles."""
    for number in range((size + 255) // 256):
        parts = ["%03d" % (number % 1000)]
        rest = number // 1000
        while rest:
            parts.insert(0, "x%03d" % (rest % 1000))
            rest //= 1000
        width = min(256, size - 256 * number)
        name = "tile/entries/" + "/".join(parts) + ("" if width == 256 else ".p/%d" % width)
        bundle, at = read(name), 0
        for _ in range(width):
            length = int.from_bytes(bundle[at : at + 2], "big")
            entry = bundle[at + 2 : at + 2 + length]
            if len(entry) != length:
                fail(name + " is cut short")
            yield entry
            at += 2 + length
        if at != len(bundle):
            fail(name + " is too long")


def root_of(size):
    """The root of RFC 6962: complete subtrees, the largest first, then folded from the right."""
    subtrees = []
    for entry in entries(size):
        height, top = 0, hashlib.sha256(b"\0" + entry).digest()
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


def main():
    is_given = len(sys.argv) > 1
    key = (sys.argv[1] if is_given else read("log.pub").decode()).strip()
    origin, size, root = checkpoint(key)
    print("ok     %s: %d entries, signed by %s" % (origin, size, key))
    if root_of(size) != root:
        fail("the entries are not those whose root is signed")
    print("ok     every entry is under the root %s" % root.hex())
    lines = b"".join(entry + b"\n" for entry in entries(size))
    if read("entries.jsonl") != lines:
        fail("entries.jsonl is not what the tiles hold")
    print("ok     entries.jsonl has the same entries")
    if not is_given:
        print("note   the key is this folder's own: give the one that you know as an argument")


main()
