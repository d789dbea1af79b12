"""Sign a whole image: plan it, choose the keys, have each part signed, verify the result, and write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from digsigd import csf
from digsigd.client._internal.api import SigningClient
from digsigd.client._internal.errors import ClientSettingsError, VerificationFailed
from digsigd.client._internal.files import Replacement
from digsigd.client._internal.image_signing.checks import check_machine, check_plan, fast_auth_note
from digsigd.client._internal.image_signing.description import describe
from digsigd.client._internal.image_signing.edits import finish, insert, prepare
from digsigd.client._internal.image_signing.key_names import KeyNames, configured_names, key_names
from digsigd.client._internal.image_signing.verify import FitFdt, plan_file, planner, verify_file
from digsigd.client._internal.machine_keys import newest_cst
from digsigd.client._internal.settings import ClientSettings
from digsigd.client._internal.threads import in_thread
from digsigd.image.chips import Chip
from digsigd.image.model import Plan
from digsigd.image.report import Report
from digsigd.text import one_line


@dataclass(frozen=True, slots=True)
class SignedPart:
    """A signed part of an image: its CSF has `csf_length` bytes at `csf_offset` in the file.

    `name` is the name of the part, such as "SPL" or "FIT", `request_id` the ID of the request in the host's log,
    `record` that of its entry in the host's record, empty if it keeps none. `notes` are the host's remarks.
    """

    name: str
    csf_offset: int
    csf_length: int
    request_id: str
    record: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChoice:
    """The choice of keys as given by the caller; `chosen_keys` completes it. `srk` counts from 1."""

    machine: str
    cst_version: str | None
    names: KeyNames | None
    srk: int
    fast_auth: bool
    soc_given: bool
    fuse_value: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenKeys:
    """The keys and the cst that sign an image. `srk_table` is the machine's table, None if the host was not asked."""

    names: KeyNames
    cst_version: str
    srk_table: bytes | None


async def sign_image(
    client: SigningClient,
    path: Path,
    out: Path,
    *,
    machine: str | None = None,
    cst_version: str | None = None,
    backend: str | None = None,
    names: KeyNames | None = None,
    srk: int = 1,
    fast_auth: bool = False,
    fuse_value: bytes | None = None,
    soc: str | Chip | None = None,
    load_address: int | None = None,
    sdp: int | None = None,
    configuration: str | None = None,
    fit_fdt: FitFdt = "auto",
    name: str | None = None,
    on_part: Callable[[SignedPart], None] | None = None,
) -> Report:
    """Sign the image in the file `path`, verify it, and write it to `out`, which can be the same file.

    The host of `client` signs all parts that a board verifies. Only CSFs are added, and an IVT where one is missing.
    The result is verified as by `verify_image`, written if a closed board would boot it, and the report is returned.

    `machine`, `cst_version` and `backend` default to the client's settings, else to the newest cst of the host and
    "ssl". `names` are the names of the keys: by default those in the settings, else those that the host reports. `srk`
    is the SRK to sign with, 1 to 4; with `fast_auth` it signs the image itself, without CSF and IMG keys. With
    `fuse_value`, the 32 bytes in the boards' SRK fuses, other keys are refused. `sdp`, the address where a host writes
    the DCD, makes the file for serial download. `soc`, `load_address`, `configuration` and `fit_fdt` are those of
    `verify_image`. `name` is the name of the file for the host and its log. `on_part` is called with each signed part.

    Raises `ImageError` if it is not known for certain how to sign the image; `ChipError` if its chip does not support
    the keys; `ClientError` if the host does not sign it, or a file cannot be read or written; `ClientSettingsError` if
    the machine or the version of cst is not known; `VerificationFailed` if the signed image fails verification;
    `ValueError` if `srk` is not 1 to 4. After an error or a cancel `out` is unchanged, and no temporary file is left.
    Does not block the reactor: files are read, written and verified in its threads.
    """
    if srk not in range(1, 5):
        raise ValueError(f"srk is {srk}, expected 1 to 4")
    settings, reactor = client.settings, client.reactor
    choice = KeyChoice(
        machine=machine_of(settings, machine),
        cst_version=cst_version,
        names=names,
        srk=srk,
        fast_auth=fast_auth,
        soc_given=soc is not None,
        fuse_value=fuse_value,
    )
    asked = planner(soc=soc, load_address=load_address, sdp=sdp, configuration=configuration, fit_fdt=fit_fdt)
    sent_name = default_name(path) if name is None else name
    copy = Replacement(out)
    try:
        await in_thread(reactor, copy.begin, like=path)
        plan = await in_thread(reactor, plan_file, copy.new, asked)
        check_plan(plan)
        note = fast_auth_note(plan, soc) if fast_auth else ""
        keys = await chosen_keys(client, plan, choice)
        masked = await in_thread(reactor, prepare, copy.new, plan)
        for signing in plan.signings:
            description = describe(signing, keys.names, srk=srk, artifact_name=sent_name, chip=plan.chip)
            signed = await client.sign(
                machine=choice.machine,
                description=csf.write(description),
                artifact=copy.new,
                artifact_name=sent_name,
                cst_version=keys.cst_version,
                backend=backend or settings.backend or "ssl",
            )
            await in_thread(reactor, insert, copy.new, signing, signed.blob)
            if on_part is not None:
                on_part(
                    SignedPart(
                        signing.name,
                        signing.csf_offset,
                        len(signed.blob),
                        signed.request_id,
                        signed.record,
                        signed.notes,
                    )
                )
        await in_thread(reactor, finish, copy.new, plan, masked)
        report = await in_thread(reactor, verify_file, copy.new, asked, fuse_value=fuse_value, srk_table=keys.srk_table)
        if not report.holds:
            raise VerificationFailed(
                f"the signed image fails verification, so {out} was not written: {_first_failure(report)}",
                hint="see the report of the error for all checks, and check that the signing host can be trusted",
                report=report,
            )
        await in_thread(reactor, copy.flush)
        # Not in a thread: after a cancel `out` is unchanged, or it is complete and there is a result.
        copy.commit()
    finally:
        copy.discard()
    return replace(report, plan=replace(report.plan, notes=(*report.plan.notes, note))) if note else report


async def chosen_keys(client: SigningClient, plan: Plan, choice: KeyChoice) -> ChosenKeys:
    """Return the keys that sign: those of `choice`, else those in the settings, else those that the host reports.

    Raises `ClientError`, also if the boards have other fuses, and `ChipError` if their chip does not support the keys.
    """
    settings = client.settings
    names = choice.names or configured_names(settings, fast_auth=choice.fast_auth)
    version = choice.cst_version or settings.cst
    if names is not None and version is not None:
        return ChosenKeys(names=names, cst_version=version, srk_table=None)
    keys = await client.machine_keys(choice.machine)
    version = version or newest_cst(keys)
    if names is None:
        names = key_names(keys, srk=choice.srk, fast_auth=choice.fast_auth)
    table = next((one for one in keys.srk_tables if one.name == names.table), None)
    if table is not None:
        check_machine(
            choice.machine,
            table,
            plan,
            soc_given=choice.soc_given,
            fast_auth=choice.fast_auth,
            fuse_value=choice.fuse_value,
        )
    return ChosenKeys(names=names, cst_version=version, srk_table=table.data if table is not None else None)


def machine_of(settings: ClientSettings, machine: str | None) -> str:
    """Return the machine whose keys sign. Raises `ClientSettingsError` if neither argument names it."""
    named = machine or settings.machine
    if named is None:
        raise ClientSettingsError("no machine is given", hint="set --machine M or DIGSIGN_MACHINE")
    return named


def default_name(path: Path) -> str:
    """Return a file's name as it is sent to the host: CSF descriptions allow no quotation marks in names."""
    return one_line(path.name).replace('"', "_")


def _first_failure(report: Report) -> str:
    """Return the first part that fails, with its check."""
    checks = [(one.signing.name, check) for one in report.csfs if not one.excuse for check in one.checks]
    for part, check in (*checks, *(("the whole", check) for check in report.checks)):
        if check.holds is False:
            return f"{part}: {check.what}" + (f": {check.detail}" if check.detail else "")
    return "not all of it can be checked"
