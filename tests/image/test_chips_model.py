"""What a chip is where its row in the table says nothing."""

from __future__ import annotations

from dataclasses import MISSING, fields

from digsigd.image.chips import CHIPS, Chip


def test_what_a_row_leaves_out_is_that_of_most_chips() -> None:
    """HAB 4.2's CSFs, fuses that can be written several times, and nothing that only some chips have."""
    required = [one.name for one in fields(Chip) if one.default is MISSING]
    chip = Chip(**{name: getattr(CHIPS[0], name) for name in required})
    assert chip.csf_version == (4, 2)
    assert chip.written_once is False
    assert (chip.short, chip.flash, chip.ocram, chip.u_boot_cell, chip.ecdsa_cell, chip.second_core_cell) == (None,) * 6
    assert (chip.names, chip.spl, chip.dcd, chip.notes) == ((),) * 4
