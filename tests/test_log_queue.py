"""Log lines that wait for a reader, in a pipe that nobody reads for a while."""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.log_queue import QueuedStream

LINE = "x" * 999 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of 64 KiB; the stream owns its end to write."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 64 << 10)
    yield ends
    os.close(ends[0])


def read(end: int, lines: int) -> list[str]:
    data = b""
    while data.count(b"\n") < lines:
        data += os.read(end, 1 << 16)
    return data.decode().splitlines()


def test_a_reader_that_stalls_blocks_nobody_and_learns_what_it_missed(pipe: tuple[int, int]) -> None:
    """Lines beyond the queue are dropped; once there is room their number is written, then what comes later."""
    stream = QueuedStream(pipe[1], "utf-8", "{} dropped\n".format, max_waiting=100_000)
    for _ in range(1000):
        stream.write(LINE)
    # What fits into the pipe and the queue, give or take the line being written.
    said = read(pipe[0], 100)
    while not said[-1].endswith("dropped"):
        said += read(pipe[0], 1)
    kept = said.count(LINE.strip())
    assert 100 <= kept < 200
    assert said[-1] == f"{1000 - kept} dropped"
    stream.write("later\n")
    assert read(pipe[0], 1) == ["later"]
    stream.close()


def test_a_line_goes_straight_into_a_pipe_that_has_room(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without another thread, where the kernel can do that."""
    monkeypatch.setattr(QueuedStream, "_run", lambda _: None)
    stream = QueuedStream(pipe[1], "utf-8", str)
    stream.write("now\n")
    assert bool(select.select([pipe[0]], [], [], 0)[0]) == writes_without_waiting()
    os.close(pipe[1])


def test_what_does_not_fit_follows_in_order(pipe: tuple[int, int]) -> None:
    """The rest of a line that was cut, then the others."""
    stream = QueuedStream(pipe[1], "utf-8", str)
    for number in range(100):
        stream.write(f"{number} {LINE}")
    assert read(pipe[0], 100) == [f"{number} {LINE.strip()}" for number in range(100)]
    stream.close()


def writes_without_waiting() -> bool:
    ends = os.pipe()
    try:
        return os.pwritev(ends[1], [b"x"], -1, os.RWF_NOWAIT) == 1
    except OSError:
        return False
    finally:
        for end in ends:
            os.close(end)


def test_a_file_is_written_by_the_thread(tmp_path: Path) -> None:
    """Writing could wait for its disk."""
    path = tmp_path / "log"
    stream = QueuedStream(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "utf-8", str)
    for number in range(100):
        stream.write(f"{number}\n")
    stream.close()
    assert path.read_text().splitlines() == [str(number) for number in range(100)]


def test_closing_writes_what_waits(pipe: tuple[int, int]) -> None:
    """In order and whole; afterwards nothing more is taken."""
    stream = QueuedStream(pipe[1], "utf-8", str)
    for number in range(500):
        stream.write(f"{number}\n")
    stream.close()
    stream.close()
    assert read(pipe[0], 500) == [str(number) for number in range(500)]
    assert os.read(pipe[0], 1) == b""
    with pytest.raises(ValueError, match="closed"):
        stream.write("x\n")


def test_an_end_does_not_wait_for_a_reader_for_long(pipe: tuple[int, int]) -> None:
    """Lines that nobody reads are given up."""
    stream = QueuedStream(pipe[1], "utf-8", str)
    for _ in range(200):
        stream.write(LINE)
    stream.settle(0.01)
    stream.write("x\n")


def test_a_fork_goes_on_with_a_thread_of_its_own(pipe: tuple[int, int]) -> None:
    """A daemon forks into the background after the first lines."""
    stream = QueuedStream(pipe[1], "utf-8", str)
    stream.write("before\n")
    stream.settle()
    child = os.fork()
    if not child:
        stream.write("in the child\n")
        stream.settle()
        os._exit(0)
    os.waitpid(child, 0)
    assert read(pipe[0], 2) == ["before", "in the child"]
    stream.close()


def test_what_does_not_fit_the_encoding_is_the_writers_to_solve(pipe: tuple[int, int]) -> None:
    """As with other streams."""
    stream = QueuedStream(pipe[1], "ascii", str)
    with pytest.raises(UnicodeEncodeError):
        stream.write("ü\n")
    stream.close()


def test_a_descriptor_that_is_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    """A program that shares it may do that."""
    os.set_blocking(pipe[1], False)
    stream = QueuedStream(pipe[1], "utf-8", str)
    for _ in range(200):
        stream.write(LINE)
    assert read(pipe[0], 200) == [LINE.strip()] * 200
    stream.close()
