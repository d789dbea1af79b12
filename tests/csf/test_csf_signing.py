"""What the policy lets through, a real cst signs, and the signature holds."""

from __future__ import annotations

import pytest

from digsigd import csf
from digsigd.testing import TrialPki
from tests.csf.test_csf_policy import ACCEPTED, CAAM_MID, UID
from tests.csf.texts import BASE, BLOCK, changed
from tests.helpers.descriptions import ENGINES, Artifact, Signer, commands, meaning

ARTIFACT = Artifact.of_size("flash.bin", 0x8000)


# A chain of keys needs an IMG certificate with the CA flag, which NXP's scripts do not make.
@pytest.mark.parametrize("name", [name for name in ACCEPTED if name != "a chain of keys"])
def test_what_is_accepted_is_signed(signer: Signer, normal_pki: TrialPki, fast_pki: TrialPki, name: str) -> None:
    """The blob holds the commands of the text in their order, with nothing changed on the way."""
    pki = fast_pki if name == "fast authentication" else normal_pki
    signed = signer.sign(ACCEPTED[name].encode(), pki.files, ARTIFACT)
    assert commands(signed.blob) == meaning(csf.parse(ACCEPTED[name].encode()))


@pytest.mark.parametrize("name", csf.ALLOWABLE_UNLOCKS)
def test_what_is_allowed_is_signed(signer: Signer, normal_pki: TrialPki, name: str) -> None:
    """Each unlock gets into the blob with its engine, its bit and its UID."""
    engine, feature = csf.ALLOWABLE_UNLOCKS[name]
    uid = f"\n{UID}" if feature in {"FIELD RETURN", "SCS", "JTAG"} else ""
    text = changed(CAAM_MID, f"Engine = {engine}\nFeatures = {feature}{uid}").encode()
    signed = signer.sign(text, normal_pki.files, ARTIFACT, name)
    assert commands(signed.blob) == meaning(csf.parse(text))


def test_an_engine_is_set_for_sha256(signer: Signer, normal_pki: TrialPki) -> None:
    """The hash that HAB4's engines compute; cst would set one for two others."""
    text = BASE + "[Set Engine]\nEngine = CAAM\nHash Algorithm = sha256\n"
    signed = signer.sign(text.encode(), normal_pki.files, ARTIFACT)
    assert commands(signed.blob)[-1] == ("other", 0xB1, 0x03, bytes([0, 0x17, ENGINES["CAAM"], 0]))
    for other in ("sha1", "sha512"):
        with pytest.raises(csf.CsfPolicyError, match=rf"line 19, column 1: \[Set Engine\] for {other}: HAB4 hashes"):
            csf.check(csf.parse(text.replace("= sha256", f"= {other}").encode()), csf.Policy())


def test_a_hash_that_cst_does_not_know_is_refused_by_its_line() -> None:
    """Instead of by cst, for which it is an undefined label."""
    text = BASE + "[Set Engine]\nEngine = CAAM\nHash Algorithm = sha384\n"
    with pytest.raises(csf.CsfSyntaxError, match=r'line 21, column 18: Hash Algorithm: "sha384" is not known'):
        csf.parse(text.encode())
    with pytest.raises(csf.CsfSyntaxError, match=r"line 19, column 1: \[Set Engine\] needs Hash Algorithm"):
        csf.parse(text.replace("Hash Algorithm = sha384\n", "").encode())


def test_64_blocks_are_signed(signer: Signer, normal_pki: TrialPki) -> None:
    """By one command with the only engine that has no bound; the largest number is far from what overflows cst."""
    blocks = ", \\\n".join(f'{0x7E0FC0 + n * 32:#x} {n * 32:#x} 0x20 "flash.bin"' for n in range(64))
    text = changed(BLOCK, blocks).replace("Version = 4.3", "Version = 4.3\nEngine = SW")
    signed = signer.sign(text.encode(), normal_pki.files, ARTIFACT)
    assert signed.verified.blocks == 64
    assert signed.verified.bytes_covered == 64 * 32


# cst 3.4.1 cannot open DER keys without a pass phrase; 4.0.1 can.
@pytest.mark.parametrize(("encoding", "encrypted"), [("pem", True), ("pem", False), ("der", True)])
def test_every_form_of_keys_is_found_by_cst(signer: Signer, encoding: str, encrypted: bool) -> None:
    """PEM and DER, with and without a pass phrase, in folders and flat: what was planned is what cst opens."""
    pki = TrialPki.make("p256", srks=1, encoding=encoding, encrypted=encrypted)  # type: ignore[arg-type]
    text = pki.csf('0x7e0fc0 0x0 0x2000 "flash.bin"', prefix="../").encode()
    flat = {name.rpartition("/")[2]: content for name, content in pki.files.items()}
    for members in (pki.files, flat):
        assert signer.sign(text, members, ARTIFACT).verified.srk == 1


def test_the_longest_names_never_reach_cst(signer: Signer, normal_pki: TrialPki) -> None:
    """Paths beyond what cst is used to, of any characters, are for us to read."""
    long = "/ä" * 71 + "/"
    text = BASE.replace('File = "', f'File = "{long}').replace("flash.bin", f"{long}#[x]=,\\flash.bin")
    assert max(len(name.encode()) for name in text.split('"')[1::2]) == 253
    assert signer.sign(text.encode(), normal_pki.files, ARTIFACT).verified.blocks == 1
