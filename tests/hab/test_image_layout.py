"""IVTs, the blocks over them, and the room for the CSF."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from digsigd import hab
from digsigd.hab.ivt import looks_like_ivt
from digsigd.testing import TrialImage

IMAGE = TrialImage.of_size(0x4000)
WHOLE = hab.Block(IMAGE.address, 0, IMAGE.signed_size)
LOAD = 0x40480000


class Counting:
    """A file to read from, which counts how often and how much it is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads = 0
        self.bytes_read = 0

    @property
    def files(self) -> list[hab.File]:
        return [hab.File(len(self.data), self)]

    def __call__(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length > 0
        self.reads += 1
        data = self.data[offset : offset + length]
        self.bytes_read += len(data)
        return data


def layout(data: bytes, *commands: Sequence[hab.Block], require_ivt: bool = True) -> hab.Layout:
    return hab.check_layout(commands, [hab.File.of(data)], require_ivt=require_ivt)


def refused(check: str, data: bytes, *commands: Sequence[hab.Block], require_ivt: bool = True) -> str:
    """What the error of this check says."""
    with pytest.raises(hab.VerificationError) as error:
        layout(data, *commands, require_ivt=require_ivt)
    assert error.value.check == check
    return str(error.value)


def ivt(
    self_address: int, csf: int, *, boot_data: int = 0, dcd: int = 0, version: int = 0x41, entry: int = LOAD
) -> bytes:
    return bytes([0xD1, 0, 0x20, version]) + struct.pack("<7I", entry, 0, dcd, boot_data, self_address, csf, 0)


def with_boot_data(data: bytes, start: int, length: int) -> bytes:
    """The trial image, or one like it, whose boot data say this."""
    return data[:0x20] + struct.pack("<2I", start, length) + data[0x28:]


def kernel(size: int, room: int, **changes: int) -> tuple[bytes, hab.Block]:
    """An image of `size` bytes with its IVT behind, then `room` for the CSF, and the block over image and IVT."""
    table = ivt(**{"self_address": LOAD + size, "csf": LOAD + size + 0x20, **changes})
    return bytes(size) + table + bytes(room), hab.Block(LOAD, 0, size + 0x20)


def test_an_ivt_at_the_start_of_a_block_is_found() -> None:
    """An SPL's, with the addresses it holds."""
    (found,) = hab.find_ivts([WHOLE], [hab.File.of(IMAGE.data)])
    assert found == hab.Ivt(0, 0x7E1000, 0, 0x7E0FE0, 0x7E0FC0, 0x7E0FC0 + 0x2000)
    assert found.offset_of(found.csf) == 0x2000
    assert found.offset_of(0x7E0000) == -0xFC0


def test_an_ivt_at_the_end_of_a_block_is_found() -> None:
    """A kernel's or a FIT's."""
    data, block = kernel(0x1000, 0x2000)
    (found,) = hab.find_ivts([block], [hab.File.of(data)])
    assert found.offset == 0x1000


@pytest.mark.parametrize("version", [0x40, 0x41, 0x43, 0x4F])
def test_every_version_of_hab4_is_an_ivt(version: int) -> None:
    """Tools write different ones."""
    assert hab.Ivt.parse(ivt(0x100, 0x200, version=version)).self_address == 0x100


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "32 bytes, not 0"),
        (ivt(0, 0)[:31], "32 bytes, not 31"),
        (ivt(0, 0) + b"\0", "32 bytes, not 33"),
        (ivt(0, 0, version=0x30), "not d1 00 20 30"),
        (b"\xd4" + ivt(0, 0)[1:], "not d4 00 20 41"),
        (b"\xd1\0\x21" + ivt(0, 0)[3:], "not d1 00 21 41"),
    ],
)
def test_bytes_that_are_no_ivt_are_refused(data: bytes, says: str) -> None:
    """The error gives the bytes, and where they stand."""
    with pytest.raises(hab.FormatError, match=says) as error:
        hab.Ivt.parse(data, 0x400)
    assert error.value.offset == 0x400
    assert not looks_like_ivt(data) or len(data) > 32


def test_a_good_layout_gives_the_room_for_the_csf() -> None:
    """The trial image's, whose boot data counts the CSF in."""
    found = layout(IMAGE.data, [WHOLE])
    assert found.room == 0x2000
    hab.check_room(found, 0x2000)
    with pytest.raises(hab.VerificationError, match="has 0x2001 bytes, but the reserved room is only 0x2000") as error:
        hab.check_room(found, 0x2001)
    assert error.value.check == "room"


@pytest.mark.parametrize("commands", [[[WHOLE, WHOLE]], [[]], [[WHOLE], []]])
def test_blocks_of_a_command_stand_apart(commands: list[list[hab.Block]]) -> None:
    """None twice, and never none at all."""
    refused("blocks", IMAGE.data, *commands)


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (hab.Block(0x7E0FC0, 0, 0), "0x7e0fc0 0x0 0x0 is empty"),
        (hab.Block(0x7E0FC0, 0, 0x4001), "ends at 0x4001, but the file at 0x4000"),
        (hab.Block(0x7E0FC0, 0x4000, 1), "ends at 0x4001, but the file at 0x4000"),
        (hab.Block(0x7E0FC0, 0xFFFFFFFF, 0xFFFFFFFF), "but the file at 0x4000"),
        (hab.Block(0xFFFFF000, 0, 0x1001), "beyond the 32-bit address space"),
    ],
)
def test_blocks_lie_inside_the_file(block: hab.Block, says: str) -> None:
    """And inside the address space; the error gives the numbers."""
    assert says in refused("blocks", IMAGE.data, [block])
    assert says in refused("blocks", IMAGE.data, [WHOLE], [block])


def test_overlapping_blocks_are_refused() -> None:
    """In memory, whatever their order."""
    first = hab.Block(0x7E0FC0, 0, 0x1000)
    in_memory = hab.Block(0x7E0FC0 + 0xFFF, 0x1800, 0x10)
    for blocks in ([first, in_memory], [in_memory, first]):
        assert "overlap in memory" in refused("blocks", IMAGE.data, blocks)


def test_the_same_bytes_may_be_signed_for_two_places() -> None:
    """A FIT's parts may be, for what U-Boot does with them; what the ROM loads has one place."""
    data, block = kernel(0x1000, 0x2000)
    assert layout(data, [block, hab.Block(0x910000, 0xFFF, 0x10)]).ivts
    first = hab.Block(0x7E0FC0, 0, 0x1000)
    assert "0x910000 0xfff 0x10 is outside" in refused("blocks", IMAGE.data, [first, hab.Block(0x910000, 0xFFF, 0x10)])


def test_neighbours_do_not_overlap() -> None:
    """One ends where the next begins."""
    blocks = [hab.Block(IMAGE.address + at, at, 0x400) for at in range(0, 0x2000, 0x400)]
    assert layout(IMAGE.data, blocks[::-1]).room == 0x2000


def test_blocks_of_several_commands_may_overlap() -> None:
    """Two signatures over the same bytes harm nobody."""
    assert layout(IMAGE.data, [WHOLE], [WHOLE]).room == 0x2000


def test_blocks_that_miss_the_ivt_are_refused() -> None:
    """The error says where there is one."""
    past = hab.Block(IMAGE.address + 0x40, 0x40, 0x1000)
    assert "there is one at 0x0 in the file, for the address 0x7e0fc0" in refused("ivt", IMAGE.data, [past])
    at_1k = bytes(0x400) + IMAGE.data
    assert "there is one at 0x400" in refused("ivt", at_1k, [hab.Block(0x900000, 0x800, 0x100)])


def test_a_block_that_cuts_the_ivt_is_refused() -> None:
    """The ROM reads all of its 32 bytes."""
    refused("ivt", IMAGE.data, [hab.Block(IMAGE.address, 0, 0x1F)])
    refused("ivt", IMAGE.data, [hab.Block(IMAGE.address + 1, 1, 0x1000)])


def test_a_file_without_an_ivt_is_refused_unless_none_is_asked_for() -> None:
    """An operator may say that a machine's images have none."""
    data = bytes(0x3000)
    assert refused("ivt", data, [WHOLE]).endswith("nor U-Boot accepts the image")
    assert layout(data, [WHOLE], require_ivt=False) == hab.Layout((), None)
    hab.check_room(hab.Layout((), None), 1 << 20)


def test_a_wrong_address_is_refused_with_both() -> None:
    """The block's and the IVT's own: the mistake people make most."""
    says = refused("ivt", IMAGE.data, [hab.Block(0x920000, 0, 0x2000)])
    assert "the IVT at 0x0 in the file is for address 0x7e0fc0" in says
    assert "0x920000 0x0 0x2000 puts it at 0x920000" in says
    data, block = kernel(0x1000, 0x2000)
    says = refused("ivt", data, [hab.Block(LOAD + 0x1000, block.offset, block.length)])
    assert "for address 0x40481000" in says
    assert "puts it at 0x40482000" in says


def test_a_csf_inside_a_block_is_refused() -> None:
    """A signature cannot cover itself."""
    blocks = [WHOLE, hab.Block(IMAGE.address + 0x2000, 0x2000, 0x40)]
    assert "a block covers 0x2000, where the IVT at 0x0 has its CSF" in refused("room", IMAGE.data, blocks)
    refused("room", IMAGE.data, [hab.Block(IMAGE.address, 0, 0x4000)])


def test_a_csf_before_the_file_or_nowhere_is_refused() -> None:
    """An IVT that points there is wrong."""
    data, block = kernel(0x1000, 0x2000, csf=LOAD - 4)
    assert "before the start of the file" in refused("room", data, [block])
    data, block = kernel(0x1000, 0x2000, csf=0)
    assert "the IVT at 0x1000 does not point at a CSF" in refused("ivt", data, [block])


def test_at_most_twice_the_file_is_signed() -> None:
    """Each block costs time, and no image has its parts signed more often."""
    half = hab.Block(IMAGE.address, 0, 0x2000)
    assert layout(IMAGE.data, *[[half]] * 4).room == 0x2000
    says = refused("blocks", IMAGE.data, *[[half]] * 4, [hab.Block(IMAGE.address, 0, 1)])
    assert "all blocks together have 32769 bytes, more than 2 times the 16384 of the file" in says


def test_a_file_that_ends_early_is_told_so() -> None:
    """As when it is cut after its size was taken."""
    data, block = kernel(0x1000, 0x2000, dcd=LOAD + 0x100, boot_data=LOAD + 0x200)
    for cut in range(0x240):

        def read(offset: int, length: int, cut: int = cut) -> bytes:
            kept = data[:cut] if offset < 0x1000 else data
            return kept[offset : offset + length]

        with suppress(hab.HabError):
            hab.check_layout([[block]], [hab.File(len(data), read)])
        if 0x100 < cut < 0x104:
            with pytest.raises(hab.FormatError, match="the file ends early") as error:
                hab.check_layout([[block]], [hab.File(len(data), read)])
            assert error.value.offset == cut


def test_an_ivt_inside_a_block_is_found_where_none_is_at_an_end() -> None:
    """At the places where boot devices have it, if it fits the block; barebox's blocks are like that."""
    data = bytes(0x400) + with_boot_data(IMAGE.data, IMAGE.address - 0x400, 0x4400)
    block = hab.Block(IMAGE.address - 0x400, 0, 0x400 + IMAGE.signed_size)
    (found,) = hab.find_ivts([block], [hab.File.of(data)])
    assert found.offset == 0x400
    assert layout(data, [block]).room == 0x2000
    assert "puts it at 0x7e0fc4" in refused("ivt", data, [hab.Block(block.address + 4, 0, block.length)])
    assert not hab.find_ivts([hab.Block(block.address, 0, 0x41F)], [hab.File.of(data)])
    assert not hab.find_ivts([hab.Block(IMAGE.address - 0x3FF, 1, 0x2000)], [hab.File.of(bytes(0x401) + IMAGE.data)])


def test_no_ivt_is_looked_for_inside_where_one_is_at_an_end() -> None:
    """U-Boot's FIT with its FDT covers the IVT and the CSF of the FIT."""
    inner, block = kernel(0x1000, 0x2000)
    data = inner + ivt(LOAD + len(inner), LOAD + len(inner) + 0x20)
    outer = hab.Block(LOAD, 0, len(data))
    assert [one.offset for one in hab.find_ivts([outer], [hab.File.of(data)])] == [len(inner)]
    assert [one.offset for one in hab.find_ivts([block], [hab.File.of(data)])] == [0x1000]
    assert layout(data, [outer]).room is None


def test_the_room_ends_at_the_file_at_the_next_block_or_at_the_boot_data() -> None:
    """Whichever comes first."""
    data, block = kernel(0x1000, 0x2000)
    assert layout(data, [block]).room == 0x2000
    assert layout(data, [block, hab.Block(0x900000, 0x1820, 0x40)]).room == 0x800
    assert layout(IMAGE.data + bytes(0x1000), [WHOLE]).room == 0x2000
    assert layout(with_boot_data(IMAGE.data, IMAGE.address, 0x2800), [WHOLE]).room == 0x800


def test_a_csf_at_the_end_of_the_file_has_any_room() -> None:
    """It will be appended."""
    data, block = kernel(0x1000, 0)
    assert layout(data, [block]).room is None


def test_of_several_ivts_the_largest_room_counts() -> None:
    """Which CSF is signed, nothing tells; one that is bounded by nothing takes any blob."""
    large, first = kernel(0x1000, 0x2000)
    small, block = kernel(0x1000, 0x100, self_address=0x50001000, csf=0x50001020, entry=0x50000000)
    both = [[first], [hab.Block(0x50000000, len(large), block.length)]]
    found = layout(large + small, *both)
    assert [one.offset for one in found.ivts] == [0x1000, len(large) + 0x1000]
    assert found.room == 0x2000
    assert layout(large + small[:-0x100], *both).room is None


def test_each_of_several_ivts_must_be_right() -> None:
    """A good one makes up for no other."""
    data, block = kernel(0x1000, 0x2000, csf=0)
    second = hab.Block(LOAD, len(IMAGE.data), block.length)
    assert "the IVT at 0x5000 does not point at a CSF" in refused("ivt", IMAGE.data + data, [WHOLE], [second])


def test_blocks_are_digested_in_pieces() -> None:
    """In the order given, whatever the size of a piece."""
    blocks = [hab.Block(0, 0x1000, 0x234), hab.Block(0, 0, 0x1000), hab.Block(0, 0x3FFF, 1)]
    data = b"".join(IMAGE.data[block.offset : block.end] for block in blocks)
    for chunk in (1, 0x100, 1 << 20):
        file = Counting(IMAGE.data)
        assert hab.digest_blocks("sha256", blocks, file.files, chunk) == hashlib.sha256(data).digest()
        assert file.bytes_read == len(data)
    assert hab.digest_blocks("sha512", blocks, [hab.File.of(IMAGE.data)]) == hashlib.sha512(data).digest()


def test_a_file_that_ends_inside_a_block_has_no_digest() -> None:
    """As when it is cut while it is read."""
    with pytest.raises(hab.FormatError, match="ends inside the block 0x10 0x3ff0 0x20"):
        hab.digest_blocks("sha256", [hab.Block(0x10, 0x3FF0, 0x20)], [hab.File.of(IMAGE.data)])


word = st.one_of(st.integers(0, 0x4100), st.integers(0, (1 << 32) - 1), st.sampled_from([LOAD, IMAGE.address]))
any_block = st.builds(hab.Block, word, word, word)


@settings(deadline=None)
@given(
    head=st.binary(max_size=64),
    words=st.lists(word, min_size=7, max_size=7),
    tail=st.binary(max_size=64),
    commands=st.lists(st.lists(any_block, max_size=4), max_size=4),
    require_ivt=st.booleans(),
)
@example(head=b"", words=[0] * 7, tail=b"", commands=[], require_ivt=True)
def test_any_file_and_blocks_raise_nothing_but_habs_errors(
    head: bytes, words: list[int], tail: bytes, commands: list[list[hab.Block]], require_ivt: bool
) -> None:
    """And little is read to tell."""
    data = head + b"\xd1\0\x20\x41" + struct.pack("<7I", *words) + tail
    inside = hab.Block(words[4] % (1 << 31), len(head), 32)
    for tried in (commands, [*commands, [inside]], [[inside]]):
        file = Counting(data)
        with suppress(hab.HabError):
            hab.check_room(hab.check_layout(tried, file.files, require_ivt=require_ivt), 0x1000)
        blocks = sum(len(command) for command in tried)
        assert file.reads <= 9 * blocks + 40
        assert file.bytes_read <= 32 * file.reads


def test_many_blocks_take_few_reads() -> None:
    """Each is read at its start and its end, and a few places besides; there is no search through the file."""
    size = 64 << 10
    blocks = [hab.Block(0x1000000 + at, at, 64) for at in range(0, size, 64)]
    file = Counting(bytes(size))
    with pytest.raises(hab.VerificationError, match="no block covers an IVT"):
        hab.check_layout([blocks], file.files)
    assert file.reads <= 2 * len(blocks) + 40
