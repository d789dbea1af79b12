"""Digests of a container's images, taken from the stream that brings their file, where the description came first."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from digsigd import ahab, csf
from digsigd.ahab import digests
from digsigd.csf.ahab import is_ahab, parse
from digsigd.csf.members import base_of
from digsigd.signing import block_sums
from digsigd.signing.block_sums import LONGEST, MOST, Extents

# The header of a container, an image's entry, and how much of the signature block shows that it is one, in bytes.
_HEADER, _ENTRY, _BLOCK = 0x10, 0x80, 0x10
# The most images that a container has: `digsigd.ahab` reads no more.
_MOST_IMAGES = 32


def expected(description: bytes, name: str) -> Sequence[Extents | ContainerSum]:
    """Return what to hash of the artifact called `name` while it arrives: blocks of HAB, or images of AHAB.

    Raises nothing: what is wrong with a description is told later.
    """
    if len(description) > LONGEST or not is_ahab(description):
        return block_sums.expected(description, name)
    try:
        data = parse(description).data
    except csf.CsfError:
        return []
    places = dict.fromkeys(one.container_offset for one in data if base_of(one.file) == name)
    return [ContainerSum(place) for place in list(places)[:MOST]]


@dataclass(slots=True)
class _Part:
    """An image: its place in the file, the name of its hash, and the running hash."""

    offset: int
    length: int
    name: str
    running: digests.Running = field(repr=False)


class ContainerSum:
    """The running digests of the images of the container at `offset` of a file.

    Its header says where the images are, as soon as it has arrived. Images in front of that, and those that overlap
    others, are left out: no byte is hashed twice.
    """

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._head = bytearray()
        self._known = False
        self._rest: deque[_Part] = deque()
        self._done: list[_Part] = []

    def update(self, offset: int, data: memoryview) -> None:
        """Take bytes of the file, which are at `offset`, behind those that were taken before."""
        end = offset + len(data)
        if not self._known:
            data = self._collect(offset, data)
            offset = end - len(data)
        while self._rest:
            part = self._rest[0]
            low, high = max(part.offset, offset), min(part.offset + part.length, end)
            if low < high:
                part.running.update(data[low - offset : high - offset])
            if part.offset + part.length > end:
                break
            self._done.append(self._rest.popleft())

    def _collect(self, offset: int, data: memoryview) -> memoryview:
        """Take what is of the container's header, and return what is behind that."""
        while not self._known:
            wanted = self._wanted()
            low = max(0, self._offset + len(self._head) - offset)
            piece = data[low : low + wanted - len(self._head)]
            if not piece:
                return data[len(data) :]
            self._head += piece
            if len(self._head) == self._wanted():
                self._known = True
                self._read_header()
        return data[self._offset + len(self._head) - offset :]

    def digests(self) -> dict[tuple[str, int, int], bytes]:
        """Return the digests of the images that have arrived whole, by the hash's name, file offset and length."""
        return {(one.name, one.offset, one.length): one.running.digest() for one in self._done}

    def _wanted(self) -> int:
        """Return how many bytes of the container are needed next, from its header on."""
        if len(self._head) < _HEADER:
            return _HEADER
        return _HEADER + _ENTRY * min(self._head[11], _MOST_IMAGES) + _BLOCK

    def _read_header(self) -> None:
        try:
            container = ahab.read_header(bytes(self._head))
        except ahab.FormatError:
            return
        reached = self._offset + len(self._head)
        for image in sorted(container.images, key=lambda one: one.offset):
            start = self._offset + image.offset
            if image.size and start >= reached:
                try:
                    self._rest.append(_Part(start, image.size, image.hash_name, digests.new(image.hash_name)))
                except ValueError:
                    continue
                reached = start + image.size
