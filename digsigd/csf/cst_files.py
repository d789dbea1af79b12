"""What files are called in the directory that cst runs in: names of our own, whatever a client calls its files.

cst makes a key's path from its certificate's by putting `keys` for the first `crts` in it, and `_key` for `_crt`. So no
name here has `crts`, and a certificate's folder holds its key and the pass phrase that goes with that key.
"""

from __future__ import annotations

from digsigd.csf.members import KEY_PASS

DESCRIPTION = "description.csf"
BLOB = "csf.bin"
SRK_TABLE = "srk_table.bin"
# What OpenSSL reads and writes where keys are on a token.
CONFIGURATION, TRACE = "openssl.cnf", "trace"


def artifact(number: int) -> str:
    """Return the name of an artifact, `number` counting from 0."""
    return f"artifact{number + 1}" if number else "artifact"


def key_folder(number: int) -> str:
    """Return the folder of a certificate and its key, `number` counting from 0."""
    return f"k{number + 1}"


def certificate(folder: str, ending: str) -> str:
    """Return the name of the certificate in a folder, `ending` being that of its key: cst looks for no other."""
    return f"{folder}/a_crt.{ending}"


def key(folder: str, ending: str) -> str:
    """Return the name of the key in a folder."""
    return f"{folder}/a_key.{ending}"


def key_pass(folder: str) -> str:
    """Return the name of the file in a folder whose first line is the key's pass phrase."""
    return f"{folder}/{KEY_PASS}"
