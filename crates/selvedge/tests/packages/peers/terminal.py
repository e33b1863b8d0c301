"""Types passphrases on a terminal of its own.

Usage: terminal.py SELVEDGE KEY; makes the key, then shows it. Prints what stood on the terminal, then how each ended.
Exits with 3 where there are no such terminals.
"""

import os
import sys

try:
    import pty
except ImportError as error:
    print(error)
    sys.exit(3)

selvedge, key = sys.argv[1:3]
os.environ.pop("SELVEDGE_PASSPHRASE_FILE", None)


def run(words, answers):
    """Types each answer when a prompt stands there that waits for it."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(selvedge, [selvedge, *words])
    shown, answered = b"", 0
    while True:
        try:
            came = os.read(terminal, 4096)
        except OSError:
            break
        if not came:
            break
        shown += came
        if shown.endswith(b": ") and answered < len(answers):
            os.write(terminal, answers[answered])
            answered += 1
    _, status = os.waitpid(process, 0)
    print(shown.decode().replace("\r\n", "\n"), end="")
    print("ended with", os.waitstatus_to_exitcode(status))


# An umlaut has two bytes; one backspace takes both.
run(["trust", "key", "new", key, "--work", "4"], ["secä\x7fret\n".encode(), b"secret\n"])
run(["trust", "key", "show", key], [b"secret\n"])
run(["trust", "key", "show", key], [b"another\n"])
run(["trust", "key", "show", key], [b"sec\x03"])
run(["trust", "key", "new", key + "2", "--work", "4"], [b"one\n", b"two\n"])
