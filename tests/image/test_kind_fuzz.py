"""Whatever is in the headers of these kinds, they are planned or refused: nothing but ImageError."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from digsigd.image.chips import CHIPS, Chip
from digsigd.image.errors import ImageError
from digsigd.image.plan import plan
from tests.helpers import golden_kinds as kinds

SEEDS = (
    kinds.imximage(size=0x3000),
    kinds.imximage(size=0x3000, boot_from="qspi"),
    kinds.qspi(kinds.imximage(size=0x3000, boot_from="qspi")),
    kinds.nand_spl(),
    kinds.u_boot_ivt_img(size=0x2000),
    kinds.with_spl(second=kinds.u_boot_ivt_img(size=0x2000)),
    kinds.barebox(size=0x2000),
    kinds.barebox_8m(pbl=0x2000),
    kinds.barebox_8m(pbl=0x2000, flexspi="mm"),
    kinds.rt(size=0x2000, piece="dcd"),
    kinds.rt(0x30000000, size=0x2000, front="fcb400", piece="xmcd"),
    kinds.rt(0x20200000, at=0x400, app_at=0x1000, front="none", size=0x2000),
    kinds.zimage(0x3000),
    kinds.kernel_uimage(0x3000),
    kinds.with_ivt(kinds.zimage(0x3000), 0x12000000),
)
PLACES = st.sampled_from([0, 0x20, 0x2C, 0x400, 0x420, 0x1000, 0x1020, 0x1040, 0x3000, 0x8400, 0x9000, 0x11000])
WORDS = st.one_of(
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from(
        [0, 1, 4, 0x1000, 0xFFFFFFFF, 0x402000D1, 0x877FF400, 0x877FF420, 0x87803C00, 0x87800000, 0x60001000]
    ),
)
EDITS = st.lists(st.tuples(PLACES, st.integers(0, 11), WORDS), min_size=1, max_size=4)


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(SEEDS),
    EDITS,
    st.none() | st.integers(0, 0x16000),
    st.none() | st.sampled_from(CHIPS),
    st.none() | st.sampled_from([0, 0x910000, 0x907000, 0xFFFFFFFC]),
    st.none() | st.sampled_from([0, 0x12000000, 0xFFFFF000]),
)
def test_damaged_headers_are_planned_or_refused(
    seed: bytes,
    edits: list[tuple[int, int, int]],
    end: int | None,
    chip: Chip | None,
    sdp: int | None,
    load: int | None,
) -> None:
    """What is planned fits the file; what is refused is told in words."""
    data = bytearray(seed)
    for place, word, value in edits:
        if place + 4 * word + 4 <= len(data):
            struct.pack_into("<I", data, place + 4 * word, value)
    said = None
    try:
        found = plan(bytes(data[:end]), chip=chip, sdp=sdp, load_address=load)
    except ImageError as error:
        said = error
    if said is not None:
        assert said.hint
        assert f"{said.what} {said.hint}".isprintable()
        return
    place = 0
    for region in found.regions:
        assert (region.offset, region.length > 0) == (place, True)
        place = region.end
    assert place == found.size
    for part in found.signings:
        assert 0x400 <= part.csf_room <= found.size - part.csf_offset
