"""CSF descriptions for the parts of an image."""

from __future__ import annotations

from digsigd import csf
from digsigd.client.names import KeyNames
from digsigd.csf import model
from digsigd.image.plan import Signing

# HABv4 API Reference Manual, 5.6 (CAAM), HAB_CAAM_BLOCK_MAX: HAB refuses a command with more.
MOST_BLOCKS = 8


def describe(signing: Signing, names: KeyNames, *, srk: int, artifact_name: str) -> csf.Description:
    """The description that signs one part of an image with SRK number `srk`, from 1.

    As NXP's examples have it: uboot-imx, doc/imx/habv4/csf_examples/mx8m. Without a CSF key the SRK signs itself (fast
    authentication). More blocks than CAAM takes at once are signed by several commands.
    """
    commands: list[csf.Command] = [
        model.Header(version=(4, 3), hash_algorithm="sha256", engine="CAAM", engine_configuration=()),
        model.InstallSrk(file=names.table, source_index=srk - 1),
    ]
    index = 0
    if names.srk_certificate is not None:
        commands.append(model.InstallNocak(file=names.srk_certificate))
    elif names.csf_certificate is not None:
        commands.append(model.InstallCsfk(file=names.csf_certificate))
    commands.append(model.AuthenticateCsf())
    if signing.unlock:
        commands.append(model.Unlock(engine="CAAM", features=("MID",)))
    if names.srk_certificate is None and names.image_certificate is not None:
        index = 2
        commands.append(model.InstallKey(file=names.image_certificate, verification_index=0, target_index=index))
    blocks = tuple(csf.Block(one.address, one.offset, one.length, artifact_name) for one in signing.blocks)
    for start in range(0, len(blocks), MOST_BLOCKS):
        part = blocks[start : start + MOST_BLOCKS]
        commands.append(model.AuthenticateData(blocks=part, verification_index=index))
    return csf.Description(tuple(commands))
