"""CSF descriptions for AHAB as values: one class for each command.

Source of commands, arguments and their values: NXP Code Signing Tool User Guide, "CSF Description Language", AHAB; what
it leaves open was tested with cst 3.4.1 and 4.0.1. Places are not compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from digsigd.csf.model import NOWHERE, Place, Placed, Refusable

# The header of a container, and each of its image entries, in bytes: imx-mkimage, src/imx8qxb0.c.
CONTAINER_HEADER, IMAGE_ENTRY = 0x10, 0x80
# The number of images is a byte of the container's header.
MOST_IMAGES = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Header(Placed):
    """The properties of the whole description. `version` is (1, 0) for containers of version 0, (2, 0) for 2."""

    version: tuple[int, int]
    target: str = "AHAB"
    mode: str | None = None
    mode_place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def container_version(self) -> int:
        """The version in the headers of the containers: 0 or 2."""
        return 2 if self.version == (2, 0) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallSrk(Placed):
    """Key number `source_index` (from 0) of the table in `file`, whose certificate is `source`.

    `source_set` is OEM or NXP. `revocations` is a mask of 4 bits, bit n for the key with index n; `fast_boot` has 3
    bits. `check_all_signatures` is Fuse or All.
    """

    file: str
    source: str
    source_index: int
    source_set: str
    revocations: int
    check_all_signatures: str | None = None
    fast_boot: int | None = None
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)
    source_place: Place = field(default=NOWHERE, compare=False, repr=False)
    source_set_place: Place = field(default=NOWHERE, compare=False, repr=False)
    revocations_place: Place = field(default=NOWHERE, compare=False, repr=False)
    check_all_signatures_place: Place = field(default=NOWHERE, compare=False, repr=False)
    fast_boot_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallCertificate(Placed):
    """A certificate (SGK) that the SRK signs, whose key signs the containers.

    `permissions` has 8 bits, of which bit 0 allows it to sign containers; `permissions_data` are three words, `uuid`
    four, `fuse_version` is a byte. `signature` is a file with a signature made elsewhere.
    """

    file: str
    permissions: int
    permissions_data: tuple[int, ...] | None = None
    uuid: tuple[int, ...] | None = None
    fuse_version: int | None = None
    signature: str | None = None
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)
    permissions_place: Place = field(default=NOWHERE, compare=False, repr=False)
    permissions_data_place: Place = field(default=NOWHERE, compare=False, repr=False)
    uuid_place: Place = field(default=NOWHERE, compare=False, repr=False)
    fuse_version_place: Place = field(default=NOWHERE, compare=False, repr=False)
    signature_place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticateData(Placed):
    """A signature over one container of `file`.

    `offsets` are those of its header and of its signature block, in bytes from the start of the file.
    """

    file: str
    offsets: tuple[int, int]
    signature: str | None = None
    file_place: Place = field(default=NOWHERE, compare=False, repr=False)
    offsets_place: Place = field(default=NOWHERE, compare=False, repr=False)
    signature_place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def container_offset(self) -> int:
        """The offset of the container's header in the file."""
        return self.offsets[0]

    @property
    def block_offset(self) -> int:
        """The offset of its signature block in the file."""
        return self.offsets[1]


Command: TypeAlias = Header | InstallSrk | InstallCertificate | AuthenticateData | Refusable


@dataclass(frozen=True, slots=True)
class Description:
    """The commands of a description, in order.

    The properties are those of a description that `check` accepts; others can have no such command, or several.
    """

    commands: tuple[Command, ...]

    @property
    def header(self) -> Header:
        """[Header]."""
        return next(one for one in self.commands if isinstance(one, Header))

    @property
    def srk(self) -> InstallSrk:
        """[Install SRK]."""
        return next(one for one in self.commands if isinstance(one, InstallSrk))

    @property
    def certificate(self) -> InstallCertificate | None:
        """[Install Certificate], or None: the SRK signs the containers."""
        return next((one for one in self.commands if isinstance(one, InstallCertificate)), None)

    @property
    def data(self) -> tuple[AuthenticateData, ...]:
        """Each [Authenticate Data], in the order of the description."""
        return tuple(one for one in self.commands if isinstance(one, AuthenticateData))
