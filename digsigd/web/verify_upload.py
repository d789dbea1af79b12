"""The upload of a signed image to verify: with the limits of signing, and fields for what the image does not say."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.web.http_headers import Headers

from digsigd.callers.access import Asking
from digsigd.callers.model import Caller
from digsigd.errors import BadRequest, DigsigError
from digsigd.image.ahab_detect import is_ahab
from digsigd.image.ahab_plan import plan_ahab
from digsigd.image.ahab_report import AhabReport, report_ahab
from digsigd.image.chips import Chip
from digsigd.image.chips.every import AnyChip, find_any
from digsigd.image.errors import ImageError
from digsigd.image.plan import plan
from digsigd.image.report import Report
from digsigd.image.verify import verify
from digsigd.mapped import Mapped
from digsigd.signing.request import Artifact
from digsigd.signing.workdir import failed
from digsigd.web.form import Fields, Form
from digsigd.web.storing import stored
from digsigd.web.upload import Upload

PATH = b"/page/verify"
_ADDRESS = re.compile(r"\s*(?:0[xX][0-9A-Fa-f]{1,8}|[0-9]{1,10})?\s*")
_ADDRESS_FORM = "an address, such as 0x40480000"
# Browsers send all fields of a form, also those that are empty.
FIELDS: Fields = {
    "fuses": (
        re.compile(r"\s*(?:[0-9A-Fa-f]{64}(?:[0-9A-Fa-f]{64})?)?\s*"),
        "a fuse value: 64 or 128 hexadecimal digits, as in `digsign fuses`",
    ),
    "soc": (re.compile(r"[ -~]{0,40}"), "the name of a chip, such as imx6ull"),
    "load_address": (_ADDRESS, _ADDRESS_FORM),
    "sdp": (_ADDRESS, _ADDRESS_FORM),
    "configuration": (re.compile(r"[ -~]{0,200}"), "the name of a configuration"),
    "fit_fdt": (re.compile(r"(?:auto|required)?"), "auto or required"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """An image to verify and what is known besides. Addresses and texts are None if they were not given."""

    image: Artifact
    fuse_value: bytes | None = None
    soc: str | None = None
    load_address: int | None = None
    sdp: int | None = None
    configuration: str | None = None
    fit_fdt: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """The report on an image, and the SHA-256 that its CSF blobs can have and, last, of the file.

    `fuse_values` are those of the machines that it can be for, in hexadecimal: chips with AHAB have different ones.
    """

    report: Report | AhabReport
    sums: tuple[str, ...]
    fuse_values: tuple[str, ...]


class VerifyUpload(Upload):
    """An upload whose image is verified. `question` is None until the form is complete."""

    is_of_page = True
    question: Question | None = None

    def __init__(self, *args: Any, may_open: Callable[[Caller], None]) -> None:
        """Make an upload with the arguments of `Upload`. `may_open` raises `NotAllowed` for some callers."""
        super().__init__(*args)
        self._may_open = may_open
        # The small fields of the form, as they were sent.
        self.given: dict[str, str] = {}

    @property
    def stage(self) -> str:
        """What is done for it, in words."""
        return "receiving" if self._signing is None else "verifying"

    def begin(self, headers: Headers, length: int | None, asking: Asking) -> None:
        """Check what is known from the headers, and reserve room. Raises as `Upload.begin` does."""
        super().begin(headers, length, asking)
        self._may_open(self.caller)

    async def decided(self, error: DigsigError) -> DigsigError:
        """Return the error as it is: only decisions about signing are recorded."""
        return error

    def count(self, outcome: str, seconds: float) -> None:
        """Count nothing: metrics and spans are of requests to sign."""

    def _new_form(self, content_type: str, largest: int) -> Form:
        return Form(
            content_type, max_artifact=largest, workdir=self.workdir, checks={}, new_sum=self._new_sum, fields=FIELDS
        )

    def _take(self, form: Form) -> None:
        fields, artifacts = stored(self.who, form.collected)
        if len(artifacts) > 1:
            raise BadRequest("the form has several images", hint="verify one at a time")
        self.given = fields
        self.question = _question_of(fields, artifacts[0])


def answer(question: Question) -> Verified:
    """Verify an image. It blocks. Raises `ImageError`, and `DigsigError` if the file cannot be read."""
    chip = find_any(question.soc) if question.soc else None
    with _mapped(question.image.path) as data:
        report: Report | AhabReport
        sums: list[str] = []
        values: list[bytes | None]
        if is_ahab(data):
            report = _of_ahab(data, question, chip)
            values = [report.fuse_value] if report.fuse_value else [*report.fuse_values.values()]
        else:
            report = _of_hab(data, question, chip)
            values = [report.fuse_value]
            sums = [
                hashlib.sha256(data[one.signing.csf_offset : one.signing.csf_offset + length]).hexdigest()
                for one in report.csfs
                if one.length
                # A blob ends with padding that nothing in it tells from what follows it in the image.
                for length in range(one.length, one.length + 4)
            ]
        whole = question.image.sums.sha256 if question.image.sums is not None else hashlib.sha256(data).hexdigest()
    return Verified(report, (*dict.fromkeys(sums), whole), tuple(value.hex() for value in values if value))


def _of_hab(data: Mapped, question: Question, chip: AnyChip | None) -> Report:
    if chip is not None and not isinstance(chip, Chip):
        raise ImageError(f"the image is for chips with HAB4, but {chip.title} has AHAB", hint="Check --soc.")
    found = plan(
        data,
        load_address=question.load_address,
        configuration=question.configuration,
        fdt_signature=question.fit_fdt,
        chip=chip,
        sdp=question.sdp,
    )
    return verify(data, found, fuse_value=question.fuse_value, now=datetime.now(UTC))


def _of_ahab(data: Mapped, question: Question, chip: AnyChip | None) -> AhabReport:
    if isinstance(chip, Chip):
        raise ImageError(f"the image is for chips with AHAB, but {chip.title} has HAB4", hint="Check --soc.")
    return report_ahab(data, plan_ahab(data, chip), fuse_value=question.fuse_value)


def _mapped(path: Path) -> Mapped:
    try:
        with path.open("rb") as file:
            return Mapped.of(file.fileno())
    except OSError as error:
        raise failed(error) from error


def _question_of(fields: dict[str, str], image: Artifact) -> Question:
    given: dict[str, Any] = {name: text.strip() or None for name, text in fields.items()}
    addresses = {name: _number(name, given.get(name)) for name in ("load_address", "sdp")}
    fuses = given.get("fuses")
    return Question(
        image,
        fuse_value=bytes.fromhex(fuses) if fuses else None,
        soc=given.get("soc"),
        configuration=given.get("configuration"),
        fit_fdt=given.get("fit_fdt") == "required",
        **addresses,
    )


def _number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    # int(text, 0) refuses leading zeros.
    value = int(text, 16 if text[:2].lower() == "0x" else 10)
    if value >= 1 << 32:
        raise BadRequest(f"the field {name} must be {_ADDRESS_FORM}")
    return value
