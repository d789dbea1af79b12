"""Digests from the stream, and a file that is no longer what it brought."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digsigd.hab import Block, FormatError
from digsigd.signing.sums import CHUNK, ChangedError, CheckedFile, StreamSum, Sums, copied, digest_blocks

DATA = os.urandom(3 * CHUNK + 1000)
SIZES = st.sampled_from([0, 1, 31, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, len(DATA) - 1, len(DATA)])


def sums_of(data: bytes, piece: int = 70_000) -> Sums:
    stream = StreamSum()
    for start in range(0, len(data), piece):
        stream.update(data[start : start + piece])
    return stream.end()


@pytest.fixture
def checked(tmp_path: Path) -> CheckedFile:
    (tmp_path / "file").write_bytes(DATA)
    return CheckedFile(os.open(tmp_path / "file", os.O_RDONLY), sums_of(DATA))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3 * CHUNK), SIZES)
def test_the_digest_is_that_of_the_stream_in_whatever_pieces(piece: int, size: int) -> None:
    """Also of an empty one, and of one that ends with a chunk."""
    sums = sums_of(DATA[:size], piece)
    assert (sums.size, sums.sha256) == (size, hashlib.sha256(DATA[:size]).hexdigest())


def test_what_is_read_is_the_file(checked: CheckedFile) -> None:
    """Across chunks, to the end and behind it."""
    for offset in (0, 1, CHUNK - 1, CHUNK, 2 * CHUNK - 7, len(DATA) - 3, len(DATA), len(DATA) + 9):
        for length in (0, 1, 32, CHUNK, CHUNK + 1, len(DATA)):
            assert checked.read(offset, length) == DATA[offset : offset + length]


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "sha512"])
@pytest.mark.parametrize("first", [0, 5, CHUNK])
def test_digests_of_blocks_are_those_of_their_bytes(checked: CheckedFile, algorithm: str, first: int) -> None:
    """Whether the first begins with the file or not."""
    for length in (1, CHUNK - 1, CHUNK, CHUNK + 4, 2 * CHUNK):
        blocks = [Block(0x1000, first, length), Block(0x9000, 77, 1000)]
        expected = hashlib.new(algorithm, DATA[first : first + length] + DATA[77:1077])
        assert digest_blocks(algorithm, blocks, [checked]) == expected.digest()


def test_a_block_behind_the_end_is_an_error(checked: CheckedFile) -> None:
    """As of any file."""
    for offset in (0, 5):
        with pytest.raises(FormatError, match="ends inside"):
            digest_blocks("sha256", [Block(0, offset, len(DATA) + 1)], [checked])


@pytest.mark.parametrize("place", [0, CHUNK - 1, CHUNK, 2 * CHUNK, len(DATA) - 1])
def test_a_byte_that_changed_is_noticed(tmp_path: Path, place: int) -> None:
    """Wherever it is, by who reads its chunk; the other chunks are still good."""
    changed = bytearray(DATA)
    changed[place] ^= 1
    (tmp_path / "file").write_bytes(changed)
    file = CheckedFile(os.open(tmp_path / "file", os.O_RDONLY), sums_of(DATA))
    for number in range(4):
        if number == place // CHUNK:
            with pytest.raises(ChangedError):
                file.read(number * CHUNK + 9, 32)
        else:
            assert file.read(number * CHUNK + 9, 32) == DATA[number * CHUNK + 9 :][:32]


def test_a_file_that_was_cut_is_noticed(tmp_path: Path) -> None:
    """Where it is not long enough any more."""
    (tmp_path / "file").write_bytes(DATA[: CHUNK + 5])
    file = CheckedFile(os.open(tmp_path / "file", os.O_RDONLY), sums_of(DATA))
    assert file.read(0, 32) == DATA[:32]
    for offset in (CHUNK, 2 * CHUNK):
        with pytest.raises(ChangedError):
            file.read(offset, 1)


def test_a_copy_has_the_digests_of_what_was_copied(tmp_path: Path) -> None:
    """No more is copied than was said, and less is an error."""
    target = tmp_path / "copy"
    start = DATA[: CHUNK + 9]
    assert copied(io.BytesIO(DATA), target.open("wb"), len(start)).sha256 == hashlib.sha256(start).hexdigest()
    assert target.read_bytes() == start
    with pytest.raises(ChangedError):
        copied(io.BytesIO(DATA), target.open("wb"), len(DATA) + 1)
