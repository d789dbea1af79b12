"""The length of a CSF's commands is known before cst runs, and never more than cst and HAB can hold."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digsigd import csf
from digsigd.csf.size import MAX_BYTES, csf_size
from digsigd.testing import TrialPki
from tests.csf.test_csf_policy import ACCEPTED, KEY, UID
from tests.csf.texts import BASE, FAST, changed, lines
from tests.helpers.descriptions import Artifact, Signer

ARTIFACT = Artifact.of_size("flash.bin", 0x8000)
CAAM = ("Version = 4.3", "Version = 4.3\nEngine = CAAM")
MID = "[Unlock]\nEngine = CAAM\nFeatures = MID\n"
NO_UNLOCK = lines(1, 8) + lines(12, 18)


def blocks(first: int, count: int) -> str:
    return ", \\\n".join(f'{0x7E0FC0 + n * 64:#x} {n * 64:#x} 0x40 "flash.bin"' for n in range(first, first + count))


def data(count: int, index: int = 2) -> str:
    """So many blocks, eight by each command."""
    return "".join(
        f"[Authenticate Data]\nVerification index = {index}\nBlocks = {blocks(at, min(8, count - at))}\n"
        for at in range(0, count, 8)
    )


def unlock(engine: str, features: str, uid: str = "") -> str:
    return f"[Unlock]\nEngine = {engine}\nFeatures = {features}\n{uid}"


# Every command that may stand behind the others, in every form that differs in its length.
MORE = [
    MID,
    unlock("CAAM", "RNG"),
    unlock("CAAM", "MID, RNG, MFG"),
    unlock("SNVS", "LP SWR, ZMK WRITE"),
    unlock("OCOTP", "SRK REVOKE"),
    unlock("OCOTP", "JTAG", f"{UID}\n"),
    unlock("OCOTP", "FIELD RETURN, SRK REVOKE, SCS", f"{UID}\n"),
    "[Init]\nEngine = CAAM\nFeatures = RNG\n",
    "[Init]\nEngine = SRTC\n",
    "[Set Engine]\nEngine = SAHARA\nHash Algorithm = sha256\nEngine Configuration = 0\n",
    "[Unlock]\nEngine = SRTC\n",
    "[Unlock]\nEngine = SW\n",
    "[Set Engine]\nEngine = ANY\nHash Algorithm = sha256\n",
    "[NOP]\n",
]
HEADERS = ["", "\nEngine = CAAM", "\nEngine = CAAM\nEngine Configuration = 0", "\nEngine = SW", "\nEngine = ANY"]


@st.composite
def descriptions(draw: st.DrawFn) -> tuple[bool, str]:
    """Whether it is one with fast authentication, and the text; a few are too long."""
    fast = draw(st.booleans())
    text = (FAST if fast else BASE).replace("Version = 4.3", f"Version = 4.3{draw(st.sampled_from(HEADERS))}")
    index = 0 if fast else 2
    if not fast and draw(st.booleans()):
        text += KEY.replace("index = 2", "index = 3")
    counts = draw(st.lists(st.integers(1, 20), max_size=3))
    more = [data(count, index) for count in counts] + draw(st.lists(st.sampled_from(MORE), max_size=60))
    return fast, text + "".join(draw(st.permutations(more)))


def test_the_length_is_what_cst_makes(signer: Signer, normal_pki: TrialPki, fast_pki: TrialPki) -> None:
    """Or the description is refused, and then the sum of its lengths is too long."""

    @settings(deadline=None, database=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(descriptions())
    def holds(drawn: tuple[bool, str]) -> None:
        fast, text = drawn
        description = csf.parse(text.encode())
        if csf_size(description) > MAX_BYTES:
            with pytest.raises(csf.CsfPolicyError, match="cst and HAB allow at most 768"):
                csf.check(description, csf.Policy(frozenset(csf.ALLOWABLE)))
            return
        signed = signer.sign(text.encode(), (fast_pki if fast else normal_pki).files, ARTIFACT, *csf.ALLOWABLE)
        assert signed.blob.header_length == csf_size(description)

    holds()


@pytest.mark.parametrize("name", [name for name in ACCEPTED if name != "a chain of keys"])
def test_the_length_of_what_boards_boot_is_known(
    signer: Signer, normal_pki: TrialPki, fast_pki: TrialPki, name: str
) -> None:
    """All of them are far from too long."""
    text = ACCEPTED[name].encode()
    pki = fast_pki if name == "fast authentication" else normal_pki
    assert signer.sign(text, pki.files, ARTIFACT).blob.header_length == csf_size(csf.parse(text)) < 200


# 64 blocks and as many unlocks as fit: with Engine = CAAM in the header cst appends one of 8 bytes, without it none.
FULL = {
    "what cst appends fits": changed(*CAAM, NO_UNLOCK) + data(63) + MID * 10 + "[NOP]\n[NOP]\n",
    "nothing is appended": NO_UNLOCK + data(63) + MID * 11 + "[NOP]\n[NOP]\n",
    "a generator is told of": changed(*CAAM, NO_UNLOCK) + data(63) + MID * 10 + unlock("CAAM", "RNG") + "[NOP]\n" * 2,
}


@pytest.mark.parametrize("name", FULL)
def test_768_bytes_are_signed_and_one_command_more_is_refused(signer: Signer, normal_pki: TrialPki, name: str) -> None:
    """The shortest command there is; the error gives its line, and cst never sees it."""
    text = FULL[name]
    signed = signer.sign(text.encode(), normal_pki.files, ARTIFACT)
    assert signed.blob.header_length == MAX_BYTES
    assert signed.verified.blocks == 64
    runs, line = signer.runs, text.count("\n") + 1
    with pytest.raises(csf.CsfPolicyError, match=r"772 bytes|764 bytes and cst appends an Unlock of CAAM RNG") as error:
        signer.sign(f"{text}[NOP]\n".encode(), normal_pki.files, ARTIFACT)
    assert (error.value.line, error.value.column) == (line, 1)
    assert signer.runs == runs


def test_the_error_is_at_the_command_that_crosses_the_bound() -> None:
    """Not at those behind it."""
    text = NO_UNLOCK + "[NOP]\n" + data(60) + MID * 40
    # 76 bytes for the base and 576 for the blocks leave room for 14 unlocks of 8.
    line = (NO_UNLOCK + "[NOP]\n" + data(60) + MID * 14).count("\n") + 1
    with pytest.raises(csf.CsfPolicyError) as error:
        csf.check(csf.parse(text.encode()), csf.Policy())
    assert (error.value.line, error.value.column) == (line, 1)
    assert error.value.what == "with this command the CSF's commands have 772 bytes, but cst and HAB allow at most 768"


def test_the_unique_id_of_a_chip_counts() -> None:
    """Eight bytes, behind the word of features."""
    plain, of_one_chip = "[Unlock]\nEngine = OCOTP\nFeatures = JTAG\n", "UID = 1, 2, 3, 4, 5, 6, 7, 8\n"
    sizes = [csf_size(csf.parse(f"{BASE}{text}".encode())) for text in ("", plain, plain + of_one_chip)]
    assert [size - sizes[0] for size in sizes] == [0, 8, 16]
