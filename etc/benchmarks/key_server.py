"""A key store on HTTP for benchmarks: files below a folder, with strong ETags.

`python -m etc.benchmarks.key_server FOLDER` prints its port. It runs as a process of its own, so that its CPU
time is not the daemon's.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.web.resource import Resource
from twisted.web.server import Site

reactor: Any = installed


class Store(Resource):
    """Answers with the files, read once."""

    isLeaf = True

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._files: dict[tuple[bytes, ...], tuple[bytes, bytes]] = {}

    def render_GET(self, request: Any) -> bytes:
        place = tuple(request.postpath)
        if place not in self._files:
            path = self._folder.joinpath(*(part.decode() for part in place))
            if not path.is_file() or ".." in path.parts:
                request.setResponseCode(404)
                return b""
            content = path.read_bytes()
            self._files[place] = (b'"' + sha256(content).hexdigest().encode() + b'"', content)
        etag, content = self._files[place]
        return b"" if request.setETag(etag) else content


def main() -> None:
    site = Site(Store(Path(sys.argv[1])))
    site.noisy = False
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
