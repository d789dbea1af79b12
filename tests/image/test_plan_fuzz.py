"""Whatever is in a file, it is planned or refused: nothing but ImageError, with bounded work."""

from __future__ import annotations

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from digsigd.image.errors import ImageError
from digsigd.image.plan import plan
from tests.helpers import damage
from tests.helpers.work import CountedBytes, calls
from tests.image.test_plan_layouts import check

# Calls of functions that a plan and its checks take. The golden images take 500 to 4000.
MOST_CALLS = 400_000

WORDS = st.sampled_from([0, 1, 2, 3, 4, 9, 0x20, 0x40, 0x1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFE0, 0xFFFFFFFF])
CHANGES = st.one_of(
    st.binary(min_size=1, max_size=8),
    WORDS.map(lambda word: word.to_bytes(4, "little")),
    WORDS.map(lambda word: word.to_bytes(4, "big")),
    st.sampled_from([b"\xd1\x00\x20\x41", b"\xd0\x0d\xfe\xed", b"\xd4\x00\x20\x43", b"FCFB", b"ARM\x64"]),
)
EDITS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 0xFFF), CHANGES), min_size=1, max_size=3)


def planned_or_refused(data: bytes, load_address: int | None = None, configuration: str | None = None) -> None:
    """Bounded are the calls of functions, and the bytes that the plan looks at: each of them some times at most."""
    said = ""
    counted = CountedBytes(data)

    def judge() -> None:
        nonlocal said
        try:
            check(data, plan(counted, load_address=load_address, configuration=configuration))
        except ImageError as error:
            said = f"{error.what} {error.hint}"

    work = calls(judge)
    event("refused" if said else "planned")
    # Text of the file in an error cannot draw on a terminal.
    assert said.isprintable()
    assert work < MOST_CALLS
    assert counted.looked_at < 8 * len(data) + (1 << 20)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.integers(0, len(damage.seeds()) - 1), EDITS, st.none() | st.integers(0, 0x160000), st.booleans())
def test_damaged_images_are_planned_or_refused(
    number: int, edits: list[tuple[int, int, bytes]], end: int | None, addressed: bool
) -> None:
    """What is planned fits the file, and the signing host's own checks."""
    seed = damage.seeds()[number]
    address = seed.load_address if not addressed else (seed.load_address or 0x40480000)
    planned_or_refused(damage.damaged(seed, edits, end), address)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"", b"\xd1\x00\x20\x41", b"\xd0\x0d\xfe\xed", b"FCFB", bytes(0x38) + b"ARM\x64", bytes(0x400)]),
    st.binary(min_size=0x40, max_size=0x600),
    st.none() | st.integers(-1, 1 << 33),
    st.none() | st.text(max_size=5),
)
def test_any_bytes_are_planned_or_refused(
    start: bytes, rest: bytes, load_address: int | None, configuration: str | None
) -> None:
    """With a start that leads into each of the readers."""
    planned_or_refused(start + rest, load_address, configuration)


def test_the_seeds_are_good() -> None:
    """Without damage they are planned."""
    for seed in damage.seeds():
        check(seed.data, plan(seed.data, load_address=seed.load_address))


def test_padding_is_looked_at_a_few_times_at_most() -> None:
    """Bounded are the bytes that are copied or searched, and the calls, with 64 MiB of padding behind an image."""
    for seed in damage.seeds():
        if not seed.name.startswith("kernel"):
            padded = CountedBytes(seed.data.ljust(64 << 20, b"\xff"))
            work = calls(lambda padded=padded, seed=seed: plan(padded, load_address=seed.load_address))  # type: ignore[misc]
            assert work < MOST_CALLS
            assert padded.looked_at < 5 * len(padded)
