"""A signed container says what its description asks for, and nothing more, or the client writes nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from digsigd import ahab
from digsigd.ahab.model import CHECK_ALL
from digsigd.csf.ahab import Description, parse
from digsigd.csf.ahab.asked import check_asked
from tests.helpers.ahab_forge import certificate_of, forge


def asked(srk: str = "Revocations = 0x0", permissions: str | None = None, version: int = 0) -> Description:
    more = f'[Install Certificate]\nFile = "SGK_crt.pem"\n{permissions}\n' if permissions is not None else ""
    return parse(
        f'[Header]\nTarget = AHAB\nVersion = {2 if version else 1}.0\n[Install SRK]\nFile = "t.bin"\nSource = "s.pem"\n'
        f'Source index = 0\nSource set = OEM\n{srk}\n{more}[Authenticate Data]\nFile = "f.bin"\nOffsets = 0x0 0x110\n'
        .encode()
    )  # fmt: skip


def check(description: Description, *, before: int = 0, **made: Any) -> None:
    forged = forge("p256", alone=True, version=description.header.container_version, **made)
    forged.verify()
    unsigned = dataclasses.replace(ahab.read_header(forged.unsigned), flags=before)
    check_asked(unsigned, forged.container, description)


@pytest.mark.parametrize("version", [0, 2])
def test_what_was_asked_for_is_accepted(version: int) -> None:
    """A mask, a certificate, and bits that were in the file before."""
    check(asked(version=version))
    check(asked("Revocations = 0xc", version=version), revoke=0xC)
    check(asked(permissions="Permissions = 0x1", version=version), sgk="p256")
    check(asked(version=version), before=0x300010, flags=0x300000)


@pytest.mark.parametrize(
    ("description", "made", "words"),
    [
        (asked(), {"revoke": 0xE}, "revoke mask 0xe, but 0x0 was asked for"),
        (asked("Revocations = 0x2"), {}, "revoke mask 0x0, but 0x2"),
        (asked(), {"flags": 0x300000}, "flags 0x300002, but 0x2"),
        (asked(), {"before": 0x300000}, "flags 0x2, but 0x300002"),
        (asked(version=2), {"flags": CHECK_ALL}, "flags 0x8002, but 0x2"),
        (asked(version=2), {"flags": 0x10000}, "flags 0x10002, but 0x2"),
        (asked(), {"sgk": "p256"}, "a certificate .SGK., but none"),
        (asked(permissions="Permissions = 0x1"), {}, "no certificate, but one"),
        (asked(permissions="Permissions = 0x1"), {"sgk": "p256", "permissions": 0x3}, "permissions 0x3, but 0x1"),
        (asked(permissions="Permissions = 0x1", version=2), {"sgk": "p256", "uuid": b"1" * 16}, "another UUID"),
        (asked(), {"key_id": 7}, "key for encrypted images"),
    ],
)
def test_anything_else_is_refused(description: Description, made: dict[str, Any], words: str) -> None:
    """Though each of these containers holds: the signature is over what was not asked for."""
    with pytest.raises(ahab.VerificationError, match=words) as caught:
        check(description, **made)
    assert caught.value.check == "described"


@pytest.mark.parametrize("version", [0, 2])
def test_a_certificate_has_the_key_that_was_named(version: int) -> None:
    """If its file is known: another key could sign anything from then on."""
    description = asked(permissions="Permissions = 0x1", version=version)
    forged = forge("p256", alone=True, version=version, sgk="p384")
    before = dataclasses.replace(ahab.read_header(forged.unsigned), flags=0)
    check_asked(before, forged.container, description, certificate_of("p384", 5))
    with pytest.raises(ahab.VerificationError, match="another key"):
        check_asked(before, forged.container, description, certificate_of("p384", 4))
