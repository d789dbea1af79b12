"""Verify a file with AHAB containers as a board does: what is signed, by whom, and with which key.

What a board checks: uboot-imx, doc/imx/ahab, and the indication codes in ele_ahab.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from digsigd import ahab
from digsigd.ahab import AhabChip, Container, SrkSet, Verified
from digsigd.image.ahab_model import TRAINING_DATA, AhabPlan, PlannedContainer
from digsigd.image.model import Buffer
from digsigd.image.report import STATES, Check, Meaning, Span, spans_between, union

_STATES = STATES | {"csf": "signature block", "foreign": "signed by NXP"}
_UNSIGNED = "not signed: a closed board refuses it"
_UNSIGNED_SPL = (
    "not signed: an SPL or U-Boot with CONFIG_AHAB_BOOT refuses it on a closed board, one without runs it unchecked"
)


@dataclass(frozen=True, slots=True)
class ContainerReport:
    """What was found in one container. `proven` is None unless all of it holds."""

    planned: PlannedContainer
    checks: tuple[Check, ...]
    proven: Verified | None

    @property
    def holds(self) -> bool:
        """Whether all its checks hold."""
        return self.proven is not None and all(check.holds for check in self.checks if not check.secret)


@dataclass(frozen=True, slots=True)
class AhabReport:
    """The result of verifying a file.

    `fuse_values` are those of the SRK table that all OEM containers have, by the hash ("sha256", "sha512"), empty if
    they differ. `fuse_value` is the one that the boards must have, None unless the chip or the version shows it.
    """

    plan: AhabPlan
    containers: tuple[ContainerReport, ...]
    checks: tuple[Check, ...]
    spans: tuple[Span, ...]
    fuse_values: Mapping[str, bytes]
    fuse_value: bytes | None

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return self.plan.size

    @property
    def states(self) -> Mapping[str, str]:
        """What the states of its map are called."""
        return _STATES

    @property
    def partly(self) -> bool:
        """Whether only boards can check a part of what they run: NXP's keys are in their fuses."""
        return any(one.planned.owner == "NXP" for one in self.containers) or bool(_training_data(self.plan))

    @property
    def encrypted(self) -> bool:
        """Whether an OEM container has images that only a board can decrypt."""
        return any(one.planned.encrypted for one in self.containers if one.planned.owner == "OEM")

    @property
    def holds(self) -> bool:
        """Whether everything holds that can be checked here: only then does a closed board boot the image."""
        return all(one.holds for one in self.containers) and all(check.holds for check in self.checks)

    @property
    def fails(self) -> bool:
        """Whether a check fails. An encrypted image can neither hold nor fail."""
        if self.holds:
            return False
        checks = [*self.checks, *(check for one in self.containers for check in one.checks)]
        return not self.encrypted or any(check.holds is False for check in checks)

    @property
    def meaning(self) -> Meaning | None:
        """What the worst failure means for a closed board; None if no check fails."""
        if not self.fails:
            return None
        checks = [*self.checks, *(check for one in self.containers for check in one.checks)]
        found = {check.meaning for check in checks if check.holds is False}
        ranked: tuple[Meaning, ...] = ("refused", "unknown", "unsigned")
        return next((one for one in ranked if one in found), "refused")


def report_ahab(
    data: Buffer, plan: AhabPlan, *, fuse_value: bytes | None = None, srk_table: bytes | None = None
) -> AhabReport:
    """Return the report on a file whose plan is `plan`; its chip is that of the boards, if known.

    `fuse_value` (32 or 64 bytes) and `srk_table` are those of the boards, if known. Checks that fail are in the report:
    nothing is raised for what a file contains.
    """
    judge = _Judge(data, tuple(one.container for one in plan.containers), plan.chip, fuse_value, srk_table)
    reports = tuple(judge.report(one) for one in plan.containers)
    values, shared = _shared(reports, plan)
    checks = [Check("the file", False, text) for text in plan.wrong if "unknown data" not in text]
    checks += [
        Check("only known data", False, text, meaning="unsigned") for text in plan.wrong if "unknown data" in text
    ]
    if not plan.to_sign:
        checks.append(Check("an OEM container", False, "none: the file has only NXP's firmware"))
    checks += shared
    spans = _spans(plan, reports)
    bare = [one.planned for one in reports if one.proven is None]
    detail = f"not proven: {', '.join(f'{one.name} with {_bytes(one):#x} bytes' for one in bare)}" if bare else ""
    if not bare and _training_data(plan):
        detail = f"but for the {TRAINING_DATA}"
    checks.append(Check("all that the board loads is signed", not bare, detail))
    return AhabReport(plan, reports, tuple(checks), spans, values, _fuse_value(plan, values))


def _training_data(plan: AhabPlan) -> list[tuple[int, int]]:
    """Return the offset and the length of data that boards load, and no container covers."""
    return [(region.offset, region.length) for region in plan.regions if region.name == TRAINING_DATA]


def _bytes(one: PlannedContainer) -> int:
    """Return the bytes of a container's header and images."""
    return one.block - one.offset + sum(image.size for image in one.images)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judges each container; `fuse_value` and `srk_table` are None if they are not known."""

    data: Buffer
    containers: tuple[Container, ...]
    chip: AhabChip | None
    fuse_value: bytes | None
    srk_table: bytes | None

    def report(self, one: PlannedContainer) -> ContainerReport:
        """Return what holds of one container."""
        nxp = one.owner == "NXP"
        if one.wrong:
            return ContainerReport(one, tuple(Check("container", False, text) for text in one.wrong), None)
        if not one.signed:
            return ContainerReport(one, (Check("signed", False, _UNSIGNED if one.first else _UNSIGNED_SPL),), None)
        try:
            proven = ahab.verify(
                self.data,
                one.offset,
                chip=None if nxp else self.chip,
                fuse_value=None if nxp else self.fuse_value,
                srk_table=None if nxp else self.srk_table,
                srk_set=SrkSet.NXP if nxp else SrkSet.OEM,
                containers=self.containers,
            )
        except ahab.VerificationError as error:
            return ContainerReport(one, (Check(error.check, False, error.what),), None)
        except ahab.AhabError as error:
            return ContainerReport(one, (Check("container", False, error.what),), None)
        return ContainerReport(one, tuple(self._checks(one, proven)), proven)

    def _checks(self, one: PlannedContainer, proven: Verified) -> Iterator[Check]:
        """Yield the checks of a container that holds."""
        nxp = one.owner == "NXP"
        yield Check("signed", True, f"by {'NXP with its ' if nxp else ''}{one.key}")
        if nxp:
            yield Check("NXP's key", True, "the signature holds; whether the key is NXP's, only the chip knows")
        elif self.fuse_value is not None or self.srk_table is not None:
            yield Check("SRK table", True, "as in the boards' fuses")
        block = one.end - one.block
        detail = f"{proven.bytes_covered:#x} bytes of header and images, block of {block:#x} bytes at {one.block:#x}"
        yield Check("signature", True, detail)
        if revoked := [f"SRK {n + 1}" for n in range(4) if one.container.revoke_mask >> n & 1]:
            yield Check("revoke mask", True, f"ahab_commit revokes {', '.join(revoked)} for good")
        for image in one.images:
            secret = ", encrypted" if image.entry.encrypted else ""
            where = f"{image.size:#x} bytes at {image.offset:#x}" if image.size else "loads nothing"
            yield Check(image.name, True, f"{where}, {image.entry.hash_name}{secret}")
        if one.encrypted and not nxp:
            yield Check("key of the encrypted images", None, "only a board can unwrap it", secret=False)


def _shared(reports: Sequence[ContainerReport], plan: AhabPlan) -> tuple[Mapping[str, bytes], list[Check]]:
    """Return the fuse values of the SRK table of all OEM containers, and the check that it is one."""
    found = [one.proven.fuse_values for one in reports if one.proven is not None and one.planned.owner == "OEM"]
    if not found:
        return {}, []
    if any(one != found[0] for one in found):
        detail = "the OEM containers have different tables, but a board has fuses for one"
        return {}, [Check("one SRK table", False, detail)]
    known = _fuse_value(plan, found[0])
    shown = {name: value for name, value in found[0].items() if known is None or value == known}
    detail = ", ".join(f"{name} {value.hex()}" for name, value in shown.items())
    return found[0], [Check("one SRK table", True, detail)]


def _fuse_value(plan: AhabPlan, values: Mapping[str, bytes]) -> bytes | None:
    """Return the value for the boards' fuses: their chip says which hash they have, or the version of containers."""
    if plan.chip is not None:
        try:
            return values.get(plan.chip.fuse_hash)
        except ahab.NotConfirmed:
            return None
    return values.get("sha512") if plan.version == 2 else None


def _spans(plan: AhabPlan, reports: Sequence[ContainerReport]) -> tuple[Span, ...]:
    """Return the whole file in spans; what a container that holds covers is signed."""
    good = [one for one in reports if one.proven is not None]
    ours = [one.planned for one in good if one.planned.owner == "OEM"]
    theirs = [one.planned for one in good if one.planned.owner == "NXP"]
    secret = union((i.offset, i.end) for one in ours for i in one.images if i.entry.encrypted)
    signed = union(
        [*((one.offset, one.block) for one in ours), *((i.offset, i.end) for one in ours for i in one.images)]
    )
    blocks = union((one.block, one.end) for one in ours)
    foreign = union(
        [*((one.offset, one.end) for one in theirs), *((i.offset, i.end) for one in theirs for i in one.images)]
    )
    used = [(one.offset, one.block - one.offset) for one in plan.containers]
    used += [(image.offset, image.size) for one in plan.containers for image in one.images]
    used += _training_data(plan)
    size = plan.size
    used = [(start, min(length, size - start)) for start, length in used if start < size]
    states = (("secret", secret), ("signed", signed), ("csf", blocks), ("foreign", foreign))
    return spans_between(plan.regions, used, size, states)
