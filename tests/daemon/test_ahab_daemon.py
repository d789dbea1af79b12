"""AHAB beside the requests of clients: --check, the canary, tokens, the record, the page, large files."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from digsigd import ahab
from digsigd.admin.main import main
from digsigd.hab.certificate import load_file
from digsigd.web.answers import NOTE
from tests.conftest import CST_VERSIONS
from tests.daemon.test_logs_and_options import check
from tests.helpers.ahab_cases import description, image, members, packed
from tests.helpers.ahab_daemons import OFFSET, ahab_daemon, holds, post_ahab
from tests.helpers.certificates import Authority
from tests.helpers.daemons import Daemon
from tests.helpers.hsm import SoftHsm, label, provider

GOOD, SGK = "good-93-sd-spl", "good-qxp-spl-sgk"
TABLE = "crts/SRK_1_2_3_4_table.bin"
# Digits alone would stand in some hash or number of a log.
PIN = "73915-zyx"


def with_key(keys: str, name: str) -> tuple[bytes, bytes]:
    """A certificate of a tarball and its key."""
    files = members(keys)
    return files[f"crts/{name}_crt.pem"], files[f"keys/{name}_key.pem"]


def test_a_check_signs_with_every_key(tmp_path: Path, cst_base: Path) -> None:
    """With each SRK for each table that the chip uses, and with an SGK where the chip accepts one."""
    config = '[machines.ahab-p384]\n[machines.ahab-p384ca]\n[machines.ahab-pss2048]\nsoc = "mx93"\n'
    done = check(ahab_daemon(tmp_path / "daemon", cst_base, config))
    assert done.returncode == 0, done.stdout
    said = [line.split(None, 2)[2] for line in done.stdout.splitlines() if "signs with SRK" in line]
    every = "1, 2, 3, 4"
    both = f"{every}, {', '.join(f'{number} (version 2)' for number in range(1, 5))}"
    with_sgk = f"{every}, 1 with an SGK, {both.removeprefix(every + ', ')}, 1 (version 2) with an SGK"
    assert said == [f"signs with SRK {both}", f"signs with SRK {with_sgk}", f"signs with SRK {every}"]


def test_a_check_names_keys_that_cannot_sign(tmp_path: Path, cst_base: Path) -> None:
    """And those that the chip does not accept."""
    files = dict(members("p384"))
    files["keys/SRK3_sha384_secp384r1_v3_usr_key.pem"] = files["keys/SRK2_sha384_secp384r1_v3_usr_key.pem"]
    config = '[machines.broken]\nsoc = "mx91"\n[machines.ahab-r2048]\nsoc = "mx93"\n[machines.empty]\n'
    daemon = ahab_daemon(tmp_path / "daemon", cst_base, config)
    daemon.put_keys("broken", packed(files))
    daemon.put_keys("empty", packed({TABLE: members("p384")[TABLE]}))
    said = check(daemon).stdout
    assert "broken          SRK 3 cannot sign: the private key keys/SRK3" in said
    assert "broken          signs with SRK 1, 2, 4" in said
    assert "ahab-r2048      SRK 1 cannot sign: csf: " not in said
    assert "ahab-r2048      SRK 1 cannot sign: i.MX 93 does not accept RSA 2048 keys" in said
    assert "empty           not tried: the tarball has no private keys" in said


def test_a_canary_signs_with_keys_for_ahab(tmp_path: Path, cst_base: Path) -> None:
    """The host is ready once it has, and is not when the keys are gone."""
    config = '[canary]\nmachine = "ahab-p384ca"\nevery = 0.2\n[machines.ahab-p384ca]\nsoc = "mx8x"\n'
    daemon = ahab_daemon(tmp_path / "daemon", cst_base, config).start()
    try:

        def is_ready() -> bool:
            return httpx.get(f"{daemon.url}/readyz").status_code == 200

        daemon.wait_for(is_ready, what="a ready host")
        daemon.wait_for_log("canary: signed and verified")
        before = len(daemon.descriptors())
        daemon.wait_for(lambda: daemon.log_so_far().count("verified: SRK 1 (ECDSA P-384)") > 5, what="some runs")
        # Not one look: a run that is under way has some.
        daemon.wait_for(lambda: len(daemon.descriptors()) <= before + 3, what="as few descriptors as before")
        daemon.put_keys("ahab-p384ca", packed({TABLE: members("p384")[TABLE]}))
        daemon.wait_for(lambda: not is_ready(), what="a host that is not ready")
    finally:
        daemon.stop()


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    """A token with SRK 1 of P-384 and RSA-2048, and SRK 2 and its SGK of the PKI with CA keys."""
    hsm = SoftHsm(tmp_path_factory.mktemp("hsm"))
    hsm.init_token("release", PIN)
    for keys, name in (
        ("p384", "SRK1_sha384_secp384r1_v3_usr"),
        ("r2048", "SRK1_sha256_2048_65537_v3_usr"),
        ("p384ca", "SRK2_sha384_secp384r1_v3_ca"),
        ("p384ca", "SGK2_1_sha384_secp384r1_v3_usr"),
    ):
        certificate, key = with_key(keys, name)
        number = sha256(certificate).hexdigest()[:16]
        hsm.put(
            "release",
            PIN,
            name,
            id=number,
            key_pem=key,
            key_password=b"secret7",
            certificate=load_file(certificate).der,
        )
    return hsm


@pytest.mark.parametrize("version", CST_VERSIONS)
def test_keys_on_a_token_sign_containers(tmp_path: Path, cst_base: Path, hsm: SoftHsm, version: str) -> None:
    """SRK and SGK, ECDSA and RSA; a certificate of another SRK than the one that is named signs nothing."""
    (tmp_path / "pin").write_text(PIN)
    daemon = ahab_daemon(
        tmp_path / "daemon", cst_base,
        f'[pkcs11]\nmodule = "{hsm.MODULE}"\nprovider = "{provider(cst_base)}"\npaths = ["{hsm.folder}"]\n'
        f'[pkcs11.tokens.release]\npin_file = "{tmp_path}/pin"\n',
        **hsm.environ,
    )  # fmt: skip
    for keys in ("p384", "p384ca", "r2048"):
        daemon.put_keys(f"ahab-{keys}", packed({TABLE: members(keys)[TABLE]}))
    daemon.start()
    try:
        for keys, case in (("p384", GOOD), ("p384ca", SGK), ("r2048", "good-93-pss")):
            text = description(case)
            for line in text.splitlines():
                if "_crt.pem" in line:
                    name = line.split('"')[1]
                    text = text.replace(name, f"pkcs11:token=release;object={label(name)};type=cert")
            answer = post_ahab(daemon, keys, text, image(case), cstversion=version, backend="pkcs11")
            assert answer.status_code == 200, answer.text
            holds(answer.content, image(case), keys)
            wrong = text.replace("Source index = 0", "Source index = 1")
            if keys == "p384":
                answer = post_ahab(daemon, keys, wrong, image(case), cstversion=version, backend="pkcs11")
                assert answer.status_code == 422, answer.text
                assert "Source index = 1 is SRK 2, but the certificate on the token is that of SRK 1" in answer.text
        assert PIN not in daemon.log()
        assert daemon.left_behind() == []
    finally:
        daemon.stop()


def test_the_record_has_what_was_signed(
    tmp_path: Path, cst_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer is found by its SHA-256, as a file and on the page; the entry says which containers it has."""
    state = tmp_path / "state"
    daemon = ahab_daemon(
        tmp_path / "daemon",
        cst_base,
        f'[record]\nfolder = "{state}"\n[page]\nenabled = true\n',
        XDG_STATE_HOME=str(state),
    ).start()
    try:
        answer = post_ahab(daemon, soctype="mx93")
        assert answer.status_code == 200, answer.text
        assert NOTE not in answer.headers
        refused = post_ahab(daemon, text=description(GOOD).replace("0x400 0x490", "0x800 0x890"))
        assert refused.status_code == 422
        digest, number = sha256(answer.content).hexdigest(), answer.headers["X-Digsigd-Record"]
        for path in (
            "page/signatures",
            f"page/signatures?sha256={digest}",
            f"page/signatures/{number}",
            "page/machines",
        ):
            page = httpx.get(f"{daemon.url}/{path}", headers={"Accept": "text/html"})
            assert page.status_code == 200, page.text
            assert "ahab-p384" in page.text
        shown = httpx.get(f"{daemon.url}/page/signatures/{number}").text
        assert digest in shown
        assert "mx93" in shown
        raw = answer.content[OFFSET : ahab.parse(answer.content, OFFSET).end]
        assert f"{len(raw):#x} bytes at {OFFSET:#x} <code>{sha256(raw).hexdigest()}</code>" in shown
    finally:
        daemon.stop()
    assert main(["record", "show", number, "--folder", str(state)]) == 0
    entry = capsys.readouterr().out
    container = ahab.parse(answer.content, OFFSET)
    raw = answer.content[OFFSET : container.end]
    for word in (digest, sha256(raw).hexdigest(), sha256(image(GOOD)).hexdigest(), "mx93"):
        assert word in entry
    assert ahab.parse_table(members("p384")[TABLE]).hash("sha256").hex() in entry
    signed = tmp_path / "signed.bin"
    signed.write_bytes(answer.content)
    assert main(["record", "who", str(signed), "--folder", str(state)]) == 0
    assert "The whole file:" in capsys.readouterr().out
    signed.write_bytes(image(GOOD))
    assert main(["record", "who", str(signed), "--folder", str(state)]) == 1
    assert main(["record", "list", "--folder", str(state)]) == 0
    assert "refused" in capsys.readouterr().out


def large(size: int) -> bytes:
    """A file with a container whose images have so many MiB."""
    parts = ahab.place_images([bytes(range(256)) * (size << 11), os.urandom(1 << 20) * (size // 2)], start=0x2000)
    return ahab.build_file([(OFFSET, ahab.build_container(parts), parts)])


def test_large_files_are_never_in_memory(tmp_path: Path, cst_base: Path) -> None:
    """Four of 48 MiB at once, whose description arrives first, and last: the daemon stays as small as it was."""
    daemon = ahab_daemon(tmp_path / "daemon", cst_base).start()
    try:
        data = large(48)
        text = description(GOOD).replace("0x400 0x490", "0x400 0x510")
        assert post_ahab(daemon).status_code == 200
        before = memory(daemon.pid)

        def sent(late: bool) -> bytes:
            files = [
                ("csf", ("csf.txt", text.encode(), "text/plain")),
                ("artifact", ("flash.bin", data, "application/octet-stream")),
            ]
            answer = httpx.post(
                f"{daemon.url}/sign/imx", data={"machine": "ahab-p384", "cstversion": "4.0.1"},
                files=files[::-1] if late else files, timeout=120,
            )  # fmt: skip
            assert answer.status_code == 200, answer.text
            return answer.content

        with ThreadPoolExecutor(4) as threads:
            for answer in threads.map(sent, (False, True, False, True)):
                holds(answer, data, "p384")
        assert memory(daemon.pid) - before < 40 << 20
        assert daemon.left_behind() == []
    finally:
        daemon.stop()


def memory(pid: int) -> int:
    """The most bytes of memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def test_a_client_that_does_not_read_its_answer_is_cut_off(tmp_path: Path, cst_base: Path) -> None:
    """What it has taken of the host is given back: the file, the descriptor, the place among the uploads."""
    daemon = ahab_daemon(tmp_path / "daemon", cst_base, "[upload]\nidle_timeout = 8\nmax_at_once = 1\n").start()
    try:
        before = len(daemon.descriptors())
        client = slow_client(daemon, tmp_path)
        try:
            assert post_ahab(daemon).status_code == 503
            daemon.wait_for_log("the answer was not read for 8 s")
            daemon.wait_for(lambda: len(daemon.descriptors()) <= before, what="its descriptors")
            assert post_ahab(daemon).status_code == 200
        finally:
            client.kill()
            client.communicate()
        assert "answered 200" in daemon.log()
        assert daemon.log().count("answered 200") == 1
    finally:
        daemon.stop()


def test_a_stop_waits_for_an_answer_that_nobody_reads_no_longer_than_for_others(tmp_path: Path, cst_base: Path) -> None:
    """And then ends the connection."""
    daemon = ahab_daemon(tmp_path / "daemon", cst_base, "[daemon]\nshutdown_grace = 1\n").start()
    client = slow_client(daemon, tmp_path)
    try:
        daemon.stop()
        assert "the connection is aborted: this signing host is shutting down" in daemon.log()
    finally:
        client.kill()
        client.communicate()


def test_a_client_that_goes_while_it_is_answered_is_told_in_the_log(tmp_path: Path, cst_base: Path) -> None:
    """Nothing is left of its request, and nothing is logged as a fault."""
    daemon = ahab_daemon(tmp_path / "daemon", cst_base).start()
    try:
        before = len(daemon.descriptors())
        client = slow_client(daemon, tmp_path)
        client.kill()
        client.communicate()
        daemon.wait_for_log("the client disconnected")
        daemon.wait_for(lambda: len(daemon.descriptors()) <= before, what="its descriptors")
        assert daemon.left_behind() == []
        assert " error " not in daemon.log()
    finally:
        daemon.stop()


def test_a_connection_is_used_again_after_a_file(tmp_path: Path, cst_base: Path) -> None:
    """The next request on it is answered, too; the first was large, and sent over TLS."""
    folder = tmp_path / "daemon"
    folder.mkdir()
    hosts = Authority()
    certificate, key = hosts.issue("host")
    (folder / "host.pem").write_bytes(certificate)
    (folder / "host.key").write_bytes(key)
    (folder / "host.key").chmod(0o600)
    (tmp_path / "hosts.pem").write_bytes(hosts.pem)
    daemon = ahab_daemon(
        folder, cst_base, '[listen]\n[listen.tls]\ncertificate = "host.pem"\nkey = "host.key"\n'
    ).start()
    try:
        url = daemon.url.replace("http://", "https://")
        data = large(4)
        sent = (
            (data, description(GOOD).replace("0x400 0x490", "0x400 0x510")), (image(GOOD), description(GOOD)),
        )  # fmt: skip
        with httpx.Client(verify=ssl.create_default_context(cafile=str(tmp_path / "hosts.pem"))) as client:
            for original, text in sent:
                answer = client.post(
                    f"{url}/sign/imx", data={"machine": "ahab-p384", "cstversion": "4.0.1"},
                    files={"csf": ("csf.txt", text, "text/plain"), "artifact": ("flash.bin", original)},
                )  # fmt: skip
                assert answer.status_code == 200, answer.text
                holds(answer.content, original, "p384")
    finally:
        daemon.stop()


def slow_client(daemon: Daemon, folder: Path) -> subprocess.Popen[bytes]:
    """A client that has read the beginning of a large answer, and reads nothing more."""
    (folder / "flash.bin").write_bytes(large(32))
    (folder / "csf.txt").write_text(description(GOOD).replace("0x400 0x490", "0x400 0x510"))
    client = subprocess.Popen(
        [sys.executable, "-c", SLOW, daemon.url, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"200\n"
    return client


SLOW = """
import http.client, sys, time, urllib.parse
url, folder = urllib.parse.urlsplit(sys.argv[1]), sys.argv[2]
fields = {"machine": b"ahab-p384", "cstversion": b"4.0.1"}
body = b""
for name, value in fields.items():
    body += b'--b\\r\\nContent-Disposition: form-data; name="%s"\\r\\n\\r\\n%s\\r\\n' % (name.encode(), value)
for name, file in (("csf", "csf.txt"), ("artifact", "flash.bin")):
    body += b'--b\\r\\nContent-Disposition: form-data; name="%s"; filename="%s"\\r\\n\\r\\n%s\\r\\n' % (
        name.encode(), file.encode(), open(f"{folder}/{file}", "rb").read())
connection = http.client.HTTPConnection(url.hostname, url.port)
connection.request("POST", "/sign/imx", body + b"--b--\\r\\n", {"Content-Type": "multipart/form-data; boundary=b"})
answer = connection.getresponse()
answer.read(1000)
print(answer.status, flush=True)
time.sleep(60)
"""
