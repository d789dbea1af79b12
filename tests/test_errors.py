"""One family of errors: what each says, to whom, and that there is no other."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import digsigd
from digsigd.client._internal.errors import ClientError
from digsigd.csf import CsfSyntaxError
from digsigd.errors import BadTarball, DigsigError
from digsigd.hab import FormatError, VerificationError
from digsigd.image.chips import AmbiguousChipError, NotConfirmedError, find
from digsigd.settings import SettingsError

# Exceptions that nobody is shown: whoever calls catches each, and does or says something of its own.
INTERNAL = {
    "Again": "a try that may be made again; the error that is shown is in it",
    "ArtifactChanged": "ends an upload from within a producer; the client says it as a ClientError",
    "BadCoding": "a body that cannot be unpacked; the key store says it as a KeyStoreFailed",
    "ChangedError": "a file is not what was sent; the job says it as a VerificationFailed or a DigsigError",
    "HeadTooLong": "ends a connection from within a protocol; the caller says it in its own words",
    "SlowError": "a key must be decrypted first; the signer does it in a thread",
    "Stays": "why a directory is left alone: a line of the daemon's log",
    "Stalled": "ends a connection from within a protocol; the caller says it in its own words",
    "StrandedError": "an OSError among others of a directory, which are caught together",
    "TooLong": "ends a body from within a protocol; the caller says it in its own words",
    "WorkerGone": "a worker ended before it answered; its supervisor starts another one",
    "WorkerHangs": "a worker has not answered; its supervisor kills it",
}


def exceptions() -> Iterator[type[BaseException]]:
    """Those of digsigd's own, by the modules that define them."""
    for module in pkgutil.walk_packages(digsigd.__path__, "digsigd."):
        if module.name.startswith("digsigd.record.migrations."):
            continue  # programs that Alembic runs
        for name, one in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(one, BaseException) and one.__module__ == module.name and not name.startswith("_"):
                yield one


def test_every_error_is_of_the_family() -> None:
    """But for those that nobody is shown, each with its reason."""
    found = {one.__name__ for one in exceptions() if not issubclass(one, digsigd.Error)}
    assert found == set(INTERNAL)


ERRORS = [
    (digsigd.Error("it is wrong", hint="do this\nor that"), "it is wrong", "it is wrong\n  do this\n  or that"),
    (digsigd.Error("it is wrong"), "it is wrong", "it is wrong"),
    (
        CsfSyntaxError("it is wrong", 3, 7, hint="do this"),
        "line 3, column 7: it is wrong",
        "line 3, column 7: it is wrong\n  do this",
    ),
    (CsfSyntaxError("it is wrong", 3), "line 3: it is wrong", "line 3: it is wrong"),
    (CsfSyntaxError("it is wrong"), "it is wrong", "it is wrong"),
    (
        FormatError("it is wrong", 16, hint="do this"),
        "it is wrong (at offset 0x10)",
        "it is wrong (at offset 0x10)\n  do this",
    ),
    (FormatError("it is wrong", 0), "it is wrong (at offset 0x0)", "it is wrong (at offset 0x0)"),
    (FormatError("it is wrong"), "it is wrong", "it is wrong"),
    (VerificationError("order", "it is wrong", hint="do this"), "order: it is wrong", "order: it is wrong\n  do this"),
    (
        ClientError("it is wrong", hint="do this", request_id="4711"),
        "it is wrong (request 4711)",
        "it is wrong (request 4711)\n  do this",
    ),
    (ClientError("it is wrong"), "it is wrong", "it is wrong"),
    (
        DigsigError("it is wrong", hint="do this", detail="/srv/keys: denied"),
        "it is wrong",
        "it is wrong\n  do this",
    ),
    (NotConfirmedError("it is not known", hint="ask"), "it is not known", "it is not known\n  ask"),
    (SettingsError("first\nsecond", hint="do this"), "first\nsecond", "first\nsecond\n  do this"),
]


@pytest.mark.parametrize(("error", "summary", "diagnostics"), ERRORS, ids=lambda one: type(one).__name__)
def test_an_error_says_what_where_and_what_to_do(error: digsigd.Error, summary: str, diagnostics: str) -> None:
    """In one sentence, and with the hint below it."""
    assert error.summary() == summary
    assert error.diagnostics() == diagnostics
    assert error.what in summary


def test_programs_find_what_and_where_apart() -> None:
    """Texts for people are put together of these."""
    assert (FormatError("it is wrong", 16).what, FormatError("it is wrong", 16).offset) == ("it is wrong", 16)
    wrong = VerificationError("order", "it is wrong")
    assert (wrong.check, wrong.what, wrong.command, wrong.hint) == ("order", "it is wrong", None, "")


def test_text_of_others_draws_nothing_on_a_terminal() -> None:
    """Nor does it make lines of its own."""
    told = digsigd.Error("a\x1b[2Jb\nc", hint="d\x07e\nf").diagnostics()
    assert told == "a\\x1b[2Jb\\nc\n  d\\x07e\n  f"


def test_operators_read_the_detail_and_clients_do_not() -> None:
    """Each in one line."""
    error = BadTarball("it is damaged", hint="pack it again", detail="/srv/keys/m.tar.gz")
    assert error.for_operator() == "it is damaged | /srv/keys/m.tar.gz | pack it again"
    assert error.for_client() == "it is damaged: pack it again"
    assert "/srv" not in error.diagnostics()
    assert BadTarball("it is damaged").for_operator() == "it is damaged"


def test_an_ambiguous_chip_names_its_choices() -> None:
    """For programs, and in the hint."""
    with pytest.raises(AmbiguousChipError) as caught:
        find("imx6dls")
    assert all(choice in caught.value.diagnostics() for choice in caught.value.choices)
