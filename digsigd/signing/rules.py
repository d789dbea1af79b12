"""The operator's rules for machines, as one value that a reload replaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from digsigd import csf


@dataclass(frozen=True, slots=True)
class MachineRules:
    """The rules for one machine: CSF policy, pinned fuse value, if images must have an IVT, and a pinned tarball.

    `keys_sha256` is the SHA-256 that the key tarball must have, in hex; None for any. `soc` is the chip of its boards,
    one of `digsigd.names.AHAB_SOCS`, or None. `max_fuse_version` is the highest of its containers; None: any.
    """

    policy: csf.Policy
    fuse_value: bytes | None = None
    require_ivt: bool = True
    keys_sha256: str | None = None
    soc: str | None = None
    max_fuse_version: int | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of all machines: those with an entry, and in general."""

    general: MachineRules
    machines: Mapping[str, MachineRules] = field(default_factory=dict)

    def of(self, machine: str) -> MachineRules:
        """Return the rules of a machine."""
        return self.machines.get(machine, self.general)


class CurrentRules:
    """The place of the `Rules` that hold now. A reload sets `value`; requests under way keep the value they had."""

    def __init__(self, value: Rules) -> None:
        self.value = value

    def of(self, machine: str) -> MachineRules:
        """Return the current rules of a machine."""
        return self.value.of(machine)
