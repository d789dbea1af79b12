"""Key tarballs, as they come from NXP's scripts and as somebody hostile would make them."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digsigd.errors import BadTarball
from digsigd.keys import read_tarball
from digsigd.testing import TrialPki

ROOM = 1 << 20


def read(data: bytes, **more: int) -> dict[str, bytes]:
    return read_tarball(data, max_bytes=ROOM, **more).members


def packed(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=form) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def file(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def special(kind: bytes, name: str = "keys/a", target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_is_read(form: int) -> None:
    """Old and new headers, long names among them, with folders between the files."""
    long = "crts/" + "n" * 90 + "_crt.pem"
    folder = special(tarfile.DIRTYPE, "crts")
    assert read(packed(folder, file(long, b"certificate"), form=form)) == {long: b"certificate"}


@pytest.mark.parametrize("encoding", ["pem", "der"])
def test_the_layout_of_nxps_scripts_is_read(encoding: str) -> None:
    """keys/ and crts/, in PEM or DER, with the hash of the tarball itself."""
    pki = TrialPki.make("p256", srks=1, encoding=encoding)  # type: ignore[arg-type]
    data = pki.tarball()
    tarball = read_tarball(data, max_bytes=ROOM)
    assert tarball.members == pki.files
    assert tarball.sha256 == hashlib.sha256(data).hexdigest()
    assert "PRIVATE" not in repr(tarball)


def test_names_with_a_dot_before_and_flat_ones_are_read(pki: TrialPki) -> None:
    """`tar czf keys.tar.gz .` writes ./ before each name; some have no folders at all."""
    assert read(pki.tarball(top="./")) == pki.files
    assert set(read(pki.tarball(flat=True))) == {name.rpartition("/")[2] for name in pki.files}


def test_a_tarball_that_was_unpacked_on_the_way_is_read(pki: TrialPki) -> None:
    """A server that says Content-Encoding: gzip for it makes clients unpack it."""
    assert read(gzip.decompress(pki.tarball())) == pki.files


def test_several_gzip_members_and_padding_are_read(pki: TrialPki) -> None:
    """As parallel compressors and tapes write them."""
    tar = gzip.decompress(pki.tarball())
    assert read(gzip.compress(tar[:700]) + gzip.compress(tar[700:]) + bytes(512)) == pki.files


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "up and out": (lambda: packed(file("../../etc/cron.d/x")), "not a plain relative path"),
    "up in the middle": (lambda: packed(file("keys/../../x")), "not a plain relative path"),
    "absolute": (lambda: packed(file("/etc/x")), "not a plain relative path"),
    "absolute folder": (lambda: packed(special(tarfile.DIRTYPE, "/etc"), file("a")), "not a plain relative path"),
    "backslashes": (lambda: packed(file("..\\..\\x")), "not a plain relative path"),
    "a line end": (lambda: packed(file("a\nb")), "not a plain relative path"),
    "too long a name": (lambda: packed(file("n/" * 200 + "x")), "not a plain relative path"),
    "a dot": (lambda: packed(file("./.")), "not a plain relative path"),
    "a symbolic link": (lambda: packed(special(tarfile.SYMTYPE, target="/etc/shadow")), "symbolic link"),
    "a link inside": (lambda: packed(file("keys/b"), special(tarfile.SYMTYPE, target="b")), "symbolic link"),
    "a hard link": (lambda: packed(special(tarfile.LNKTYPE, target="/etc/shadow")), "hard link"),
    "a character device": (lambda: packed(special(tarfile.CHRTYPE)), "device"),
    "a block device": (lambda: packed(special(tarfile.BLKTYPE)), "device"),
    "a FIFO": (lambda: packed(special(tarfile.FIFOTYPE)), "FIFO"),
    "an unknown kind": (lambda: packed(special(b"Z")), "something else|two members|no files|not a regular"),
    "duplicates": (lambda: packed(file("a", b"1"), file("a", b"2")), "two members"),
    "duplicates by another name": (lambda: packed(file("a", b"1"), file("./a", b"2")), "two members"),
    "nothing": (lambda: packed(), "contains no files"),
    "too much": (lambda: packed(file("a", bytes(ROOM))), "more than"),
    "many members": (lambda: packed(*(file(f"f{number}") for number in range(500))), "more than 100 members"),
    "no gzip": (lambda: b"this is no tarball", "not a tarball"),
    "html": (lambda: b"<html>not found</html>" * 100, "not a tarball"),
    "gzip of something else": (lambda: gzip.compress(b"hello" * 1000), "not a tarball"),
    "cut short": (lambda: packed(file("a", bytes(range(256)) * 100))[:-20], "ends in the middle|damaged"),
    "empty": (lambda: b"", "not a tarball|no files"),
    "something behind": (lambda: packed(file("a")) + b"more", "after its end"),
    "a damaged checksum": (lambda: packed(file("a"))[:-8] + bytes(8), "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tarballs_are_refused(name: str) -> None:
    """Each with a text that says what is wrong with it."""
    make, words = HOSTILE[name]
    with pytest.raises(BadTarball, match=words):
        read(make(), max_members=100)


def test_a_cut_tar_inside_a_whole_gzip_is_refused() -> None:
    """The member's size says that more must come."""
    tar = gzip.decompress(packed(file("a", bytes(5000))))
    with pytest.raises(BadTarball):
        read(gzip.compress(tar[:2000]))


def test_a_sparse_file_is_refused() -> None:
    """Its holes may be of any size."""
    info = tarfile.TarInfo("keys/a")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99999999999"}
    with pytest.raises(BadTarball):
        read(packed((info, b"1\n0\n1\n" + bytes(506))))


def test_a_bomb_is_cut_off_at_the_bound() -> None:
    """A tarball of 1 MB that would unpack to 1 GiB takes little more memory than the bound."""
    bomb = gzip.compress(bytes(1 << 20), 9)
    tracemalloc.start()
    try:
        with pytest.raises(BadTarball, match="more than"):
            read(bomb * 60)
        assert tracemalloc.get_traced_memory()[1] < 4 * ROOM
    finally:
        tracemalloc.stop()
    deep = gzip.compress(bytes(64 << 20), 9)
    with pytest.raises(BadTarball, match="more than"):
        read(deep)


def test_a_million_members_are_not_looked_at() -> None:
    """Reading ends at the bound of members, and before that at the bound of bytes."""
    header = tarfile.TarInfo("a").tobuf()
    million = gzip.compress(header * 1_000_000, 1)
    tracemalloc.start()
    try:
        with pytest.raises(BadTarball, match="more than"):
            read_tarball(million, max_bytes=16 << 20)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    names = b"".join(tarfile.TarInfo(f"f{number}").tobuf() for number in range(2000))
    with pytest.raises(BadTarball, match="more than 100 members"):
        read(gzip.compress(names), max_members=100)


def test_a_chain_of_extended_headers_is_refused() -> None:
    """Each would have tarfile call itself once more."""
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    with pytest.raises(BadTarball):
        read(gzip.compress(header.tobuf() * 1500 + tarfile.TarInfo("a").tobuf() + bytes(1024)))


def raw(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    """One header and its content, as a tool that checks nothing would write them."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(content) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


PAX = tarfile.XHDTYPE
FIRST = raw(tarfile.REGTYPE, b"first")
SECOND = tarfile.TarInfo("second").tobuf()
END = bytes(1024)
# tarfile reads each without a complaint: as the end of the archive, as other content, or for a very long time.
LAX: dict[str, tuple[bytes, str]] = {
    "a damaged second header": (FIRST + b"\x01" * 512 + FIRST + END, "damaged at byte 1024"),
    "a cut second header": (FIRST + SECOND[:300], "damaged at byte 1024"),
    "no end": (FIRST, "ends in the middle"),
    "members behind the end": (FIRST + END + SECOND + END, "after its end"),
    "an extended header and no member": (FIRST + raw(PAX, b"12 path=two\n") + END, "ends in the middle"),
    "another size": (raw(PAX, b"11 size=99\n") + FIRST + END, "extended header 'size'"),
    "a negative size": (raw(tarfile.REGTYPE, b"", size=-512) + END, "size of -512"),
    "a folder with content": (FIRST + raw(tarfile.DIRTYPE, b"x") + END, "size of 1"),
    "a name for all": (raw(tarfile.XGLTYPE, b"12 path=two\n") + FIRST + END, "extended header 'path'"),
    "a record beyond its header": (raw(PAX, b"99 path=two\n") + FIRST + END, "damaged extended"),
    "a record of no length": (raw(PAX, b"0 path=two\n") + FIRST + END, "damaged extended"),
    "digits without end": (raw(PAX, b"1" * 60_000) + FIRST + END, "damaged extended"),
    "a large extended header": (raw(PAX, bytes(70_000)) + FIRST + END, "header that is too large or repeated"),
    "two extended headers": (raw(PAX, b"12 path=two\n") * 2 + FIRST + END, "header that is too large or repeated"),
    "a sparse map": (raw(PAX, b"22 GNU.sparse.major=1\n") + FIRST + END, "GNU.sparse.major"),
    "an old sparse file": (FIRST + raw(tarfile.GNUTYPE_SPARSE, b"x") + END, "a sparse file"),
}


@pytest.mark.parametrize("name", LAX)
def test_what_tarfile_takes_is_refused(name: str) -> None:
    """What is lost without a word would be a key of somebody's."""
    tar, words = LAX[name]
    with pytest.raises(BadTarball, match=words):
        read(tar)


def test_extended_headers_of_real_tools_are_read() -> None:
    """`git archive` writes a global comment, GNU tar times, BSD tar attributes."""
    times = b"30 mtime=1700000000.123456789\n"
    tar = raw(tarfile.XGLTYPE, b"14 comment=ab\n") + raw(PAX, times + b"12 path=two\n") + FIRST + END
    assert read(tar) == {"two": b"first"}
    assert read(raw(tarfile.GNUTYPE_LONGNAME, b"./keys/three\0") + FIRST + END) == {"keys/three": b"first"}


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_gnu_tar_writes_is_read(form: str, tmp_path: Path) -> None:
    """The program that most tarballs come from."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / ("n" * 60 + ".pem")).write_bytes(b"key")
    (tmp_path / "keys" / "empty").write_bytes(b"")
    command = ["tar", "-C", str(tmp_path), f"--format={form}", "-czf", "-", "keys"]
    done = subprocess.run(command, check=True, capture_output=True)
    assert read(done.stdout) == {"keys/" + "n" * 60 + ".pem": b"key", "keys/empty": b""}


@given(st.binary(max_size=2000), st.booleans())
def test_arbitrary_bytes_raise_nothing_else(data: bytes, zipped: bool) -> None:
    """Whatever a store sends."""
    with suppress(BadTarball):
        read(gzip.compress(data) if zipped else data)


@given(st.data())
def test_a_damaged_tarball_raises_nothing_else(data: st.DataObject) -> None:
    """One byte of the tar changed: of a header it is noticed, of a content it is that content."""
    tar = bytearray(gzip.decompress(packed(file("keys/a", b"secret"), file("crts/b"))))
    position = data.draw(st.integers(0, 2048))
    tar[position] = data.draw(st.integers(0, 255))
    try:
        members = read(bytes(tar))
    except BadTarball:
        return
    # Nothing is lost, and nothing comes from elsewhere.
    assert len(members) == 2
    assert all(not name.startswith("/") and ".." not in name.split("/") for name in members)
