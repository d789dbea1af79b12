"""Checks of a file with AHAB containers before an upload, and the descriptions that sign its containers."""

from __future__ import annotations

from digsigd import ahab
from digsigd.ahab import AhabChip
from digsigd.client._internal.image_signing.key_names import KeyNames
from digsigd.csf import ahab as csf
from digsigd.image.ahab_model import AhabPlan, PlannedContainer
from digsigd.image.errors import ImageError

# Containers of version 0 are described with 1.0, those of version 2 with 2.0: cst 4.0.1.
_VERSIONS = {0: (1, 0), 2: (2, 0)}
# The SGK may sign containers, and nothing else.
_PERMISSIONS = 0x1


def ahab_chip(soc: str | AhabChip) -> AhabChip:
    """Return the chip with this name. Raises `AhabError` if there is none."""
    return ahab.chip(soc) if isinstance(soc, str) else soc


def check_ahab_plan(plan: AhabPlan, *, sw_version: int | None = None, fuse_version: int | None = None) -> None:
    """Check that the file can be signed, and that its containers have these versions. Raises `ImageError`."""
    plan.check_signable()
    for one in plan.to_sign:
        for what, option, wanted, found in (
            ("software version", "--sw-version", sw_version, one.container.sw_version),
            ("fuse version", "--fuse-version", fuse_version, one.container.fuse_version),
        ):
            if wanted is not None and wanted != found:
                raise ImageError(
                    f"the {one.name} has the {what} {found}, not {wanted}",
                    hint=f"imx-mkimage writes it when the image is built ({option.replace('-version', '_version')[1:]}"
                    " VERSION); signing does not change it",
                )


def describe_container(one: PlannedContainer, names: KeyNames, *, srk: int, artifact_name: str) -> csf.Description:
    """Return the description that signs one container with SRK number `srk`, counted from 1.

    With the certificate of an SGK, the SRK signs that, and the SGK the container. Modelled on NXP's examples:
    uboot-imx, doc/imx/ahab/csf_examples. Nothing is revoked. The flags for fast boot and for checking all signatures
    are those that the container has since it was built (imx-mkimage, -cntr_flags): cst writes them as it is told.
    """
    commands: list[csf.Command] = [
        csf.Header(version=_VERSIONS[one.container.version]),
        csf.InstallSrk(
            file=names.table,
            source=names.srk_certificate or "",
            source_index=srk - 1,
            source_set="OEM",
            revocations=0,
            check_all_signatures="All" if one.container.check_all else None,
            fast_boot=one.container.fast_boot or None,
        ),
    ]
    if names.sgk_certificate is not None:
        commands.append(csf.InstallCertificate(file=names.sgk_certificate, permissions=_PERMISSIONS))
    commands.append(csf.AuthenticateData(file=artifact_name, offsets=(one.offset, one.block)))
    return csf.Description(tuple(commands))
