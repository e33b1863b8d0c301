"""age: opens a key file of ours, and locks the same secret anew.

Usage: age.py OURS THEIRS; the passphrase is that of the test's stage. Prints the two words before the secret. Exits with 3,
saying why, if the package is not there.
"""

import sys
from pathlib import Path

try:
    from pyrage import passphrase
except ImportError as error:
    print(error)
    sys.exit(3)

ours, theirs = (Path(argument) for argument in sys.argv[1:3])
PASSPHRASE = "a passphrase for tests"
secret = passphrase.decrypt(ours.read_bytes(), PASSPHRASE)
print(*secret.decode().split()[:2])
theirs.write_bytes(passphrase.encrypt(secret, PASSPHRASE))
