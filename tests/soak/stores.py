"""A key store on HTTP that can fail in several ways, on loopback."""

from __future__ import annotations

import http.server
import socket
import threading
from hashlib import sha256


class Store:
    """Serves one tarball for every machine. `become` changes what it does from the next request on.

    "good"; "down": nothing listens; "slow": later than anyone waits; "truncated": half of it; "wrong": another tarball;
    "nonsense": no tarball at all.
    """

    def __init__(self, tarball: bytes, other: bytes) -> None:
        self._tarballs = {"good": tarball, "truncated": tarball, "slow": tarball, "wrong": other}
        self._how = "good"
        self._go_on = threading.Event()
        self._closed = False
        self._listen(0)
        self._port = self._server.server_port
        self.url = f"http://127.0.0.1:{self._port}"

    def become(self, how: str) -> None:
        if "down" in {self._how, how}:
            if how == "down":
                self._stop()
                # Bound, not listening: connections are refused, and nobody else is given the port.
                self._kept = socket.socket()
                self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._kept.bind(("127.0.0.1", self._port))
            else:
                self._listen(self._port)
                self._kept.close()
        self._go_on.set()
        self._go_on = threading.Event()
        self._how = how

    def close(self) -> None:
        self.become("good")
        self._stop()

    def _listen(self, port: int) -> None:
        store = self

        class Answers(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                store._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Answers)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def _stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        how, go_on = self._how, self._go_on
        if how == "down":
            request.close_connection = True  # it came just before
            return
        if how == "slow":
            go_on.wait(30)
        body = self._tarballs.get(how, b"this is no tarball")
        tag = f'"{sha256(body).hexdigest()}"'
        if request.headers["If-None-Match"] == tag and how != "truncated":
            request.send_response(304)
            body = b""
        else:
            request.send_response(200)
            request.send_header("Content-Length", str(len(body)))
        request.send_header("ETag", tag)
        request.send_header("Connection", "close")
        try:
            request.end_headers()
            request.wfile.write(body[: len(body) // 2] if how == "truncated" else body)
            request.wfile.flush()
            if how == "truncated":
                request.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the daemon has waited long enough
        request.close_connection = True
