"""Requests that are changed in many ways, as bytes; the same number gives the same request."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

ODD = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"--b",
    b"--b--",
    b'"',
    b";",
    b":",
    b"%00",
    b"../../x",
    "ü".encode(),
]
NUMBERS = [
    b"0",
    b"-1",
    b"+1",
    b"1e9",
    b"0x10",
    b"00000000000000000012",
    b"18446744073709551616",
    b"9" * 400,
    b"1, 1",
    b"",
]
CHARSETS = [b"utf-8", b"utf-16", b"latin-1", b"idna", b"unicode_escape", b"zlib", b"rot13", b"\xff", b"x" * 300]
HEADERS = [
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Content-Length: 5", b"Content-Length: 7",
    b"Expect: 100-continue", b"Expect: nonsense", b"Connection: close", b"Connection: keep-alive, upgrade",
    b"Upgrade: h2c",
    b"Host: b", b"Host: a", b"X-Request-Id: \xff", b"X-Request-Id: " + b"i" * 70, b"Accept: " + b"a/b," * 500,
    b"Accept: application/json;q=x", b"Authorization: Basic \xff", b"Authorization: Bearer " + b"t" * 5000,
    b"Origin: http://evil", b"Content-Encoding: gzip", b"Cookie: a=b", b"TE: trailers", b"Trailer: X", b" folded: yes",
    b"X-Bad\0Name: 1", b"X-Long: " + b"l" * 20_000, b"Content-Type: text/plain", b"traceparent: 00-zz",
    b"Range: bytes=0-",
]  # fmt: skip
METHODS = [b"GET", b"HEAD", b"PUT", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"post", b"P\xffST", b"X" * 300]
TARGETS = [
    b"/healthz", b"/readyz", b"/machines/imx8mm-evk", b"/machines/%2e%2e", b"/machines/\xff", b"/record/key", b"/",
    b"*",    b"//sign/imx", b"/sign/imx/", b"/sign/imx?a=b", b"/sign%2fimx", b"http://a/sign/imx", b"http://\xff/sign/imx",
    b"a:443",    b"/" + b"p" * 3000,
]  # fmt: skip


class Mutations:
    """Changes a good request: `head` with its request line and headers without the last empty line, and its `body`."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self._head = head
        self._body = body
        self._ways: list[Callable[[random.Random, bytes, bytes], bytes]] = [
            self._bytes, self._line, self._header, self._length, self._chunked, self._part, self._field, self._charset,
            self._cut, self._double, self._pipeline, self._boundary, self._swap, self._huge_part,
        ]  # fmt: skip

    def request(self, seed: int) -> bytes:
        """The request with this number: changed in one way, or in several."""
        chance = random.Random(seed)
        data = chance.choice(self._ways)(chance, self._head, self._body)
        while chance.random() < 0.3:
            head, _, body = data.partition(b"\r\n\r\n")
            data = chance.choice(self._ways)(chance, head, body)
        return data

    def _whole(self, head: bytes, body: bytes) -> bytes:
        """With the length that the body has now."""
        return re.sub(rb"Content-Length: [^\r]*", b"Content-Length: %d" % len(body), head, count=1) + b"\r\n\r\n" + body

    def _bytes(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        data = bytearray(head + b"\r\n\r\n" + body)
        for _ in range(chance.randrange(1, 8)):
            # Mostly where there is structure.
            at = chance.randrange(min(len(data), chance.choice([200, 900, len(data)])) or 1)
            match chance.randrange(3):
                case 0:
                    data[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    del data[at : at + chance.randrange(1, 20)]
                case _:
                    data[at:at] = chance.choice(ODD)
        return bytes(data)

    def _line(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        line, _, rest = head.partition(b"\r\n")
        words = [*line.split(b" "), b"", b"", b""][:3]
        words[chance.randrange(3)] = chance.choice([*METHODS, *TARGETS, b"HTTP/1.0", b"HTTP/2", b"HTTP/9.9", *ODD])
        return self._whole(b" ".join(words) + b"\r\n" + rest, body)

    def _header(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        lines = head.split(b"\r\n")
        for _ in range(chance.randrange(1, 4)):
            match chance.randrange(3):
                case 0 if len(lines) > 1:
                    del lines[chance.randrange(1, len(lines))]
                case 1 if len(lines) > 1:
                    lines.append(chance.choice(lines[1:]))
                case _:
                    lines.insert(chance.randrange(1, len(lines) + 1), chance.choice(HEADERS))
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def _length(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        number = chance.choice([*NUMBERS, b"%d" % (len(body) + chance.choice([-1, 1, -100, 100]))])
        return re.sub(rb"Content-Length: [^\r]*", b"Content-Length: " + number, head) + b"\r\n\r\n" + body

    def _chunked(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        head = re.sub(rb"Content-Length: [^\r]*", b"Transfer-Encoding: chunked", head)
        data, bad = b"", chance.randrange(8)
        while body:
            size = chance.choice([1, 7, 1000, 20_000])
            piece, body = body[:size], body[size:]
            length = b"%x" % len(piece)
            if bad == 0 and chance.random() < 0.2:
                length = chance.choice([*NUMBERS, b"g", length + b";x=" + b"y" * 100, b" " + length])
            data += length + b"\r\n" + piece + (b"\n" if bad == 1 else b"\r\n")
        last = {
            2: b"",
            3: b"0\r\nX-Trailer: 1\r\n\r\n",
            4: b"0\r\n" + b"t: 1\r\n" * 2000 + b"\r\n",
            5: b"00000\r\n\r\n",
        }
        return head + b"\r\n\r\n" + data + last.get(bad, b"0\r\n\r\n")

    def _part(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        pieces = body.split(b"--b\r\n")
        match chance.randrange(4):
            case 0:
                del pieces[chance.randrange(len(pieces))]
            case 1:
                pieces += [chance.choice(pieces)] * chance.choice([1, 20])
            case 2:
                chance.shuffle(pieces)
            case _:
                pieces.append(b'Content-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (b"n" * 5000, b"v"))
        return self._whole(head, b"--b\r\n".join(pieces))

    def _field(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        where = [
            b'name="machine"',
            b'name="cstversion"',
            b'name="csf"',
            b'filename="spl.bin"',
            b"form-data",
            b"\r\n\r\n",
            b"3.4.1",
            b"[Header]",
        ]
        return self._whole(head, body.replace(chance.choice(where), chance.choice([*ODD, *NUMBERS, b"x" * 70_000]), 1))

    def _charset(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        charset = chance.choice(CHARSETS)
        if chance.random() < 0.5:
            head = head.replace(b"boundary=b", b"boundary=b; charset=" + charset)
            return self._whole(head, body)
        return self._whole(head, body.replace(b"text/plain", b"text/plain; charset=" + charset))

    def _cut(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        data = head + b"\r\n\r\n" + body
        return data[: chance.randrange(1, len(data) + 1)]

    def _double(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        data = self._whole(head, body)
        at = chance.randrange(len(data))
        return data[:at] + data[max(0, at - chance.randrange(1, 200)) :]

    def _pipeline(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        other = chance.choice([b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n", self._whole(head, body), chance.choice(ODD)])
        return self._whole(head, body) + other * chance.randrange(1, 5)

    def _boundary(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        value = chance.choice([*ODD, b"c", b"b b", b'"b"', b"B", b"b" * 100, b"b; boundary=c", b'"', b"=?utf-8?q?b?="])
        return self._whole(head.replace(b"boundary=b", b"boundary=" + value), body)

    def _swap(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        return self._whole(head, body).replace(
            b"\r\n", chance.choice([b"\n", b"\r", b"\r\r\n", b"\n\r"]), chance.choice([1, 5, -1])
        )

    def _huge_part(self, chance: random.Random, head: bytes, body: bytes) -> bytes:
        headers = b"".join(b"X-%d: %s\r\n" % (one, b"h" * 50) for one in range(chance.choice([10, 300])))
        return self._whole(head, body.replace(b"Content-Type: text/plain\r\n", headers, 1))
