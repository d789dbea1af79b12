"""The bounds of a key tarball are where they are said to be, and not one off."""

from __future__ import annotations

import gzip
import tarfile
from itertools import pairwise

import pytest

from digsigd.errors import BadTarball
from digsigd.keys import read_tarball
from tests.keys.test_tarball import END, ROOM, file, packed, raw, read, special


def of(count: int) -> bytes:
    return gzip.compress(b"".join(tarfile.TarInfo(f"f{number}").tobuf() for number in range(count)) + END, 1)


@pytest.mark.parametrize("most", [1, 2, 100])
def test_as_many_members_as_are_allowed_are_read_and_not_one_more(most: int) -> None:
    """The bound is the number that its name says."""
    assert len(read(of(most), max_members=most)) == most
    with pytest.raises(BadTarball, match=f"more than {most} members"):
        read(of(most + 1), max_members=most)


def test_folders_count_as_members() -> None:
    """They cost as much as files do."""
    tarball = packed(special(tarfile.DIRTYPE, "crts"), file("crts/a"))
    assert read(tarball, max_members=2) == {"crts/a": b"x"}
    with pytest.raises(BadTarball, match="more than 1 members"):
        read(tarball, max_members=1)


def test_4096_members_are_read_where_nothing_else_is_said() -> None:
    """More than a thousand machines' keys in one folder."""
    assert len(read_tarball(of(4096), max_bytes=4 * ROOM).members) == 4096
    with pytest.raises(BadTarball, match="more than 4096 members"):
        read_tarball(of(4097), max_bytes=4 * ROOM)


@pytest.mark.parametrize("zipped", [False, True])
def test_as_many_bytes_as_are_allowed_are_read_and_not_one_more(zipped: bool) -> None:
    """Of what it unpacks to, whether it was packed or not, in one gzip member or two."""
    tar = gzip.decompress(packed(file("a", b"content")))
    for data in [gzip.compress(tar), gzip.compress(tar[:600]) + gzip.compress(tar[600:])] if zipped else [tar]:
        assert read_tarball(data, max_bytes=len(tar)).members == {"a": b"content"}
        with pytest.raises(BadTarball, match=f"unpacks to more than {len(tar) - 1} bytes"):
            read_tarball(data, max_bytes=len(tar) - 1)


def test_64_gzip_members_are_read_and_not_one_more() -> None:
    """Each is looked at with all that follows it."""
    tar = gzip.decompress(packed(file("a", b"content")))

    def cut(parts: int) -> bytes:
        ends = [*range(parts), len(tar)]
        return b"".join(gzip.compress(tar[start:end]) for start, end in pairwise(ends))

    assert read(cut(64)) == {"a": b"content"}
    with pytest.raises(BadTarball, match="after its end"):
        read(cut(65))


def test_a_name_of_255_characters_is_read_and_not_one_more() -> None:
    """As long as a file's name may be."""
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = "k/" + "n" * 253
        assert list(read(packed(file(name), form=form))) == [name]
        with pytest.raises(BadTarball, match="leads elsewhere or is no plain name"):
            read(packed(file(name + "n"), form=form))


def test_an_extended_header_of_64_kib_is_read_and_not_one_more() -> None:
    """What tools write is far below."""

    def comment(size: int) -> bytes:
        start = f"{size} comment="
        return raw(tarfile.XHDTYPE, start.encode() + b"c" * (size - len(start) - 1) + b"\n")

    member = raw(tarfile.REGTYPE, b"x") + END
    assert read(comment(64 << 10) + member) == {"pax": b"x"}
    with pytest.raises(BadTarball, match="too large or too many"):
        read(comment((64 << 10) + 1) + member)


@pytest.mark.parametrize("end", [1024, 512])
def test_one_block_of_zeros_ends_a_tarball(end: int) -> None:
    """POSIX has two, some tools write one; with less it was cut."""
    member = raw(tarfile.REGTYPE, b"x")
    assert read(member + bytes(end)) == {"pax": b"x"}
    with pytest.raises(BadTarball, match="ends in the middle"):
        read(member + bytes(511))
