"""What holds for every description for AHAB and for every text."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from digsigd import csf
from digsigd.csf import ahab
from tests.csf import ahab_strategies as ours
from tests.csf import strategies
from tests.csf.ahab_texts import SGK, SRK, TABLE
from tests.csf.test_csf_properties import quick, told

MEMBERS = [TABLE, *(name for one in (SRK, SGK) for name in (one, one.replace("_crt", "_key")))]
ALL = csf.Policy(frozenset(csf.ALLOWABLE))


def taken_through(text: bytes) -> None:
    """Parse, check and resolve; whatever goes wrong is an error with its place."""
    told_apart = ahab.is_ahab(text)
    try:
        description = ahab.parse(text)
    except csf.CsfSyntaxError as error:
        told(text, error)
        return
    assert ahab.parse(ahab.write(description)) == description
    try:
        ahab.check(description, ALL)
        assert told_apart
        resolved = ahab.resolve(description, members=MEMBERS, artifacts={"flash.bin": 1 << 20})
    except (csf.CsfPolicyError, csf.CsfNameError) as error:
        told(text, error)
        return
    assert_ours(resolved)


def assert_ours(resolved: ahab.Resolved) -> None:
    """Nothing but our names is in what cst gets, and each container is there once."""
    names = {one.name for one in resolved.files}
    assert len(resolved.runs) == len(resolved.containers) == len(set(resolved.containers))
    for run, (header, block) in zip(resolved.runs, resolved.containers, strict=True):
        assert ahab.parse(ahab.write(run)) == run
        assert ahab.is_ahab(ahab.write(run))
        assert {run.srk.file, run.srk.source} <= names
        assert run.certificate is None or run.certificate.file in names
        (data,) = run.data
        assert data.file.startswith("container")
        assert data.offsets == (0, block - header)


@quick
@given(st.binary(max_size=300))
def test_any_bytes_are_a_description_for_ahab_or_an_error(text: bytes) -> None:
    """Whatever a client sends."""
    taken_through(text)


@quick
@given(ours.soups | strategies.soups)
def test_words_of_both_languages_raise_nothing_else(text: bytes) -> None:
    """Commands, labels, values and marks in any order."""
    taken_through(text)
    taken_through(b"[Header]\nTarget = AHAB\n" + text)


@settings(quick, max_examples=600)
@given(ours.mutants())
def test_mutated_descriptions_for_ahab_raise_nothing_else(text: bytes) -> None:
    """With something wrong in them."""
    taken_through(text)
    with suppress(csf.CsfError):
        csf.parse(text)
        # What is read as a description for HAB4 is none for AHAB.
        assert not ahab.is_ahab(text)


@quick
@given(ours.descriptions)
def test_what_is_written_for_ahab_is_read_again(description: ahab.Description) -> None:
    """Nothing is lost, added or changed between writing and reading, and the policy raises nothing of its own."""
    assert ahab.parse(ahab.write(description)) == description
    with suppress(csf.CsfPolicyError):
        ahab.check(description, ALL)
    for line in ahab.write(description).split(b"\n"):
        assert len(line) <= 100 + 255
        assert line.count(b'"') in {0, 2}


@quick
@given(ours.accepted())
def test_what_is_allowed_is_resolved(description: ahab.Description) -> None:
    """Every value reaches cst, but for names and offsets."""
    with suppress(csf.CsfPolicyError):
        ahab.check(description, csf.Policy())
    ahab.check(description, ALL)
    resolved = ahab.resolve(description, members=MEMBERS, artifacts={"flash.bin": 1 << 20})
    assert_ours(resolved)
    assert sorted(one.offsets for one in description.data) == list(resolved.containers)
    for run in resolved.runs:
        assert run.header == description.header
        for name in ("source_index", "source_set", "revocations", "check_all_signatures", "fast_boot"):
            assert getattr(run.srk, name) == getattr(description.srk, name)
        for name in ("permissions", "permissions_data", "uuid", "fuse_version", "signature"):
            assert getattr(run.certificate, name, None) == getattr(description.certificate, name, None)
