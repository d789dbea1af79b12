"""CSF descriptions for the parts of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from digsigd import csf
from digsigd.client._internal.image_signing.key_names import KeyNames
from digsigd.csf import model
from digsigd.hab import Block, engines
from digsigd.image.chips import Chip
from digsigd.image.model import Signing


def describe(
    signing: Signing, names: KeyNames, *, srk: int, artifact_name: str, chip: Chip | None = None
) -> csf.Description:
    """Return the CSF description that signs one part of an image with SRK number `srk`, counted from 1.

    `chip` is None for any i.MX 8M. Modelled on NXP's examples: uboot-imx, doc/imx/habv4/csf_examples. Without a CSF key
    the SRK signs the image itself (fast authentication). More blocks than one command can have are split into several
    commands. Raises `NotConfirmedError` for a chip whose engine is not known for certain.
    """
    engine, version = ("CAAM", (4, 3)) if chip is None else (chip.engine, chip.csf_version)
    commands: list[csf.Command] = [
        model.Header(version=version, hash_algorithm="sha256", engine=engine, engine_configuration=()),
        model.InstallSrk(file=names.table, source_index=srk - 1),
    ]
    index = 0
    if names.srk_certificate is not None:
        commands.append(model.InstallNocak(file=names.srk_certificate))
    elif names.csf_certificate is not None:
        commands.append(model.InstallCsfk(file=names.csf_certificate))
    commands.append(model.AuthenticateCsf())
    commands += [model.Unlock(engine=name, features=features) for name, features in unlocks(signing, chip)]
    if names.srk_certificate is None and names.image_certificate is not None:
        index = 2
        commands.append(model.InstallKey(file=names.image_certificate, verification_index=0, target_index=index))
    for part in _commands(signing.blocks, chip):
        blocks = tuple(csf.Block(one.address, one.offset, one.length, artifact_name) for one in part)
        commands.append(model.AuthenticateData(blocks=blocks, verification_index=index))
    return csf.Description(tuple(commands))


def unlocks(signing: Signing, chip: Chip | None) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return what the CSF of this part leaves unlocked, as (engine, features) pairs."""
    if chip is None or chip.family == "i.MX 8M":
        return (("CAAM", ("MID",)),) if signing.unlock else ()
    return chip.unlocks if signing.ivt.boot_data else ()


def _commands(blocks: Sequence[Block], chip: Chip | None) -> Iterator[list[Block]]:
    """Yield the blocks in lists, as many for each command as the engine supports.

    HABv4 API Reference Manual, 5.6: DCP supports multiples of 64 bytes only, except in the last block of a command.
    """
    most = engines.MOST_BLOCKS[engines.CAAM] if chip is None else chip.block_max
    multiple = 1 if chip is None else chip.block_multiple
    part: list[Block] = []
    for block in blocks:
        part.append(block)
        if len(part) == most or block.length % multiple:
            yield part
            part = []
    if part:
        yield part
