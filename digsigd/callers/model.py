"""Callers as values: a name, and what it may sign."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from digsigd.errors import NotAllowed

_ASK = "ask the operator of the signing host to allow it"


@dataclass(frozen=True, slots=True)
class Rights:
    """What a caller may use: patterns of machines and of cst versions, names of backends and of CSF commands.

    None allows everything that the host does; an empty tuple nothing. `metrics` allows `GET /metrics`, if it is on.
    """

    machines: tuple[str, ...] | None = None
    backends: tuple[str, ...] | None = None
    cst_versions: tuple[str, ...] | None = None
    csf_allow: tuple[str, ...] | None = None
    metrics: bool = True


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller who may sign. `proof` says how it proved who it is, for logs and records; it holds no secret."""

    name: str
    rights: Rights = Rights(machines=(), backends=(), cst_versions=(), csf_allow=(), metrics=False)
    proof: str = ""

    @property
    def backends(self) -> tuple[str, ...] | None:
        """The names of the backends that it may use; None for all."""
        return self.rights.backends

    @property
    def csf_allow(self) -> frozenset[str] | None:
        """What its CSF descriptions may have beyond the safe commands, if the machine's policy allows it; None: all."""
        return None if self.rights.csf_allow is None else frozenset(self.rights.csf_allow)

    def check_machine(self, machine: str) -> None:
        """Raise `NotAllowed` unless this machine's keys may be used."""
        if self.rights.machines is not None and pattern_for(machine, self.rights.machines) is None:
            raise NotAllowed(f"caller {self.name!r} may not sign for machine {machine!r}", hint=_ASK)

    def check_backend(self, backend: str) -> None:
        """Raise `NotAllowed` unless this backend may be used. Empty means ssl."""
        if self.rights.backends is not None and (backend or "ssl") not in self.rights.backends:
            raise NotAllowed(f"caller {self.name!r} may not use backend={backend or 'ssl'}", hint=_ASK)

    def check_cst_version(self, version: str) -> None:
        """Raise `NotAllowed` unless this version of cst may be used."""
        if self.rights.cst_versions is not None and pattern_for(version, self.rights.cst_versions) is None:
            raise NotAllowed(f"caller {self.name!r} may not use cst {version}", hint=_ASK)

    def check_metrics(self) -> None:
        """Raise `NotAllowed` unless the metrics of the host may be read."""
        if not self.rights.metrics:
            raise NotAllowed(f"caller {self.name!r} may not read the metrics", hint=_ASK)

    def cst_versions_of(self, versions: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the versions that it may use."""
        allowed = self.rights.cst_versions
        return versions if allowed is None else tuple(one for one in versions if pattern_for(one, allowed) is not None)


# Everybody, where authentication is off.
ANONYMOUS = Caller("anonymous", Rights(), "authentication is off")


def pattern_for(name: str, patterns: tuple[str, ...]) -> str | None:
    """Return the first pattern that matches a whole name, in its own case; None if none does."""
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)
