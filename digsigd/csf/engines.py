"""Checks the engines that a CSF description names, so that an error has its line.

`digsigd.hab.engines` has the table of engines and the sources, and checks the same in the CSF blob.
"""

from __future__ import annotations

from digsigd.csf.errors import CsfPolicyError
from digsigd.csf.model import AuthenticateCsf, AuthenticateData, Header, Place, SetEngine
from digsigd.hab import engines


class Engines:
    """Checks the engine of each command, with the defaults of [Header] and of [Set Engine]."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._set = "ANY"
        _check("[Header]", header.engine or "ANY", header.engine_configuration, header.place)

    def take(self, command: AuthenticateCsf | AuthenticateData | SetEngine) -> None:
        """Check the next command with an engine. Raises `CsfPolicyError`."""
        if isinstance(command, SetEngine):
            if command.hash_algorithm != "sha256":
                raise CsfPolicyError(
                    f"[Set Engine] for {command.hash_algorithm}: HAB4 hashes with sha256 only", *command.place
                )
            _check("[Set Engine]", command.engine, command.engine_configuration, command.place)
            self._set = command.engine
            return
        engine = command.engine or self._header.engine or "ANY"
        configuration = command.engine_configuration
        if configuration is None:
            configuration = self._header.engine_configuration
        name = "Authenticate Data" if isinstance(command, AuthenticateData) else "Authenticate CSF"
        _check(f"[{name}]", engine, configuration, command.place)
        if isinstance(command, AuthenticateData):
            _check_blocks(command, self._set if engine == "ANY" else engine)


def _check(where: str, engine: str, configuration: tuple[str, ...] | None, place: Place) -> None:
    if engines.NUMBERS[engine] not in engines.HASHING:
        raise CsfPolicyError(f"{where} with Engine = {engine}, which cannot hash", *place, hint=_hint())
    if not configuration:
        return
    if engine == "ANY":
        raise CsfPolicyError(f"{where}: Engine = ANY must have Engine Configuration 0", *place)
    if (engine, configuration) != ("RTIC", ("KEEP",)):
        raise CsfPolicyError(
            f"{where} with Engine Configuration = {', '.join(configuration)}: {engine} would swap bytes, and hash other"
            " bytes than cst signs",
            *place,
            hint="write Engine Configuration = 0",
        )


def _check_blocks(command: AuthenticateData, engine: str) -> None:
    most = engines.MOST_BLOCKS.get(engines.NUMBERS[engine])
    if most is not None and len(command.blocks) > most:
        raise CsfPolicyError(
            f"{len(command.blocks)} blocks in one [Authenticate Data], but with Engine = {engine} HAB accepts at most"
            f" {most}",
            *command.blocks[most].place,
            hint="put the rest into another [Authenticate Data]",
        )


def _hint() -> str:
    return f"engines that can: {', '.join(engines.NAMES[number] for number in engines.HASHING)}"
