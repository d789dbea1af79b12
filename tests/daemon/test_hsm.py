"""Keys on a token, with real SoftHSM2 and both csts: 3.4.1 by OpenSSL's engine, 4.0.1 by its provider."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialImage, TrialPki
from tests.helpers.daemons import IMAGE, MACHINE, Daemon, Start
from tests.helpers.hsm import SoftHsm, label, provider
from tests.helpers.keys import trial_keys
from tests.helpers.proof import proven
from tests.helpers.units import in_unit, unit_calls

# Digits alone would stand in some hash or number of a log.
PIN = 'p "i\\n$7391-zyx'
VERSIONS = ["3.4.1", "4.0.1"]
MakeDaemon = Callable[..., Daemon]


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory, pki: TrialPki, other_pki: TrialPki) -> SoftHsm:
    hsm = SoftHsm(tmp_path_factory.mktemp("hsm"))
    hsm.init_token("release", PIN)
    hsm.put_pki("release", PIN, pki)
    hsm.init_token("other token", PIN)
    hsm.put_pki("other token", PIN, other_pki)
    return hsm


@pytest.fixture
def make(start: Start, tmp_path: Path, cst_base: Path, pki: TrialPki, hsm: SoftHsm) -> MakeDaemon:
    """A daemon whose machine has its SRK table in the key store, and its keys on the token."""

    def one(
        pin: str = PIN, *, module: str = SoftHsm.MODULE, more: str = "", before: str = "", **environ: str
    ) -> Daemon:
        pin_file = tmp_path / "pin"
        pin_file.write_text(pin + "\n")
        config = (
            f'[pkcs11]\nmodule = "{module}"\nprovider = "{provider(cst_base)}"\n'
            f'paths = ["{hsm.folder}", "{tmp_path}"]\n{before}'
            f'[pkcs11.tokens."other token"]\npin_file = "{pin_file}"\nmachines = ["another"]\n'
            f'[pkcs11.tokens.release]\npin_file = "{pin_file}"\nmachines = ["imx8mm-*"]\n{more}'
        )
        daemon = start(config, **{**hsm.environ, **environ})
        daemon.put_keys(MACHINE, hsm.srk_tarball(pki))
        return daemon

    return one


def post(daemon: Daemon, pki: TrialPki, csf: str, version: str) -> httpx.Response:
    return daemon.post(pki, csf=csf, cstversion=version, backend="pkcs11")


def nowhere(secret: str, daemon: Daemon, *answers: httpx.Response) -> None:
    """The secret is in no answer, no log line, and no file that is left."""
    assert daemon.left_behind() == []
    for text in (daemon.log(), *(answer.text for answer in answers)):
        assert secret not in text


def test_a_token_signs_inside_the_unit(
    tmp_path: Path, cst_base: Path, hsm: SoftHsm, pki: TrialPki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both versions below the filters of the systemd unit, in the cage that works there."""
    for name, value in hsm.environ.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "pin").write_text(PIN)
    daemon = in_unit(
        tmp_path,
        cst_base,
        f'[cst]\ncage = "require"\n[pkcs11]\nmodule = "{hsm.MODULE}"\nprovider = "{provider(cst_base)}"\n'
        f'paths = ["{hsm.folder}"]\n[pkcs11.tokens.release]\npin_file = "{tmp_path}/pin"\n',
        unit_calls(),
    )
    daemon.put_keys(MACHINE, hsm.srk_tarball(pki))
    daemon.start()
    try:
        for version in VERSIONS:
            answer = post(daemon, pki, hsm.csf(pki, "release", IMAGE.blocks("spl.bin")), version)
            assert answer.status_code == 200, answer.text + daemon.log()
            proven(pki, IMAGE, answer.content)
    finally:
        daemon.stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_token_signs(make: MakeDaemon, hsm: SoftHsm, pki: TrialPki, version: str) -> None:
    """With names as clients write them, and the placeholder that older clients send for the PIN."""
    daemon = make()
    text = hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))
    answers = []
    for one in (
        text,
        text.replace(";type=cert", ";type=cert;pin-value=password"),
        text.replace("token=release", "token=%72elease").replace(";type=cert", ""),
    ):
        answers.append(post(daemon, pki, one, version))
        assert answers[-1].status_code == 200, answers[-1].text
        proven(pki, IMAGE, answers[-1].content)
    assert daemon.log().count(f"cst {version} ended with exit code 0") == 3
    nowhere(PIN, daemon)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_source_index_that_does_not_fit_is_told(make: MakeDaemon, hsm: SoftHsm, pki: TrialPki, version: str) -> None:
    """As with keys in files, though which certificates they are is seen only in what cst made of them."""
    daemon = make()
    text = hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))
    answer = post(daemon, pki, text.replace("Source index = 0", "Source index = 1"), version)
    assert answer.status_code == 422, answer.text
    for words in ("Source index = 1 is SRK 2", "signed by SRK 1", "use Source index = 0"):
        assert words in answer.text
    nowhere(PIN, daemon, answer)


REFUSED = {
    "a PIN": (";type=cert", ";type=cert;pin-value=1234", "clients must not send one"),
    "a source of PINs": (";type=cert", ";pin-source=file:/etc/passwd", "pin-source"),
    "a source of PINs as a query": (";type=cert", "?pin-source=|id", "pin-source"),
    "a module": (";type=cert", "?module-path=/tmp/evil.so", "module-path"),
    "a module's name": (";type=cert", ";module-name=evil", "module-name"),
    "another kind": (";type=cert", ";type=private", "type=cert"),
    "an attribute that is not known": (";type=cert", ";slot-id=1", "slot-id"),
    "a token that is not there": ("token=release", "token=nothing", "has no token with that name"),
    "a token of another machine": ("token=release", "token=other%20token", "has no token with that name"),
    "no token": ("token=release;", "", "the PKCS #11 URI has no token"),
    "an object that is not there": ("object=", "object=no", "is not on token"),
    "a file": ('"pkcs11:', '"crts/', "certificates and keys are on a token"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_client_must_not_say_is_refused(make: MakeDaemon, hsm: SoftHsm, pki: TrialPki, version: str) -> None:
    """Each with 422 and in words; the token is as good as before."""
    daemon = make()
    text = hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))
    for name, (old, new, words) in REFUSED.items():
        answer = post(daemon, pki, text.replace(old, new), version)
        assert (answer.status_code, words in answer.text) == (422, True), (name, answer.text)
        nowhere(PIN, daemon, answer)
    # What a library says of a PIN, as a name.
    login = "Login%20failed%20error:410000A0:PKCS%2311%20module:"
    for spoof in (login, "Error%20160%20returned%20by%20C_Login"):
        answer = post(daemon, pki, re.sub("object=[^;]*", f"object={spoof}", text), version)
        assert answer.status_code == 422, answer.text
    twice = text.replace("type=cert", "type=cert;type=cert", 1)
    assert post(daemon, pki, twice, version).status_code == 400
    assert post(daemon, pki, text, version).status_code == 200
    assert daemon.post(pki, csf=text, cstversion=version).status_code == 422


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_pin_is_tried_once(make: MakeDaemon, hsm: SoftHsm, pki: TrialPki, tmp_path: Path, version: str) -> None:
    """However many ask at once; readiness tells, and a reload tries the PIN that is then in the file."""
    daemon = make("wrong-1234", more="max_sessions = 4\n")
    text = hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(daemon, pki, text, version), range(6)))
    assert {answer.status_code for answer in answers} == {500}
    assert all("the PIN is wrong" in answer.text for answer in answers)
    assert len(re.findall(rf"cst {re.escape(version)} ended", daemon.log())) <= 1
    assert daemon.log().count("is not used until the daemon reloads") == 1
    nowhere("wrong-1234", daemon, *answers)
    daemon.wait_for(lambda: "token release: the PIN is wrong" in httpx.get(f"{daemon.url}/readyz").text)
    (tmp_path / "pin").write_text(PIN)
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_for_log("reloaded")
    assert post(daemon, pki, text, version).status_code == 200


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("module", ["/nowhere/module.so", "/etc/passwd"])
def test_a_module_that_is_none_is_told(
    make: MakeDaemon, hsm: SoftHsm, pki: TrialPki, module: str, version: str
) -> None:
    """As the host's own fault, without its path."""
    daemon = make(module=module)
    answer = post(daemon, pki, hsm.csf(pki, "release", IMAGE.blocks("spl.bin")), version)
    assert (answer.status_code, "module of this host" in answer.text) == (500, True), answer.text
    assert module not in answer.text
    nowhere(PIN, daemon, answer)


def test_a_cst_without_tokens_says_so(start: Start, tmp_path: Path, hsm: SoftHsm, pki: TrialPki) -> None:
    """And a host without tokens."""
    tool = tmp_path / "old"
    tool.write_text("#!/bin/sh\nexit 1\n")
    tool.chmod(0o755)
    (tmp_path / "pin").write_text(PIN)
    daemon = start(
        f'[cst.versions]\n"3.3.1" = "{tool}"\n[pkcs11.tokens.release]\npin_file = "{tmp_path}/pin"\n', **hsm.environ
    )
    text = hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))
    answer = post(daemon, pki, text, "3.3.1")
    assert (answer.status_code, "cst 3.3.1 has no pkcs11 backend" in answer.text) == (422, True)
    assert "no pkcs11 backend" in post(start(), pki, text, "3.4.1").text


def test_the_environment_has_the_pin_of_the_only_token(
    start: Start, cst_base: Path, hsm: SoftHsm, pki: TrialPki
) -> None:
    """As with the existing servers."""
    config = f'[pkcs11]\nmodule = "{SoftHsm.MODULE}"\npaths = ["{hsm.folder}"]\n[pkcs11.tokens.release]\n'
    daemon = start(config, **hsm.environ, DIGSIGSERVER_YUBIHSM_PASSWORD=PIN)
    daemon.put_keys(MACHINE, hsm.srk_tarball(pki))
    answer = post(daemon, pki, hsm.csf(pki, "release", IMAGE.blocks("spl.bin")), "3.4.1")
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("version", VERSIONS)
def test_many_requests_share_a_token(make: MakeDaemon, hsm: SoftHsm, pki: TrialPki, version: str) -> None:
    """200 by 8 clients: all signed, none lost, none kept waiting by the others, and nothing left."""
    daemon = make()
    text = hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))
    order: list[int] = []

    def some(number: int) -> list[bytes]:
        answers = []
        with httpx.Client() as client:
            for _ in range(25):
                answers.append(daemon.post(pki, csf=text, cstversion=version, backend="pkcs11", client=client))
                order.append(number)
        assert {answer.status_code for answer in answers} == {200}
        return [answer.content for answer in answers]

    with ThreadPoolExecutor(8) as pool:
        blobs = [blob for some_blobs in pool.map(some, range(8)) for blob in some_blobs]
    assert len(blobs) == 200
    for served in range(8, 192):
        counts = [order[:served].count(number) for number in range(8)]
        assert max(counts) - min(counts) <= 5, counts
    for blob in blobs:
        proven(pki, IMAGE, blob)
    nowhere(PIN, daemon)


def test_large_images_are_signed_by_a_token_too(make: MakeDaemon, hsm: SoftHsm, pki: TrialPki) -> None:
    """Within the limits of every run."""
    image = TrialImage.of_size(8 << 20)
    daemon = make()
    for version in VERSIONS:
        answer = daemon.post(
            pki, image, csf=hsm.csf(pki, "release", image.blocks("spl.bin")), cstversion=version, backend="pkcs11"
        )
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("version", VERSIONS)
def test_two_objects_of_one_name_are_refused(
    make: MakeDaemon, tmp_path: Path, pki: TrialPki, other_pki: TrialPki, version: str
) -> None:
    """Any of them would be taken; by its id each is itself again."""
    hsm = SoftHsm(tmp_path / "doubled")
    hsm.init_token("release", PIN)
    hsm.put_pki("release", PIN, pki)
    name = pki.certificate("CSF", 1)
    other = other_pki.certificate("CSF", 1)
    key = other_pki.files[other.replace("crts/", "keys/").replace("_crt", "_key")]
    password, certificate = other_pki.pass_phrase.encode(), other_pki.files[other]
    hsm.put("release", PIN, label(name), id="77", key_pem=key, key_password=password, certificate=certificate)
    daemon = make(**hsm.environ)
    text = hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))
    answer = post(daemon, pki, text, version)
    assert (answer.status_code, "several objects on token" in answer.text) == (422, True), answer.text
    own = sha256(pki.files[name]).digest()[:8]
    uri = f"object={label(name)};id=" + "".join(f"%{byte:02x}" for byte in own)
    answer = post(daemon, pki, text.replace(f"object={label(name)}", uri), version)
    assert answer.status_code == 200, answer.text
    proven(pki, IMAGE, answer.content)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pin_is_in_no_argument_and_no_environment(
    start: Start, tmp_path: Path, cst_base: Path, hsm: SoftHsm, pki: TrialPki, version: str
) -> None:
    """Seen from within, and equal to backend ssl's blob within the same second, byte for byte."""
    rsa = trial_keys("rsa2048", srks=1)
    own = SoftHsm(tmp_path / "rsa")
    own.init_token("release", PIN)
    own.put_pki("release", PIN, rsa)
    tool = tmp_path / "seen"
    tool.write_text(
        f'#!/bin/sh\ncat /proc/self/environ /proc/$$/cmdline /proc/$PPID/cmdline description.csf >> "{tmp_path}/all"\n'
        f'{{ ulimit -c; ulimit -n; stat -c "%a %n" . ../openssl.cnf; }} >> "{tmp_path}/limits" 2>&1\n'
        f'exec faketime -f "2026-01-01 00:00:00" "{cst_base}/cst-{version}/linux64/bin/cst" "$@"\n'
    )
    tool.chmod(0o755)
    (tmp_path / "pin").write_text(PIN)
    way = "engine" if version == "3.4.1" else "provider"
    daemon = start(
        f'[cst.versions]\nseen = "{tool}"\n[pkcs11]\nmodule = "{SoftHsm.MODULE}"\nprovider = "{provider(cst_base)}"\n'
        f'[pkcs11.ways]\nseen = "{way}"\n[pkcs11.tokens.release]\npin_file = "{tmp_path}/pin"\n',
        **own.environ,
    )
    daemon.put_keys(MACHINE, own.srk_tarball(rsa))
    by_token = post(daemon, rsa, own.csf(rsa, "release", IMAGE.blocks("spl.bin")), "seen")
    assert by_token.status_code == 200, by_token.text
    daemon.put_keys(MACHINE, rsa.tarball())
    by_files = daemon.post(rsa, cstversion="seen")
    assert by_files.status_code == 200, by_files.text
    assert by_token.content == by_files.content
    seen = (tmp_path / "all").read_bytes()
    assert b"description.csf" in seen
    assert b"SOFTHSM2_CONF" in seen
    assert PIN.encode() not in seen
    assert b"7391-zyx" not in seen
    assert (tmp_path / "limits").read_text().startswith("0\n64\n700 .\n600 ../openssl.cnf\n")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_token_that_goes_away_is_told(make: MakeDaemon, tmp_path: Path, pki: TrialPki, version: str) -> None:
    """And is used again when it is back."""
    hsm = SoftHsm(tmp_path / "leaving")
    hsm.init_token("release", PIN)
    hsm.put_pki("release", PIN, pki)
    daemon = make(**hsm.environ)
    text = hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))
    assert post(daemon, pki, text, version).status_code == 200
    tokens = tmp_path / "leaving/tokens"
    tokens.rename(tmp_path / "gone")
    tokens.mkdir()
    answer = post(daemon, pki, text, version)
    assert (answer.status_code, "the token is not present" in answer.text) == (422, True), answer.text
    tokens.rmdir()
    (tmp_path / "gone").rename(tokens)
    assert post(daemon, pki, text, version).status_code == 200
    nowhere(PIN, daemon, answer)


def test_what_cst_says_has_no_pin(make: MakeDaemon, tmp_path: Path, hsm: SoftHsm, pki: TrialPki) -> None:
    """Neither as it is nor as a configuration has it. It is in the log; the client gets nothing of it."""
    tool = tmp_path / "tells"
    tool.write_text("#!/bin/sh\ncat ../openssl.cnf\nexit 1\n")
    tool.chmod(0o755)
    daemon = make(more=f'[pkcs11.ways]\ntells = "engine"\n[cst.versions]\ntells = "{tool}"\n')
    answer = post(daemon, pki, hsm.csf(pki, "release", IMAGE.blocks("spl.bin")), "tells")
    assert (answer.status_code, "PIN" in answer.text) == (422, False), answer.text
    assert 'PIN = "***"' in daemon.log()
    assert "7391-zyx" not in answer.text + daemon.log()


def test_who_waits_too_long_for_a_token_is_sent_away(
    make: MakeDaemon, tmp_path: Path, hsm: SoftHsm, pki: TrialPki
) -> None:
    """With 503; whoever has the token goes on."""
    tool = tmp_path / "slow"
    tool.write_text(
        f'#!/bin/sh\ntouch "{tmp_path}/runs"\nwhile [ ! -e "{tmp_path}/go" ]; do sleep 0.05; done\nexit 1\n'
    )
    tool.chmod(0o755)
    daemon = make(
        more=f'[pkcs11.ways]\nslow = "engine"\n[cst.versions]\nslow = "{tool}"\n', before="login_timeout = 0.3\n"
    )
    text = hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, daemon, pki, text, "slow")
        daemon.wait_for((tmp_path / "runs").exists)
        second = post(daemon, pki, text, "3.4.1")
        (tmp_path / "go").touch()
        assert first.result().status_code == 422
    assert (second.status_code, "had no free session" in second.text, "Retry-After" in second.headers) == (
        503,
        True,
        True,
    )
    assert post(daemon, pki, text, "3.4.1").status_code == 200


def test_the_modules_environment_may_be_in_the_configuration(
    start: Start, tmp_path: Path, hsm: SoftHsm, pki: TrialPki, cst_base: Path
) -> None:
    """And the check tells what there is, as it does for all else."""
    (tmp_path / "pin").write_text(PIN)
    daemon = start(
        f'[pkcs11]\nmodule = "{SoftHsm.MODULE}"\npaths = ["{hsm.folder}"]\n'
        f'[pkcs11.environment]\nSOFTHSM2_CONF = "{hsm.conf}"\n'
        f'[pkcs11.tokens.release]\npin_file = "{tmp_path}/pin"\n'
    )
    daemon.put_keys(MACHINE, hsm.srk_tarball(pki))
    answer = post(daemon, pki, hsm.csf(pki, "release", IMAGE.blocks("spl.bin")), "3.4.1")
    assert answer.status_code == 200, answer.text
    done = subprocess.run(daemon.command("--check"), env=daemon.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"token release   module {SoftHsm.MODULE}, all machines, 1 at a time" in done.stdout
    assert PIN not in done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_fast_authentication_signs_by_a_token(make: MakeDaemon, tmp_path: Path, version: str) -> None:
    """The SRK itself is on it."""
    pki = TrialPki.make("p256", srks=1, fast_auth=True)
    hsm = SoftHsm(tmp_path / "fast")
    hsm.init_token("release", PIN)
    hsm.put_pki("release", PIN, pki)
    daemon = make(**hsm.environ)
    daemon.put_keys(MACHINE, hsm.srk_tarball(pki))
    answer = post(daemon, pki, hsm.csf(pki, "release", IMAGE.blocks("spl.bin")), version)
    assert answer.status_code == 200, answer.text
    proven(pki, IMAGE, answer.content)
