"""Follows a repository of ours with python-tuf's client: prints what it thinks of each target.

Usage: client.py FOLDER PATH…, where FOLDER holds the metadata files. With `--resign KEY_HEX` the timestamp is first signed anew
with that Ed25519 seed only, version raised by one, as python-tuf does it. Exits with 3 if the packages are not there.
"""

import inspect
import sys
import tempfile
from pathlib import Path

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import CryptoSigner
    from tuf.api.exceptions import DownloadHTTPError
    from tuf.api.metadata import Metadata
    from tuf.ngclient import FetcherInterface, Updater
except ImportError as error:
    print(error)
    sys.exit(3)

arguments = sys.argv[1:]
seed = None
if arguments[0] == "--resign":
    seed, arguments = bytes.fromhex(arguments[1]), arguments[2:]
folder, paths = Path(arguments[0]), arguments[1:]


class Folder(FetcherInterface):
    """Reads the files of the folder as if it were a server."""

    def _fetch(self, url):
        file = folder / url.removeprefix("http://folder/")
        if not file.is_file():
            raise DownloadHTTPError("not there", 404)
        yield file.read_bytes()

    def fetch(self, url):
        return iter(list(self._fetch(url)))


if seed is not None:
    root = Metadata.from_file(str(max(folder.glob("*.root.json"))))
    [keyid] = root.signed.roles["timestamp"].keyids
    signer = CryptoSigner(Ed25519PrivateKey.from_private_bytes(seed), root.signed.keys[keyid])
    timestamp = Metadata.from_file(str(folder / "timestamp.json"))
    timestamp.signed.version += 1
    timestamp.sign(signer)
    timestamp.to_file(str(folder / "timestamp.json"))

with tempfile.TemporaryDirectory() as local:
    first = (folder / "1.root.json").read_bytes()
    (Path(local) / "root.json").write_bytes(first)
    more = {"bootstrap": first} if "bootstrap" in inspect.signature(Updater).parameters else {}
    updater = Updater(local, "http://folder/", fetcher=Folder(), **more)
    updater.refresh()
    for path in paths:
        found = updater.get_targetinfo(path)
        print(path, found.hashes["sha256"] if found else "none")
