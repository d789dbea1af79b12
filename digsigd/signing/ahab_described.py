"""Check that cst has signed what the description asked for."""

from __future__ import annotations

from digsigd import ahab
from digsigd.ahab.model import CHECK_ALL, FAST_BOOT_MASK
from digsigd.csf.ahab import Description
from digsigd.csf.ahab.asked import check_asked
from digsigd.signing.ahab_containers import refused


def check_described(
    before: ahab.Container, made: ahab.Container, description: Description, certificate: bytes | None, line: int
) -> None:
    """Check the flags, the certificate and the rest of the signature block of a container that cst has signed.

    `before` is the client's, `certificate` the member that [Install Certificate] names, None for one on a token, `line`
    that of [Authenticate Data]. Raises `VerificationError`, or `Refused` for flags of the client's own file that the
    description does not have: cst keeps those for fast boot.
    """
    if kept := before.flags & made.flags & ~_asked(description) & _optional(made.version):
        raise refused(
            line,
            f"the flags of the container at {before.offset:#x} have the bits {kept:#x} (Check All Signatures, Fast"
            " Boot), which the description does not ask for",
            hint="write them below [Install SRK], or make the container without them",
        )
    check_asked(before, made, description, certificate)


def _optional(version: int) -> int:
    return CHECK_ALL | FAST_BOOT_MASK if version == 2 else 0


def _asked(description: Description) -> int:
    srk = description.srk
    return (CHECK_ALL if srk.check_all_signatures == "All" else 0) | (srk.fast_boot or 0) << 16
