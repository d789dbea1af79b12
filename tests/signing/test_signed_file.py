"""A file with patches: what is read of it is what was proven, and nothing else reaches it."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from digsigd.errors import DigsigError, VerificationFailed
from digsigd.signing.signed_file import Original, Patch, SignedFile, patched, sums_of
from digsigd.signing.sums import CHUNK, ChangedError, CheckedFile, StreamSum, Sums
from digsigd.signing.workdir import Workdir
from tests.helpers.descriptors import open_descriptors

SIZE = 3 * CHUNK + 1000
PATCHES = (Patch(100, b"first"), Patch(CHUNK - 3, b"across"), Patch(SIZE - 4, b"last"))


def streamed(data: bytes) -> Sums:
    stream = StreamSum()
    stream.update(data)
    return stream.end()


@pytest.fixture
def data() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(data)
    return path


def with_patches(data: bytes) -> bytes:
    whole = bytearray(data)
    for one in PATCHES:
        whole[one.offset : one.end] = one.data
    return bytes(whole)


def times_open(file: Path) -> int:
    return sum(one.endswith(f" {file}") for one in open_descriptors())


def signed(file: Path, data: bytes) -> SignedFile:
    descriptor = os.open(file, os.O_RDONLY)
    return SignedFile(descriptor, sums_of(CheckedFile(descriptor, streamed(data)), PATCHES), PATCHES)


def test_it_is_the_file_with_its_patches(file: Path, data: bytes) -> None:
    """In whatever parts it is read; its digest is that of the whole."""
    answer, whole = signed(file, data), with_patches(data)
    assert (answer.size, answer.sha256) == (SIZE, sha256(whole).hexdigest())
    assert b"".join(answer.read(place, 777) for place in range(0, SIZE, 777)) == whole
    assert answer.read(SIZE - 2, 100) == whole[-2:]
    assert answer.read(SIZE, 100) == b""
    answer.close()
    answer.close()


def test_a_patch_is_put_over_each_part_that_it_touches() -> None:
    """At its ends, inside of it, and nowhere else."""
    data, one = bytes(range(40)), Patch(10, b"ABCDEFGHIJ")
    for begin in range(40):
        for end in range(begin, 41):
            whole = data[:10] + one.data + data[20:]
            assert patched(data[begin:end], begin, [one]) == whole[begin:end]


def test_slices_of_the_original_are_read_and_compared(file: Path, data: bytes) -> None:
    """As `digsigd.ahab` reads a file: with and without patches, beyond the end too."""
    with file.open("rb") as opened:
        checked = CheckedFile(opened.fileno(), streamed(data))
        for view, whole in ((Original(checked), data), (Original(checked, PATCHES), with_patches(data))):
            assert len(view) == SIZE
            for part in (slice(0, 10), slice(CHUNK - 5, CHUNK + 5), slice(SIZE - 5, SIZE + 5), slice(SIZE, None)):
                assert view[part] == whole[part]
            assert view[slice(20, 10)] == b""


@pytest.mark.parametrize("place", [0, 200, CHUNK + 7, SIZE - 10])
def test_a_file_that_changes_is_not_sent(file: Path, data: bytes, place: int) -> None:
    """Neither before it is proven nor after: the piece with the change is an error, those before are not."""
    answer = signed(file, data)
    with file.open("r+b") as opened:
        opened.seek(place)
        opened.write(bytes([data[place] ^ 1]))
        opened.flush()
        with pytest.raises(ChangedError):
            sums_of(CheckedFile(opened.fileno(), streamed(data)), PATCHES)
    bad = place // CHUNK * CHUNK
    assert answer.read(0, bad) == with_patches(data)[:bad]
    with pytest.raises(VerificationFailed, match="not what was sent"):
        answer.read(bad, CHUNK)


def test_a_file_that_shrinks_is_not_sent(file: Path, data: bytes) -> None:
    """It ends with an error, and not early."""
    answer = signed(file, data)
    os.truncate(file, SIZE - 1)
    with pytest.raises(VerificationFailed):
        answer.read(SIZE - 10, 10)


def test_a_closed_file_is_not_read(file: Path, data: bytes) -> None:
    """Its descriptor may be that of another file by now. It is closed when nobody has it any more, too."""
    answer = signed(file, data)
    assert times_open(file) == 1
    answer.close()
    assert times_open(file) == 0
    with pytest.raises(DigsigError, match="closed"):
        answer.read(0, 1)
    other = signed(file, data)
    assert times_open(file) == 1
    del other
    assert times_open(file) == 0


def test_a_file_that_is_taken_has_no_name_any_more(tmp_path: Path) -> None:
    """Its descriptor is all that leads to it, and the directory is removed as if it had never been there."""
    path = tmp_path / "work"
    path.mkdir()
    workdir = Workdir(path)
    with workdir.create("artifact") as made:
        made.write(b"content")
    workdir.write("other", b"")
    descriptor = workdir.take("artifact")
    assert [one.name for one in path.iterdir()] == ["other"]
    assert os.read(descriptor, 100) == b"content"
    with pytest.raises(FileNotFoundError):
        workdir.take("artifact")
    assert workdir.remove_known()
    assert os.pread(descriptor, 100, 0) == b"content"
    os.close(descriptor)
