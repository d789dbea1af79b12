"""Hosts that are ready, and break off every request to sign: at its connection, or when they have read it."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread

from tests.fleet.balancers import Balancer

READY = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


class Breaking:
    """Answers GET /readyz with 200. `begun` counts requests to sign, which it reads whole, and then breaks off.

    With `early`, it closes connections once `break_now` is set, before TLS is spoken.
    """

    def __init__(self, folder: Path, balancer: Balancer, port: int, *, early: bool = False) -> None:
        folder.mkdir()
        certificate, key = balancer.hosts.issue("host")
        (folder / "host.pem").write_bytes(certificate + key)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(folder / "host.pem")
        self._lock = Lock()
        self._early = early
        self.begun = 0
        self.refused = 0
        self.break_now = False
        self.address = f"127.0.0.1:{port}"
        self._port = socket.create_server(("127.0.0.1", port))
        self._thread = Thread(target=self._accept)
        self._thread.start()

    def stop(self) -> None:
        # accept() in the thread ends with an error.
        self._port.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._port.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._port.accept()
            except OSError:
                return
            if self._early and self.break_now:
                self.refused += 1
                connection.close()
            else:
                Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(60)
        with suppress(OSError), self._context.wrap_socket(connection, server_side=True) as secure:
            head = b""
            while b"\r\n\r\n" not in head and (more := secure.recv(65536)):
                head += more
            if head.startswith(b"GET /readyz "):
                secure.sendall(READY)
            elif head.startswith(b"POST "):
                with self._lock:
                    self.begun += 1
                # All of it, so that the connection is closed in order.
                length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1])  # type: ignore[index]
                missing = length - len(head.partition(b"\r\n\r\n")[2])
                while missing > 0 and (more := secure.recv(65536)):
                    missing -= len(more)
