"""The names of files in a request's work directory. They do not depend on a client's names.

cst runs in the directory `RUN` in it, and may write only there. What it reads is beside that, with links in `RUN`.

cst makes a key's path from its certificate's by replacing the first `crts` in it by `keys`, and `_crt` by `_key`. So no
name here has `crts`, and a certificate's folder holds its key and the pass phrase of that key.
"""

from __future__ import annotations

from digsigd.csf.members import KEY_PASS

RUN = "run"
DESCRIPTION = "description.csf"
BLOB = "csf.bin"
SRK_TABLE = "srk_table.bin"
# Files that OpenSSL reads and writes if the keys are on a token.
CONFIGURATION, TRACE = "openssl.cnf", "trace"


def artifact(number: int) -> str:
    """Return the name of an artifact, `number` counting from 0."""
    return f"artifact{number + 1}" if number else "artifact"


def container(number: int) -> str:
    """Return the name of an AHAB container's stub, `number` counting from 0."""
    return f"container{number + 1}" if number else "container"


def key_folder(number: int) -> str:
    """Return the folder of a certificate and its key, `number` counting from 0."""
    return f"k{number + 1}"


def certificate(folder: str, ending: str) -> str:
    """Return the name of the certificate in a folder. `ending` is that of its key: cst looks for no other."""
    return f"{folder}/a_crt.{ending}"


def key(folder: str, ending: str) -> str:
    """Return the name of the key in a folder."""
    return f"{folder}/a_key.{ending}"


def key_pass(folder: str) -> str:
    """Return the name of the file in a folder whose first line is the key's pass phrase."""
    return f"{folder}/{KEY_PASS}"
