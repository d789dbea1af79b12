"""The bounds of a key tarball are where they are said to be, and not one off."""

from __future__ import annotations

import gzip
import tarfile
from itertools import pairwise

import pytest

from digsigd.errors import BadTarball
from digsigd.keys import read_tarball
from digsigd.keys.tar import CutTarball
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
        with pytest.raises(BadTarball, match=f"decompresses to more than {len(tar) - 1} bytes"):
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
        with pytest.raises(BadTarball, match="name that is not a plain relative path"):
            read(packed(file(name + "n"), form=form))


def test_an_extended_header_of_64_kib_is_read_and_not_one_more() -> None:
    """What tools write is far below."""

    def comment(size: int) -> bytes:
        start = f"{size} comment="
        return raw(tarfile.XHDTYPE, start.encode() + b"c" * (size - len(start) - 1) + b"\n")

    member = raw(tarfile.REGTYPE, b"x") + END
    assert read(comment(64 << 10) + member) == {"pax": b"x"}
    with pytest.raises(BadTarball, match="too large or repeated"):
        read(comment((64 << 10) + 1) + member)


@pytest.mark.parametrize("end", [1024, 512])
def test_one_block_of_zeros_ends_a_tarball(end: int) -> None:
    """POSIX has two, some tools write one; with less it was cut."""
    member = raw(tarfile.REGTYPE, b"x")
    assert read(member + bytes(end)) == {"pax": b"x"}
    with pytest.raises(BadTarball, match="ends in the middle"):
        read(member + bytes(511))


NOTHING = raw(tarfile.REGTYPE, b"x") + END
# What an extended header may say, and what it may not.
RECORDS: dict[str, tuple[bytes, str]] = {
    "a link's target": (b"14 linkpath=a\n", "extended header 'linkpath'"),
    "another character set": (b"18 hdrcharset=BIN\n", "extended header 'hdrcharset'"),
    "no line end": (b"12 path=twox", "damaged extended header"),
    "no equals sign": (b"8 pathx\n", "damaged extended header"),
    "a length of eight digits": (b"00000018 path=two\n", "damaged extended header"),
    "a length of nothing": (b" path=two\n", "damaged extended header"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_of_extended_headers_that_change_or_are_damaged_are_refused(name: str) -> None:
    """What they do to the content would have to be followed."""
    record, words = RECORDS[name]
    with pytest.raises(BadTarball, match=words):
        read(raw(tarfile.XHDTYPE, record) + NOTHING)


@pytest.mark.parametrize("record", [b"5 a=\n", b"0000017 path=pax\n", b"12 path=pax\n5 a=\n"])
def test_records_of_extended_headers_are_read_by_their_lengths(record: bytes) -> None:
    """Of one digit to seven, one behind the other."""
    assert read(raw(tarfile.XHDTYPE, record) + NOTHING) == {"pax": b"x"}


def test_a_long_link_of_gnu_tar_is_passed_over() -> None:
    """It is of a link; what is refused is the link itself."""
    assert read(raw(tarfile.GNUTYPE_LONGLINK, b"target\0") + NOTHING) == {"pax": b"x"}


def test_zeros_are_a_tarball_without_a_file_and_less_than_a_block_is_none() -> None:
    """An archive of nothing is one block or two of zeros."""
    for size, words in (
        (511, "is not a tarball, or is damaged"),
        (512, "contains no files"),
        (1024, "contains no files"),
    ):
        with pytest.raises(BadTarball, match=words):
            read(bytes(size))


def test_where_a_tarball_ends_is_told() -> None:
    """In the middle of a member, or behind one."""
    with pytest.raises(CutTarball, match=r"ends in the middle of 'pax'$"):
        read(raw(tarfile.REGTYPE, bytes(512))[:-1])
    with pytest.raises(CutTarball, match=r"ends in the middle$"):
        read(raw(tarfile.REGTYPE, bytes(512)))


@pytest.mark.parametrize("length", [79, 80])
def test_a_name_of_80_characters_is_shown_whole(length: int) -> None:
    """In messages."""
    with pytest.raises(BadTarball, match="n" * (length - 2) + "//'"):
        read(packed(file("n" * (length - 2) + "//"), form=tarfile.GNU_FORMAT))


def test_a_longer_name_is_cut_in_messages() -> None:
    """To 80 characters."""
    with pytest.raises(BadTarball, match=f"'{'n' * 77}\\.\\.\\.'"):
        read(packed(file("n" * 79 + "//"), form=tarfile.GNU_FORMAT))


def test_a_byte_or_none_was_cut_off_and_two_others_are_no_tarball() -> None:
    """What was cut may be asked for again; what is something else may not."""
    for data in (b"", b"\x1f", b"x", b"\x1f\x8b"):
        with pytest.raises(CutTarball):
            read(data)
    with pytest.raises(BadTarball, match="not a tarball") as caught:
        read(b"xx")
    assert not isinstance(caught.value, CutTarball)


@pytest.mark.parametrize("missing", [1, 4, 8])
def test_a_gzip_file_without_its_end_is_refused(missing: int) -> None:
    """Its checksum stands there: the content may be any."""
    with pytest.raises(CutTarball, match="ends in the middle"):
        read(packed(file("a"))[:-missing])


@pytest.mark.parametrize("name", [".", "./", "/", "keys", "keys/", "./keys/"])
def test_folders_of_any_form_are_passed_over(name: str) -> None:
    """With and without a slash; the tarball's own is one of them."""
    path = f"path={name}\n".encode()
    header = raw(tarfile.XHDTYPE, f"{len(path) + 3} ".encode() + path if len(path) > 6 else b"")
    assert read(header + raw(tarfile.DIRTYPE, b"") + NOTHING) == {"pax": b"x"}
    assert read(packed(special(tarfile.DIRTYPE, name), file("a"))) == {"a": b"x"}


def test_a_contiguous_file_is_a_regular_one() -> None:
    """POSIX: typeflag 7 is a reserved kind of regular file."""
    assert read(raw(tarfile.CONTTYPE, b"x") + END) == {"pax": b"x"}


@pytest.mark.parametrize("name", ["keys/./a", "keys//a", "keys/.", "a/../b"])
def test_a_name_with_more_than_one_form_is_refused(name: str) -> None:
    """Of two members, nobody could tell that they are one."""
    with pytest.raises(BadTarball, match="name that is not a plain relative path"):
        read(packed(file(name)))
