"""A request whose keys are on a token: real SoftHSM2 and csts, and fakes where a failure has to be forced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted

from digsigd.csf import Policy
from digsigd.csf.cst_files import CONFIGURATION
from digsigd.errors import BadTarball, CstFailed, DigsigError, Refused, TokenFailed
from digsigd.signing.pkcs11 import Access, Token
from digsigd.testing import TrialImage, TrialPki
from tests.conftest import CST_VERSIONS
from tests.helpers.daemons import MACHINE
from tests.helpers.hsm import SoftHsm, provider
from tests.helpers.proof import proven
from tests.helpers.signers import SignerInTest, reactor

PIN = 'p "i\\n$7391-zyx'
IMAGE = TrialImage.of_size(0x4000)
SPL = {"spl.bin": IMAGE.data}
# libp11's words after a login that C_Login ended with an error.
LOGIN_FAILED = "Login failed\\n40076E867A7F0000:error:4100%04X:PKCS#11 module:ERR_CKR_error:why:p11_slot.c:208:\\n"


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory, pki: TrialPki) -> SoftHsm:
    hsm = SoftHsm(tmp_path_factory.mktemp("hsm"))
    hsm.init_token("release", PIN)
    hsm.put_pki("release", PIN, pki)
    return hsm


@pytest.fixture(scope="module")
def text(hsm: SoftHsm, pki: TrialPki) -> str:
    return hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))


@pytest_twisted.async_yield_fixture
async def signer(tmp_path: Path, cst_base: Path, pki: TrialPki, hsm: SoftHsm) -> AsyncIterator[SignerInTest]:
    made = SignerInTest(tmp_path, cst_base)
    made.put_tarball(hsm.srk_tarball(pki))
    made.tokens = {"release": Token("release", PIN, ("imx8mm-*",), 1, clock=reactor)}
    fakes = {f"fake{number}": "engine" for number in range(9)}
    made.access = Access(
        Path(hsm.MODULE), provider=provider(cst_base), environment=hsm.environ, ways=fakes  # type: ignore[arg-type]
    )  # fmt: skip
    yield made
    made.stop()
    assert made.queue.running == made.runner.running == 0


@pytest.mark.parametrize("version", CST_VERSIONS)
async def test_a_token_signs(signer: SignerInTest, pki: TrialPki, text: str, version: str) -> None:
    """By OpenSSL's engine and by its provider; the directory with the PIN is gone at once."""
    signed = await signer.sign(signer.request(text, SPL, version=version, backend="pkcs11"))
    proven(pki, IMAGE, signed.blob)
    assert not signer.workdirs[-1].path.exists()


async def test_cst_finds_the_pin_in_a_private_file_alone(signer: SignerInTest, text: str) -> None:
    """It is in no argument and no variable, and what cst says of it is blanked out."""
    tool = signer.put_tool('echo "$@"; env; echo; grep PIN "$OPENSSL_CONF"; stat -c %a "$OPENSSL_CONF"; exit 1')
    with pytest.raises(Refused) as caught:
        await signer.sign(signer.request(text, SPL, version=tool, backend="pkcs11"))
    told = caught.value.detail
    assert told.startswith("ended with exit code 1: -b pkcs11 -i description.csf -o csf.bin; ")
    assert f"OPENSSL_CONF={CONFIGURATION}" in told
    assert 'PIN = "***"; 600' in told
    configuration = (signer.workdirs[-1].path / CONFIGURATION).read_text()
    assert 'PIN = "p \\"i\\\\n\\$7391-zyx"' in configuration
    assert "7391-zyx" not in told


async def test_another_machines_token_is_refused_before_anything_is_written(signer: SignerInTest, text: str) -> None:
    """And one that there is not; neither is told from the other."""
    signer.tokens = {"release": Token("release", PIN, ("another",), 1, clock=reactor)}
    for wrong in (text, text.replace("token=release", "token=other")):
        with pytest.raises(Refused, match=f"machine '{MACHINE}' has no token with that name") as caught:
            await signer.sign(signer.request(wrong, SPL, backend="pkcs11"))
        assert list(signer.workdirs[-1].path.iterdir()) == []
        assert caught.value.hint == "its tokens: none"


@pytest.mark.parametrize("version", CST_VERSIONS)
async def test_a_wrong_pin_is_tried_once(signer: SignerInTest, text: str, version: str) -> None:
    """Then cst is not started any more until somebody reloads."""
    signer.tokens = {"release": Token("release", "wrong-1234", None, 1, clock=reactor)}
    with pytest.raises(TokenFailed, match="the PIN is wrong"):
        await signer.sign(signer.request(text, SPL, version=version, backend="pkcs11"))
    must_not_run = signer.put_tool("kill -SEGV $$")
    with pytest.raises(TokenFailed, match="the PIN is wrong"):
        await signer.sign(signer.request(text, SPL, version=must_not_run, backend="pkcs11"))
    signer.tokens["release"].reload(PIN, None)
    await signer.sign(signer.request(text, SPL, version=version, backend="pkcs11"))


@pytest.mark.parametrize(
    ("tool", "kind", "words"),
    [
        (f"printf '{LOGIN_FAILED % 0xA4}'; exit 1", TokenFailed, "the PIN is locked"),
        (f"printf '{LOGIN_FAILED % 0x32}'; exit 1", TokenFailed, "login to token .* failed"),
        ("echo Unable to load PKCS#11 module; exit 1", TokenFailed, "module of this host cannot be loaded"),
        ("echo Found 1 slot; echo no good; exit 1", Refused, "ended with exit code 1: no good"),
        ("kill -SEGV $$", CstFailed, "SIGSEGV"),
        ("exit 0", CstFailed, "wrote no CSF blob"),
    ],
)
async def test_each_way_in_which_a_token_fails_has_its_error(
    signer: SignerInTest, text: str, tool: str, kind: type[DigsigError], words: str
) -> None:
    """Forced by words that libp11 says where a device is locked or gone; its chatter is left out."""
    with pytest.raises(kind, match=words) as caught:
        await signer.sign(signer.request(text, SPL, version=signer.put_tool(tool), backend="pkcs11"))
    assert type(caught.value) is kind
    assert bool(signer.tokens["release"].failed) == (words == "the PIN is locked")


@pytest.mark.parametrize("version", CST_VERSIONS)
async def test_certificates_of_a_token_are_compared_once_they_are_seen(
    signer: SignerInTest, pki: TrialPki, hsm: SoftHsm, text: str, version: str
) -> None:
    """They are in the blob alone: a table of other keys, or another index of this one."""
    wrong = text.replace("Source index = 0", "Source index = 1")
    with pytest.raises(Refused, match=r"Source index = 1 is SRK 2, but .* is signed by SRK 1") as caught:
        await signer.sign(signer.request(wrong, SPL, version=version, backend="pkcs11"))
    assert caught.value.line == 9
    signer.put_tarball(hsm.srk_tarball(TrialPki.make("p256", srks=2)))
    with pytest.raises(BadTarball, match="not signed by an SRK of the table"):
        await signer.sign(signer.request(text, SPL, version=version, backend="pkcs11"))


async def test_a_pinned_fuse_value_holds_for_tokens_as_well(signer: SignerInTest, pki: TrialPki, text: str) -> None:
    """The table is a file of the key store in any case."""
    signer.rules = replace(signer.rules, policy=Policy(), fuse_value=bytes(32))
    with pytest.raises(BadTarball, match=pki.fuse_value.hex()):
        await signer.sign(signer.request(text, SPL, backend="pkcs11"))
