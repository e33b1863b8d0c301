"""OpenSSF's model_signing: verifies our signature of a model, and signs the model itself.

Usage: maker.py MODEL OUR_SIGNATURE OUR_PUBLIC_KEY THEIRS; writes THEIRS.sig and THEIRS.pem. Exits with 3, saying why, if the
packages are not there.
"""

import sys
from pathlib import Path

try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from model_signing import hashing, signing, verifying
except ImportError as error:
    print(error)
    sys.exit(3)

model, signature, public = (Path(argument) for argument in sys.argv[1:4])
theirs = sys.argv[4]

verifying.Config().use_elliptic_key_verifier(public_key=public).verify(model, signature)
print("ours verifies")

card = model / "README.md"
before = card.read_bytes()
card.write_bytes(before + b"!")
try:
    verifying.Config().use_elliptic_key_verifier(public_key=public).verify(model, signature)
    print("ours with a changed file does")
except ValueError:
    print("ours with a changed file does not")
card.write_bytes(before)

key = ec.generate_private_key(ec.SECP256R1())
private = Path(theirs + ".key")
private.write_bytes(
    key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
)
Path(theirs + ".pem").write_bytes(
    key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
)
config = signing.Config().use_elliptic_key_signer(private_key=private)
config.set_hashing_config(hashing.Config()).sign(model, Path(theirs + ".sig"))
print("theirs is signed")
