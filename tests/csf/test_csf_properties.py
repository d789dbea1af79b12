"""What holds for every description and for every text."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digsigd import csf
from digsigd.csf import model
from tests.csf import strategies

# No deadline: how quick a machine is proves nothing. No database: a run leaves nothing behind.
quick = settings(deadline=None, database=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
MEMBERS = ("crts/SRK_1_2_3_4_table.bin", "crts/a_crt.pem", "keys/a_key.pem", "keys/key_pass.txt")


def told(text: bytes, error: csf.CsfError) -> None:
    """An error is one short printable line, and its place is in the text."""
    assert str(error).isprintable()
    assert len(str(error)) < 1000
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if error.line is None:
        assert error.column is None
        return
    assert 1 <= error.line <= len(lines)
    if error.column is not None:
        assert 1 <= error.column <= len(lines[error.line - 1])


def taken_through(text: bytes) -> None:
    """Parse, check and resolve; whatever goes wrong is the error of that step."""
    try:
        description = csf.parse(text)
    except csf.CsfSyntaxError as error:
        told(text, error)
        return
    assert csf.parse(csf.write(description)) == description
    try:
        csf.check(description, csf.Policy(frozenset(csf.ALLOWABLE)))
    except csf.CsfPolicyError as error:
        told(text, error)
        return
    try:
        resolved = csf.resolve(description, members=MEMBERS, artifacts={"flash.bin": 1 << 20})
    except (csf.CsfNameError, csf.CsfPolicyError) as error:
        told(text, error)
        return
    written = csf.parse(csf.write(resolved.description))
    assert written == resolved.description
    ours = {needed.name for needed in resolved.files} | {"artifact"}
    for command in written.commands:
        if isinstance(command, model.AuthenticateData):
            assert {block.file for block in command.blocks} <= ours
        elif hasattr(command, "file"):
            assert command.file in ours


@quick
@given(strategies.descriptions)
def test_what_is_written_is_read_again(description: csf.Description) -> None:
    """Nothing is lost, added or changed between writing and reading."""
    assert csf.parse(csf.write(description)) == description


@quick
@given(strategies.descriptions)
def test_what_is_written_suits_cst(description: csf.Description) -> None:
    """No line reaches cst's buffers, and there is one block on each."""
    for line in csf.write(description).split(b"\n"):
        assert len(line) <= 100 + 255
        assert line.count(b'"') in {0, 2}


@quick
@given(st.binary(max_size=300))
def test_bytes_raise_nothing_else(text: bytes) -> None:
    """Whatever a client sends, it is a description or a CsfError."""
    taken_through(text)


@quick
@given(strategies.soups)
def test_words_of_the_language_raise_nothing_else(text: bytes) -> None:
    """Commands, labels, values and marks in any order."""
    taken_through(text)


@settings(quick, max_examples=600)
@given(strategies.mutants())
def test_mutated_samples_raise_nothing_else(text: bytes) -> None:
    """Descriptions of real builds with something wrong in them."""
    taken_through(text)


@quick
@given(strategies.descriptions)
def test_any_description_is_checked_without_surprise(description: csf.Description) -> None:
    """The policy and the names are looked at with values that no text has to have given."""
    with suppress(csf.CsfPolicyError):
        csf.check(description, csf.Policy())
    with suppress(csf.CsfNameError, csf.CsfPolicyError):
        csf.resolve(description, members=MEMBERS, artifacts={"flash.bin": 1 << 20})
