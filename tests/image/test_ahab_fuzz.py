"""Damaged files with AHAB containers are planned and judged, or refused; what was changed where it counts fails."""

from __future__ import annotations

import struct
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digsigd.ahab import ContainerImage, build_container
from digsigd.image.ahab_detect import is_ahab
from digsigd.image.ahab_plan import plan_ahab
from digsigd.image.ahab_report import report_ahab
from digsigd.image.errors import ImageError
from digsigd.image.model import Buffer
from digsigd.image.regions import PADDING
from tests.helpers.ahab_samples import all_signed, flash, signed

FILES = [all_signed(flash("good-93-sd-spl")), signed("good-qxp-spl-sgk"), signed("good-v2-p384")]
# Headers, entries and blocks of all containers.
PLACES = [*range(0x900), *range(0x4000, 0x4600)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_files_are_planned_or_refused(data: st.DataObject) -> None:
    """Whatever is changed, cut, or put in."""
    whole = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.sampled_from(PLACES))
        whole[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    del whole[data.draw(st.integers(1, len(whole))) :]
    is_ahab(bytes(whole))
    with suppress(ImageError):
        plan = plan_ahab(bytes(whole))
        report = report_ahab(bytes(whole), plan)
        assert sum(one.length for one in report.spans) == len(whole)
        assert sum(one.length for one in plan.regions) == len(whole)
        assert not (report.holds and plan.faults)
        with suppress(ImageError):
            plan.check_signable(0x230)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(FILES[0]) - 1), st.integers(0, 7))
def test_no_file_holds_with_another_bit(place: int, bit: int) -> None:
    """Of a file that holds: but for what is between containers and images, where nothing is that boards read."""
    whole = bytearray(FILES[0])
    whole[place] ^= 1 << bit
    report = report_ahab(bytes(whole), plan_ahab(bytes(whole)))
    region = next(one for one in plan_ahab(FILES[0]).regions if one.offset <= place < one.end)
    assert not report.holds or region.name == PADDING, hex(place)


class Counted:
    """A file that counts the bytes that are read of it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.read = 0

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, part: slice, /) -> bytes:
        found = self._data[part]
        self.read += len(found)
        return found


def test_no_file_makes_much_work() -> None:
    """As many containers as are looked at, each with as many images as it can have, all of them all of the file."""
    size = 1 << 20
    image = struct.pack("<IIQQII", 0, size, 0, 0, 3, 0).ljust(0x80, b"\0")
    one = build_container([ContainerImage(b"", 0)] * 32)
    header = one[:0x10] + image * 32 + one[-0x10:]
    for data in (header.ljust(0x1400, b"\0") * 64, header.ljust(size, b"\xff"), header + b"\x87" * size):
        counted = Counted(data.ljust(size, b"\0"))
        report_ahab(counted, plan_ahab(_typed(counted)))
        assert counted.read < 8 * size


def _typed(counted: Counted) -> Buffer:
    return counted
