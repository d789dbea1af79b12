"""One call of the signing host in a process of its own: what goes into it, and what comes out.

A reactor runs once in a process and belongs to its main thread, but SPSDK is a synchronous library that other programs
use, too. So each call has a process, which is given what it needs by its standard input: secrets are in no argument.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import msgspec
from msgspec import Struct

from digsigd.spsdk.errors import ProviderError
from digsigd.text import one_line

# In seconds, beyond the time that the client's own calls may take.
_MARGIN = 60.0
_SHOWN = 300


class Order(Struct):
    """What a process is to do: `keys` are those of the signer, `region` the bytes to sign, `folder` an empty one."""

    call: Literal["length", "sign"]
    keys: dict[str, str]
    search_paths: list[str]
    folder: str = ""
    region: bytes = b""


class Result(Struct):
    """The signature or its length in bytes, with the host's remarks; or, if `failure` is not "", why there is none."""

    signature: bytes = b""
    length: int = 0
    notes: list[str] = []
    failure: str = ""
    hint: str = ""


def called(order: Order, *, timeout: float) -> Result:
    """Return what a new process makes of `order`. `timeout` is that of one call of the client, in seconds.

    Raises `ProviderError` with what the process reports, or if it ends in another way.
    """
    # -P: the folder that nxpimage was started in is no place to import modules from.
    command = [sys.executable, "-P", "-m", "digsigd.spsdk.process"]
    try:
        done = subprocess.run(
            command, input=msgspec.json.encode(order), capture_output=True, timeout=2 * timeout + _MARGIN, check=False
        )
    except OSError as error:
        raise ProviderError(f"{sys.executable} cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise ProviderError("the signing host has not answered in time", hint="set timeout=SECONDS") from None
    try:
        result = msgspec.json.decode(done.stdout, type=Result)
    except msgspec.DecodeError:
        lines = done.stderr.decode("utf-8", "replace").splitlines() or ["it said nothing"]
        raise ProviderError(
            f"the process that asks the signing host ended with code {done.returncode}: {one_line(lines[-1])[:_SHOWN]}"
        ) from None
    if result.failure:
        raise ProviderError(result.failure, hint=result.hint)
    return result
