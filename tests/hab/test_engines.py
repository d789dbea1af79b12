"""Engines by the numbers that cst writes, and the features that each of them unlocks and initialises."""

from __future__ import annotations

import pytest

from digsigd import hab
from digsigd.hab import csf_blob, engines
from tests.conftest import CST_VERSIONS
from tests.hab.test_blob_rules import BLOCK, CSF, DATA, IMAGE, IMG, SRK_CSFK, SRK_IMG, TABLE, judged, over
from tests.helpers.blobs import Signing
from tests.helpers.descriptions import ENGINES, FEATURES
from tests.helpers.forge import Piece, authenticate, install_srk, other

# Those that cst takes for data.
HASHING = ("ANY", "RTIC", "SAHARA", "DCP", "CAAM", "SW")
UID = bytes(range(8))


def with_command(command: Piece) -> str:
    """What is said of a good CSF with another command in it."""
    return judged(install_srk(TABLE), SRK_CSFK, CSF, command, SRK_IMG, IMAGE)


@pytest.mark.parametrize("version", CST_VERSIONS)
def test_engines_are_called_as_in_descriptions(signing: Signing, version: str) -> None:
    """By whichever number cst writes for the name."""
    more = "".join(f"[Set Engine]\nEngine = {name}\nHash Algorithm = sha256\n" for name in HASHING)
    blob = signing.sign(signing.pki("p256"), version, edit=lambda text: text + more).blob
    found = [one for one in hab.CsfBlob.parse(blob).commands if isinstance(one, csf_blob.OtherCommand)]
    bodies = [one.body for one in found if one.tag == csf_blob.SET]
    assert [engines.name(body[2]) for body in bodies] == list(HASHING)
    assert all("-> CSFK, IMG ->" in with_command(other(0xB1, 3, body)) for body in bodies)


def test_engines_and_features_have_the_numbers_of_the_manual() -> None:
    """HABv4 API, 6.6, HAB_*_UNLOCK_* and HAB_CAAM_INIT_RNG: those that a real cst was seen to write."""
    assert {name: number for name, number in ENGINES.items() if name} == engines.NUMBERS
    assert {name: bit for known in engines.UNLOCKS.values() for name, bit in known.items()} == FEATURES
    assert {engines.CAAM: {"RNG": FEATURES["RNG"]}, engines.SRTC: {}} == engines.INITS
    assert [engines.name(number) for number in engines.HASHING] == list(HASHING)


@pytest.mark.parametrize(
    ("engine", "bits", "names"),
    [
        (engines.CAAM, 0, []),
        (engines.CAAM, 5, ["MID", "MFG"]),
        (engines.SNVS, 3, ["LP SWR", "ZMK WRITE"]),
        (engines.OCOTP, 0x8000000A, ["SRK REVOKE", "JTAG", "0x80000000"]),
        (engines.SRTC, 1, ["0x1"]),
        (0x55, 4, ["0x4"]),
    ],
)
def test_features_are_named_and_the_rest_is_a_number(engine: int, bits: int, names: list[str]) -> None:
    """In the order of their bits."""
    assert engines.features(engine, bits) == names


def test_other_engines_compute_no_hashes() -> None:
    """HABv4 API, 6.6, has a number for each, and cst takes none of them for data."""
    for name, number in ENGINES.items():
        if name and name not in HASHING:
            assert with_command(other(0xB1, 3, bytes([0, 0x17, number, 0]))) == f"command: {name} cannot hash"


def test_rtic_may_keep_its_hash() -> None:
    """HAB_RTIC_KEEP changes no byte on the way in; no other engine has it."""
    kept = authenticate(2, over(DATA, IMG), BLOCK, engine=0x05, configuration=0x80)
    assert "-> CSFK, IMG ->" in judged(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, kept)
    for engine in (0x06, 0x1B, 0x1D, 0xFF):
        data = authenticate(2, over(DATA, IMG), BLOCK, engine=engine, configuration=0x80)
        says = judged(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, data)
        assert says.startswith("data-signature: the configuration 0x80 makes ")


@pytest.mark.parametrize("features", range(16))
def test_ocotp_needs_a_unique_id_for_what_is_of_one_chip(features: int) -> None:
    """HABv4 API, "Unlock": FIELD RETURN, SCS and JTAG are, SRK REVOKE is not."""
    plain, of_one_chip = (other(0xB2, 0x21, bytes([0, 0, 0, features]) + uid) for uid in (b"", UID))
    good, wrong = (of_one_chip, plain) if features & 0b1101 else (plain, of_one_chip)
    assert "-> CSFK, IMG ->" in with_command(good)
    assert with_command(wrong).endswith((" needs a chip's unique id", " must not have a unique id"))


@pytest.mark.parametrize("length", [0, 3, 5, 8, 11, 12, 13])
def test_features_are_one_word(length: int) -> None:
    """Behind which only OCOTP has a unique id, of eight bytes."""
    features = bytes([0, 0, 0, 2]).ljust(length, b"\0")[:length]
    for tag, name in ((0xB2, "Unlock"), (0xB4, "Init")):
        says = with_command(other(tag, 0x1D, features))
        assert says == f"command: {name} of CAAM with {length} bytes; it must have 4"
