"""What keeps a service safe: the cage of cst that the settings ask for, and what a look at everything finds."""

from __future__ import annotations

from cryptography import x509
from twisted.logger import Logger

from digsigd.callers.access import Access
from digsigd.callers.findings import findings
from digsigd.keys import KeySource
from digsigd.keys.file import FileSource
from digsigd.settings import CstSettings, Settings, SettingsError
from digsigd.settings.permissions import Finding, writable_findings
from digsigd.signing.cage import Cage, strongest
from digsigd.signing.start import Script
from digsigd.signing.threads import InThread
from digsigd.signing.tools import CstTools

log = Logger()


def no_cage() -> Cage:
    """Return the start of cst without a cage. Raises `CstFailed` on a host without a shell."""
    return Cage(Script(), "none, as cst.cage says", (), weak=True)


def cage_of(cst: CstSettings) -> Cage:
    """Return the cage that the settings ask for, and log which it is. Blocks for some milliseconds.

    Raises `SettingsError` if the one that they require does not work here, and `CstFailed` on a host without a shell.
    """
    cage = no_cage() if cst.cage == "none" else strongest(cst.paths)
    if cage.weak and cst.cage == "require":
        raise SettingsError(
            f'cst.cage: is "require", but Landlock and seccomp do not both work here: {"; ".join(cage.missing)}'
        )
    (log.warn if cage.weak else log.info)(
        "cage of cst: {told}{missing}",
        told=cage.told, missing="".join(f"; not {one}" for one in cage.missing), event="cage",
    )  # fmt: skip
    return cage


async def unsafe(
    settings: Settings,
    access: Access,
    certificate: x509.Certificate | None,
    *,
    source: KeySource,
    tools: CstTools,
    in_thread: InThread,
) -> list[Finding]:
    """Return what is not safe about settings and the files that they name. Raises `KeyStoreTimeout`."""

    def programs() -> list[Finding]:
        return writable_findings((f"cst {tool.version}", path) for tool in tools.available() for path in tool.files())

    found = findings(settings, access, certificate)
    if isinstance(source, FileSource):
        found += await source.findings()
    return found + await in_thread(programs)
