"""Steps of reading a form that store what arrives: their faults are those of this host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from digsigd.errors import DigsigError
from digsigd.signing.workdir import failed

P = ParamSpec("P")
T = TypeVar("T")
_log = Logger()


def stored(who: Mapping[str, str], step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a step of a form. Errors that are not the client's become a `DigsigError`, a fault of this host.

    `who` are the log fields of the request. Raises what the step raises of `digsigd.errors`, and `DigsigError`.
    """
    try:
        return step(*args, **kwargs)
    except DigsigError:
        raise
    except OSError as error:
        raise failed(error) from error
    except Exception:  # noqa: BLE001 - any exception ends only this request
        _log.failure("cannot read an upload", Failure(), LogLevel.critical, **who, event="unexpected")
        raise DigsigError(
            "internal error while the signing host read the upload",
            hint="search for the request's id in the host's log",
        ) from None
