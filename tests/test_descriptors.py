"""File descriptors of the process, in processes that have few."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from digsigd.descriptors import raise_limit, room, wanted
from digsigd.settings import CstSettings, ListenSettings, Settings
soft, hard = map(int, sys.argv[1:3])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
cst = CstSettings(max_running=int(sys.argv[3]) if sys.argv[3:] else 2)
settings = Settings(listen=ListenSettings(max_connections=500), cst=cst)
raise_limit(settings)
print(wanted(settings), resource.getrlimit(resource.RLIMIT_NOFILE), *room(settings), sep="\\n")
"""


def told(*numbers: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, numbers)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_soft_limit_is_raised_to_what_is_needed() -> None:
    """No further, and nothing is said."""
    need, limits, connections, warning = told(64, 4096)
    assert limits == f"({need}, 4096)"
    assert (connections, warning) == ("500", "")
    assert int(need) > 500 + 128


def test_a_soft_limit_that_is_enough_stays() -> None:
    """It is the operator's."""
    assert told(3000, 4096)[1:] == ["(3000, 4096)", "500", ""]


@pytest.mark.parametrize(("hard", "connections"), [(900, 404), (600, 122), (300, 47), (100, 8), (20, 4)])
def test_a_hard_limit_that_is_too_low_makes_fewer_connections(hard: int, connections: int) -> None:
    """The rest stays for uploads and cst, and the start says so; below 256 in so many words."""
    *_, possible, warning = told(16, hard)
    assert possible == str(connections)
    for words in (f"{hard} file descriptors", f"accepts {connections} connections", "LimitNOFILE"):
        assert words in warning
    assert ("fewer than 256" in warning) == (hard < 256)


def test_many_processors_do_not_take_all_descriptors() -> None:
    """Only as many runs of cst as there are connections need any."""
    assert told(16, 300, 64)[2] == "17"
