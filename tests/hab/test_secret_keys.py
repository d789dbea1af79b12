"""The commands of encrypted images: where they stand, which keys there are, and how each is used once."""

from __future__ import annotations

import pytest

from digsigd import hab
from tests.hab.test_blob_rules import BLOCK, CSF, DATA, ENCRYPTED, IMAGE, SRK_CSFK, SRK_IMG, TABLE
from tests.helpers.blobs import Signed
from tests.helpers.forge import Piece, authenticate, decrypt, forge, install_srk, secret_key

KEY, USED = secret_key(0x7EC000, 0, 0), decrypt(0, b"nonce and mac", ENCRYPTED)


def judged(*pieces: Piece) -> str:
    """What is proven of a CSF with these commands, or what refuses it."""
    signed = Signed(forge(install_srk(TABLE), *pieces), TABLE, ((hab.Block(BLOCK[0], 0, BLOCK[1]),),), image=DATA)
    try:
        return str(signed.verify(encrypted_ok=True))
    except hab.VerificationError as error:
        return str(error)


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_there_are_four_secret_keys_and_four_keys_to_unwrap_them(index: int) -> None:
    """HABv4 API, 4.3.7, and HAB_SNVS_*."""
    used = decrypt(index, b"mac", ENCRYPTED)
    assert "-> CSFK, IMG ->" in judged(SRK_CSFK, CSF, SRK_IMG, IMAGE, secret_key(0x7EC000, 0, index), used)
    key = secret_key(0x7EC000, index, 0)
    assert "-> CSFK, IMG ->" in judged(SRK_CSFK, CSF, SRK_IMG, IMAGE, key, USED)


def test_secret_keys_are_installed_and_used_behind_authenticate_csf() -> None:
    """Before it, whoever can write the CSF chooses what is decrypted to where."""
    says = judged(SRK_CSFK, KEY, CSF, SRK_IMG, IMAGE, USED)
    assert says == "order: a secret key is installed before the commands are authenticated"
    says = judged(SRK_CSFK, USED, CSF, SRK_IMG, IMAGE)
    assert says == "order: data is decrypted before the commands are authenticated"


def test_data_is_decrypted_by_caam_as_it_stands() -> None:
    """By its name or as ANY; no other engine has the key, and none is set up to swap bytes."""
    for engine in (0x00, 0x1D):
        used = decrypt(0, b"mac", ENCRYPTED, engine=engine)
        assert "-> CSFK, IMG ->" in judged(SRK_CSFK, CSF, SRK_IMG, IMAGE, KEY, used)
    eight = decrypt(0, b"mac", *[(ENCRYPTED[0] + at, 0x10) for at in range(0, 0x80, 0x10)])
    assert "-> CSFK, IMG ->" in judged(SRK_CSFK, CSF, SRK_IMG, IMAGE, KEY, eight)
    for engine in (0x00, 0x1D):
        swapped = authenticate(0, lambda _: b"mac", ENCRYPTED, protocol=0xA3, engine=engine, configuration=1)
        says = judged(SRK_CSFK, CSF, SRK_IMG, IMAGE, KEY, swapped)
        assert says.startswith(
            f"secret-key: the {'configuration 0x1 makes CAAM' if engine else 'engine ANY must have configuration 0'}"
        )
    flagged = authenticate(0, lambda _: b"mac", ENCRYPTED, protocol=0xA3, engine=0x1D, flags=1)
    says = judged(SRK_CSFK, CSF, SRK_IMG, IMAGE, KEY, flagged)
    assert says.startswith("secret-key: data is decrypted by the secret key 0")
