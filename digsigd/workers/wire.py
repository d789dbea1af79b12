"""What supervisor and workers say to each other: lines of JSON on a socket pair, each a list that begins with a verb.

From a worker: `ready`; `failed` with why it cannot start; `enter` and `leave` with the number of a turn in a queue;
`token` with what was found out about a PIN; `missing` to ask all; `answer` to a question.

To a worker: `turn` and `busy` for turns; `token`; `told` with what is missing on the host; `ask` with a question
(`ping`, `missing`, `prepare`, `commit`); `stop`.
"""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from digsigd.settings import Settings

_encode = msgspec.json.Encoder(enc_hook=os.fspath).encode
_decode = msgspec.json.Decoder().decode


class Channel(Protocol):
    """One end of a channel. `received` gets each message, `lost` is called at the end."""

    def __init__(self, received: Callable[[list[Any]], None], lost: Callable[[], None]) -> None:
        self._received = received
        self._lost = lost
        self._rest = b""
        self._open = False

    def connectionMade(self) -> None:
        """Implement `IProtocol.connectionMade`."""
        self._open = True

    def say(self, *message: Any) -> None:
        """Send a message. A channel that is closed drops it."""
        if self._open and self.transport is not None:
            self.transport.write(line_of(*message))

    def close(self) -> None:
        """Close the channel. `lost` is called later."""
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Implement `IProtocol.dataReceived`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._received(_decode(line))

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Implement `IProtocol.connectionLost`."""
        self._open = False
        self._lost()

    def adopt(self, reactor: Any, descriptor: int) -> None:
        """Connect over a Unix socket, of which the reactor makes a copy."""
        reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, _Only(self))


class _Only(Factory):
    """The factory of one channel."""

    noisy = False

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def buildProtocol(self, addr: object) -> Channel:  # noqa: ARG002
        return self._channel


def line_of(*message: Any) -> bytes:
    """Return a message as it is sent."""
    return _encode(message) + b"\n"


def settings_as_text(settings: Settings) -> bytes:
    """Return settings for another process of the same program."""
    # Unlike JSON, this has infinity, and bytes for paths that are no text.
    return base64.b64encode(msgspec.msgpack.encode(settings, enc_hook=os.fsencode))


def settings_from_text(text: bytes) -> Settings:
    """Return the settings of `settings_as_text`."""
    return msgspec.msgpack.decode(base64.b64decode(text), type=Settings, dec_hook=_as_path)


def _as_path(kind: type, value: Any) -> Any:
    if kind is not Path:
        raise NotImplementedError(kind)
    return Path(os.fsdecode(value))
