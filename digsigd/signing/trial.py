"""Trial requests: sign a trial image with each SRK of a machine, to find keys that cannot sign before a build does."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from digsigd import csf
from digsigd.csf import ahab, model
from digsigd.csf.members import Members, base_of
from digsigd.signing.ahab_trial import descriptions, image_for
from digsigd.signing.machine_keys import MachineKeys, NamedCertificate
from digsigd.signing.request import Artifact, SigningRequest
from digsigd.signing.workdir import Workdir
from digsigd.testing import TrialImage

_IMAGE = TrialImage.of_size(0x4000)
# The artifact's name in `Blocks` of a CSF description.
NAME = "trial.bin"


@dataclass(frozen=True, slots=True)
class Trial:
    """A CSF description that signs the trial image with SRK number `srk`, counted from 1.

    `remark` says what tells it from others with this SRK, to be put behind its number.
    """

    srk: int
    description: csf.Description | ahab.Description
    remark: str = ""

    @property
    def text(self) -> bytes:
        """The description as a text."""
        if isinstance(self.description, ahab.Description):
            return ahab.write(self.description)
        return csf.write(self.description)


def trials(
    facts: MachineKeys, members: Collection[str], *, soc: str | None = None, cst_version: str = ""
) -> Iterator[Trial]:
    """Yield the trials that the private keys among a tarball's `members` allow, in the order of the SRKs.

    For HAB, an SRK without the CA flag signs the image itself: fast authentication. An SRK whose keys are missing has
    no trial. For AHAB, there is a trial for each table, of those that the chip `soc` has, and one with an SGK.
    """
    names = Members(members)
    if facts.tables:
        yield from _of_hab(facts, names)
    of_ahab = descriptions(facts, lambda name: names.key_of(name) is not None, NAME, soc, cst_version)
    for srk, remark, description in of_ahab:
        yield Trial(srk, description, remark)


def _of_hab(facts: MachineKeys, names: Members) -> Iterator[Trial]:
    usable = [one for one in facts.certificates if names.key_of(one.name) is not None]
    for srk in range(1, len(facts.tables[0].table.records) + 1):
        record = facts.tables[0].table.records[srk - 1]
        if chosen := _keys([one for one in usable if one.srk == srk], ca=record.ca):
            head = (
                model.Header(version=(4, 3), hash_algorithm="sha256", engine="CAAM", engine_configuration=()),
                model.InstallSrk(file=facts.tables[0].name, source_index=srk - 1),
            )
            yield Trial(srk, csf.Description((*head, *chosen)))


def _keys(certificates: list[NamedCertificate], *, ca: bool) -> tuple[csf.Command, ...]:
    """Return the commands that install keys and sign; none if a key is missing. `ca` is the CA flag of the SRK."""
    block = csf.Block(_IMAGE.address, 0, _IMAGE.signed_size, NAME)

    def role(name: str) -> NamedCertificate | None:
        named = [one for one in certificates if not one.is_srk and base_of(one.name).upper().startswith(name)]
        return named[0] if named else None

    csf_key, image_key = role("CSF"), role("IMG")
    if csf_key is not None and image_key is not None:
        return (
            model.InstallCsfk(file=csf_key.name),
            model.AuthenticateCsf(),
            model.InstallKey(file=image_key.name, verification_index=0, target_index=2),
            model.AuthenticateData(blocks=(block,), verification_index=2),
        )
    srk = next((one for one in certificates if one.is_srk), None)
    if ca or srk is None:
        return ()
    return (
        model.InstallNocak(file=srk.name),
        model.AuthenticateCsf(),
        model.AuthenticateData(blocks=(block,), verification_index=0),
    )


def request_for(
    description: bytes,
    machine: str,
    cst_version: str,
    folder: Workdir,
    *,
    caller: str = "--check",
    name: str = "check",
    backend: str = "ssl",
) -> SigningRequest:
    """Write the trial image into `folder`, and return the request that signs it as `description` says. Blocks.

    The request's id begins with `name`.
    """
    data = image_for(description) if ahab.is_ahab(description) else _IMAGE.data
    folder.write(NAME, data)
    return SigningRequest(
        request_id=f"{name}-{secrets.token_hex(8)}",
        machine=machine,
        cst_version=cst_version,
        description=description,
        artifacts=(Artifact(folder.path / NAME, NAME, len(data)),),
        backend=backend,
        caller=caller,
    )
