"""As much of DER as the model needs, written and read in the plainest way."""

from __future__ import annotations


def der(tag: int, *parts: bytes) -> bytes:
    """One element."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    digits = len(content).to_bytes(4, "big").lstrip(b"\0")
    return bytes([tag, 0x80 + len(digits)]) + digits + content


def oid(hexadecimal: str) -> bytes:
    """An object identifier."""
    return der(6, bytes.fromhex(hexadecimal))


def number(value: int) -> bytes:
    """A positive INTEGER."""
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def first(data: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Tag, content, the whole element, and what is behind it. Raises `ValueError`."""
    if len(data) < 2:
        raise ValueError("no element")
    size, start = data[1], 2
    if size >= 0x80:
        start += size - 0x80
        size = int.from_bytes(data[2:start], "big")
    if start + size > len(data):
        raise ValueError("cut")
    return data[0], data[start : start + size], data[: start + size], data[start + size :]


def every(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """All elements in `data`: tag, content, whole."""
    found = []
    while data:
        tag, content, whole, data = first(data)
        found.append((tag, content, whole))
    return found
