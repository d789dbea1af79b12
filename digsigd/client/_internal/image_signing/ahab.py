"""Sign a file with AHAB containers: plan it, choose the keys, have each container signed, verify, and write it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from digsigd import ahab
from digsigd.ahab import AhabChip
from digsigd.client._internal.api import SigningClient
from digsigd.client._internal.errors import AhabVerificationFailed
from digsigd.client._internal.files import Replacement, mapped
from digsigd.client._internal.image_signing.ahab_keys import AhabChoice, AhabKeys, chosen_ahab_keys
from digsigd.client._internal.image_signing.ahab_plan import ahab_chip, check_ahab_plan, describe_container
from digsigd.client._internal.image_signing.key_names import KeyNames
from digsigd.client._internal.image_signing.sign import default_name, machine_of
from digsigd.client._internal.threads import in_thread
from digsigd.csf import ahab as csf
from digsigd.csf.ahab.asked import check_asked
from digsigd.image.ahab_model import AhabPlan, PlannedContainer
from digsigd.image.ahab_plan import plan_ahab
from digsigd.image.ahab_report import AhabReport, report_ahab
from digsigd.mapped import Mapped

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class SignedContainer:
    """A signed container of a file: `length` bytes at `offset`, with its signature block.

    `name` is what to show. `sha256` is the digest of the whole file as the host returned it: containers are signed one
    after the other, so only that of the last one is the digest of the result. The rest is as in `SignedPart`.
    """

    name: str
    offset: int
    length: int
    sha256: bytes
    request_id: str
    record: str = ""
    notes: tuple[str, ...] = ()


async def sign_ahab(
    client: SigningClient,
    path: Path,
    out: Path,
    *,
    soc: str | AhabChip,
    machine: str | None = None,
    cst_version: str | None = None,
    backend: str | None = None,
    names: KeyNames | None = None,
    srk: int = 1,
    sgk: bool = False,
    fuse_value: bytes | None = None,
    sw_version: int | None = None,
    fuse_version: int | None = None,
    name: str | None = None,
    on_part: Callable[[SignedContainer], None] | None = None,
) -> AhabReport:
    """Sign all OEM containers of the file `path`, verify it, and write it to `out`, which can be the same file.

    NXP's containers are left alone. Each of the others is signed with one request, in the order of the file, also if it
    is signed already. Each answer is checked: nothing but the container has changed, it says what was asked for and no
    more, and `soc` accepts it. The whole is verified at the end, written if a closed board would boot it, and the
    report is returned.

    `soc` is the boards' chip, such as "imx93". `srk` is the SRK, 1 to 4; with `sgk` it signs the certificate of an SGK,
    which signs the container. `fuse_value` are the 32 or 64 bytes in the boards' SRK fuses: other keys are refused.
    `sw_version` and `fuse_version` are those that all containers to sign must have; they are not changed. `names` are
    the names of table, SRK's certificate and SGK's certificate. The other arguments are those of `sign_image`;
    `on_part` is called with each signed container.

    Raises `ImageError` if it is not known for certain how to sign the file, or a size or hash in it is wrong;
    `AhabError` if the chip is not known or does not accept the keys; `AhabVerificationFailed` if an answer or the
    result fails verification; else what `sign_image` raises. After an error or a cancel `out` is unchanged, and no
    temporary file is left. Does not block the reactor: files are read, written and verified in its threads, but what
    is sent and received.
    """
    if srk not in range(1, 5):
        raise ValueError(f"srk is {srk}, expected 1 to 4")
    settings, reactor = client.settings, client.reactor
    chip = ahab_chip(soc)
    choice = AhabChoice(machine_of(settings, machine), cst_version, names, srk, sgk, fuse_value)
    sent_name = default_name(path) if name is None else name
    # The file as it is sent, and the answer. Each answer is sent with the next request.
    now, answer = Replacement(out), Replacement(out)
    try:
        await in_thread(reactor, now.begin, like=path)
        await in_thread(reactor, answer.begin)
        plan = await in_thread(reactor, _plan_file, now.new, chip)
        check_ahab_plan(plan, sw_version=sw_version, fuse_version=fuse_version)
        keys = await chosen_ahab_keys(client, plan, chip, choice)
        for one in plan.to_sign:
            description = describe_container(one, keys.names, srk=srk, artifact_name=sent_name)
            signed = await client.sign_file(
                machine=choice.machine,
                description=csf.write(description),
                artifact=now.new,
                artifact_name=sent_name,
                to=answer.new,
                cst_version=keys.cst_version,
                backend=backend or settings.backend or "ssl",
                soc_type=chip.name,
            )
            length, digest = await in_thread(reactor, _checked, now.new, answer.new, one, keys, chip, description)
            now, answer = answer, now
            if on_part is not None:
                on_part(
                    SignedContainer(
                        one.name, one.offset, length, digest, signed.request_id, signed.record, signed.notes
                    )
                )
        report = await in_thread(reactor, _report_file, now.new, chip, keys)
        if not report.holds:
            raise AhabVerificationFailed(
                f"the signed file fails verification, so {out} was not written: {first_failure(report)}",
                hint="see the report of the error for all checks, and check that the signing host can be trusted",
                report=report,
            )
        await in_thread(reactor, now.flush)
        # Not in a thread: after a cancel `out` is unchanged, or it is complete and there is a result.
        now.commit()
    finally:
        now.discard()
        answer.discard()
    return report


def _plan_file(path: Path, chip: AhabChip) -> AhabPlan:
    with mapped(path) as data:
        return plan_ahab(data, chip)


def _checked(
    before: Path, after: Path, one: PlannedContainer, keys: AhabKeys, chip: AhabChip, description: csf.Description
) -> tuple[int, bytes]:
    """Verify the answer for a container; return the container's length, and the digest of the file."""
    with ExitStack() as stack:
        old, new = stack.enter_context(mapped(before)), stack.enter_context(mapped(after))
        try:
            verified = ahab.verify(
                new,
                one.offset,
                chip=chip,
                fuse_value=keys.fuse_value,
                srk_table=keys.srk_table,
                srk_index=description.srk.source_index,
                original=old,
            )
            check_asked(one.container, verified.container, description)
        except ahab.AhabError as error:
            raise AhabVerificationFailed(
                f"the host's answer for the {one.name} fails verification, so nothing was written: {error.summary()}",
                hint="check that the signing host can be trusted, and that no proxy alters its answers",
                report=_report(new, chip, keys),
            ) from None
        return verified.container.length, _sha256(new)


def _sha256(data: Mapped | bytes) -> bytes:
    digest = hashlib.sha256()
    for place in range(0, len(data), _CHUNK):
        digest.update(data[place : place + _CHUNK])
    return digest.digest()


def _report_file(path: Path, chip: AhabChip, keys: AhabKeys) -> AhabReport:
    with mapped(path) as data:
        return _report(data, chip, keys)


def _report(data: Mapped | bytes, chip: AhabChip, keys: AhabKeys) -> AhabReport:
    return report_ahab(data, plan_ahab(data, chip), fuse_value=keys.fuse_value, srk_table=keys.srk_table)


def first_failure(report: AhabReport) -> str:
    """Return the first check that fails, with its container."""
    checks = [(one.planned.name, check) for one in report.containers for check in one.checks]
    for part, check in (*checks, *(("the whole", check) for check in report.checks)):
        if check.holds is False:
            return f"{part}: {check.what}" + (f": {check.detail}" if check.detail else "")
    return "not all of it can be checked"
