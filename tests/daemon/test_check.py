"""`--check` is green only where a start works and keys sign; what is wrong is named, with what to do."""

from __future__ import annotations

import http.server
import os
import pwd
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from digsigd.testing import TrialPki
from tests.daemon.test_logs_and_options import check
from tests.helpers.daemons import DEADLINE, MACHINE, RIGHTS, TOKEN, Daemon, Start


def lines(daemon: Daemon, result: str, *options: str) -> str:
    """The lines of a check with this result, after it has ended with the exit code that goes with them."""
    done = check(daemon, *options)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == ("FAILED" in done.stdout), done.stdout + done.stderr
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith(result))


def tls_files(folder: Path, name: str, days: tuple[int, int] = (-1, 90)) -> tuple[Path, Path]:
    """A key and a certificate for it, valid from and until so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin, end = (datetime.now(UTC) + timedelta(one) for one in days)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, begin, end)
    certificate = builder.sign(key, hashes.SHA256())
    key_path, path = folder / f"{name}.key", folder / f"{name}.crt"
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return key_path, path


def endpoint(key: Path, certificate: Path) -> tuple[str, str]:
    return "--listen", f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1"


def test_files_of_tls_are_tried(tmp_path: Path, cst_base: Path) -> None:
    """Missing, not PEM, of another key, expired: the check fails, and the start in one line where it cannot work."""
    daemon = Daemon(tmp_path, cst_base)
    key, certificate = tls_files(tmp_path, "good")
    other, old = tls_files(tmp_path, "other"), tls_files(tmp_path, "old", (-9, -2))
    assert "127.0.0.1" in lines(daemon, "ok", *endpoint(key, certificate))
    broken = tmp_path / "broken"
    broken.write_text("no PEM\n")
    for files, words in (
        ((key, tmp_path / "none.crt"), "none.crt: cannot be read: No such file"),
        ((tmp_path / "none.key", certificate), "none.key: cannot be read: No such file"),
        ((key, broken), "broken: is not a PEM file"),
        ((broken, certificate), "broken: is not a PEM file"),
        ((other[0], certificate), f"{other[0]} is not the key of the certificate {certificate}"),
    ):
        assert words in lines(daemon, "FAILED", *endpoint(*files))
        started = subprocess.run(
            daemon.command(*endpoint(*files)),
            env=daemon.environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=DEADLINE,
        )  # fmt: skip
        assert started.returncode == 1
        assert words in started.stdout + started.stderr
        assert "Traceback" not in started.stdout + started.stderr
    assert f"{old[1]} expired on" in lines(daemon, "FAILED", *endpoint(*old))
    soon = tls_files(tmp_path, "soon", (-9, 5))
    assert f"{soon[1]} expires on" in lines(daemon, "warn", *endpoint(*soon))


class Answers(http.server.BaseHTTPRequestHandler):
    """A key store that answers every request alike."""

    status = 404
    location = ""

    def do_GET(self) -> None:
        page = b"<html>Log in</html>" if self.status == 200 else b""
        self.send_response(302 if self.location and self.path != self.location else self.status)
        if self.location and self.path != self.location:
            self.send_header("Location", self.location)
            page = b""
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(page)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def store(status: int, location: str = "") -> Iterator[str]:
    handler = type("Handler", (Answers,), {"status": status, "location": location})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/keys"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "location", "words"),
    [
        (404, "", "there are no keys for machine"),
        (403, "", "refused access"),
        (401, "", "check the credentials"),
        (200, "", "is this a login page?"),
        (200, "/login", "is this a login page?"),
    ],
)
def test_a_web_server_that_is_no_key_store_is_not_green(
    tmp_path: Path, cst_base: Path, status: int, location: str, words: str
) -> None:
    """A wrong path, a refusal, a login page, a redirect to one: by itself where that shows, else by the keys."""
    daemon = Daemon(tmp_path, cst_base)
    with store(status, location) as uri:
        daemon.environ["DIGSIGSERVER_KEYFILE_URI"] = uri
        assert words in lines(daemon, "FAILED", "--machine", MACHINE)
        if status in {403, 404}:
            assert "no key tarball was fetched" in lines(daemon, "warn")


def test_tokens_in_clear_are_warned_of(tmp_path: Path, cst_base: Path) -> None:
    """On an address that others can reach; not on loopback, and not over TLS."""
    daemon = Daemon(tmp_path, cst_base, '[callers.release]\ntoken_file = "token"\n')
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    assert "cross the network in clear" in lines(daemon, "warn", "--listen", "tcp:0:interface=0.0.0.0")
    assert "in clear" not in lines(daemon, "warn", "--listen", "tcp:0:interface=127.0.0.1")
    key, certificate = tls_files(tmp_path, "good")
    assert "in clear" not in lines(daemon, "warn", "--listen", f"ssl:0:privateKey={key}:certKey={certificate}")


def test_each_srk_of_a_machine_signs(tmp_path: Path, cst_base: Path) -> None:
    """Also with fast authentication; a wrong pass phrase of one of them is found, with the name of the key."""
    pki = TrialPki.make("p256", srks=3)
    daemon = Daemon(tmp_path, cst_base, f"[machines.{MACHINE}]\n")
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.put_keys("fast", TrialPki.make("p256", srks=2, fast_auth=True).tarball())
    said = lines(daemon, "ok", "--machine", "fast")
    assert [line.split(maxsplit=2)[1:] for line in said.splitlines() if "signs with" in line] == [
        [MACHINE, "signs with SRK 1, 2, 3"],
        ["fast", "signs with SRK 1, 2"],
    ]
    bad = pki.certificate("IMG", 2).replace("crts/", "keys/").replace("_crt.", "_key.")
    pki.files[bad] = TrialPki.make("p256", srks=1).files["keys/IMG1_1_sha256_secp256r1_v3_usr_key.pem"]
    daemon.put_keys(MACHINE, pki.tarball())
    failed = lines(daemon, "FAILED")
    assert len(failed.splitlines()) == 1
    assert "SRK 2 cannot sign" in failed
    assert bad in failed
    assert daemon.left_behind() == []


def test_a_tarball_that_cannot_be_tried_is_said(tmp_path: Path, cst_base: Path) -> None:
    """Without private keys, as for a token, and with names that do not say which key is for what."""
    pki = TrialPki.make("p256", srks=1)
    daemon = Daemon(tmp_path, cst_base)
    whole = dict(pki.files)
    pki.files.clear()
    pki.files.update({name: data for name, data in whole.items() if "key" not in name})
    daemon.put_keys("bare", pki.tarball())
    pki.files.clear()
    pki.files.update({name.replace("IMG1", "X").replace("CSF1", "Y"): data for name, data in whole.items()})
    daemon.put_keys("renamed", pki.tarball())
    said = lines(daemon, "warn", "--machine", "bare", "--machine", "renamed")
    assert "the tarball has no private keys" in said
    assert "no SRK has certificates named CSF" in said


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, cst_base: Path) -> None:
    """As `head` does: no traceback, and the exit code is that of the check."""
    daemon = Daemon(tmp_path, cst_base)
    reading, writing = os.pipe()
    process = subprocess.Popen(
        daemon.command("--check"), env=daemon.environ, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    _, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (0, "")


def test_results_that_cannot_be_printed_end_it(tmp_path: Path, cst_base: Path) -> None:
    """A full disk: one line, and not green."""
    daemon = Daemon(tmp_path, cst_base)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            daemon.command("--check"),
            env=daemon.environ, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            timeout=DEADLINE,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["digsigd: cannot print the results: No space left on device"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--as", "no-such-user"), "no such user"),
        (("--machine", "../other"), "is not a machine name"),
    ],
)
def test_mistakes_of_its_options_end_it(tmp_path: Path, cst_base: Path, options: tuple[str, ...], words: str) -> None:
    """With one line, and nothing checked."""
    done = check(Daemon(tmp_path, cst_base), *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("tcp:0:interface=192.0.2.1", "Cannot assign requested address"),
        ("tcp6:0:interface=2001\\:db8\\:\\:1", "Cannot assign requested address"),
        ("tcp:0:interface=no-such-host.invalid", "no-such-host.invalid"),
        ("tcp:70000:interface=127.0.0.1", "0-65535"),
        ("unix:{folder}/missing/socket", "No such file or directory"),
        ("unix:{folder}/missing/socket:lockfile=0", "No such file or directory"),
    ],
)
def test_an_address_that_cannot_be_opened_is_not_green(tmp_path: Path, cst_base: Path, where: str, words: str) -> None:
    """An address of another host, a port that is none, a folder that is missing."""
    daemon = Daemon(tmp_path, cst_base, f'[callers.ci]\ntoken_file = "token"\n{RIGHTS}')
    (tmp_path / "token").write_text(TOKEN)
    options = "--listen", where.format(folder=tmp_path)
    failed = lines(daemon, "FAILED", *options)
    assert "listen.endpoint" in failed
    assert words in failed
    started = subprocess.run(
        daemon.command(*options),
        env=daemon.environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert started.returncode == 1
    assert "Traceback" not in started.stdout + started.stderr


def test_an_address_in_use_may_be_the_daemons(start: Start, tmp_path: Path) -> None:
    """The check of a daemon that runs is green, with a warning; it leaves the daemon's socket alone."""
    daemon = start()
    taken = daemon.url.rpartition(":")[2]
    assert "is in use" in lines(daemon, "warn", "--listen", f"tcp:{taken}:interface=127.0.0.1")
    assert "is in use" not in lines(daemon, "warn")
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert "is in use" in lines(daemon, "warn", "--listen", f"unix:{path}:lockfile=0")
        assert path.is_socket()
    path.unlink()
    for _ in range(2):
        assert "is in use" not in lines(daemon, "warn", "--listen", f"unix:{path}")
        assert not path.exists()


def test_machines_and_users_are_for_checks(tmp_path: Path, cst_base: Path) -> None:
    """A daemon that is started with them does not start."""
    daemon = Daemon(tmp_path, cst_base)
    done = subprocess.run(
        daemon.command("--machine", MACHINE),
        env=daemon.environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 1
    assert "need --check" in done.stderr


def test_the_check_has_the_rights_of_the_services_user(tmp_path: Path, cst_base: Path) -> None:
    """Another user cannot read a key store that is root's alone; without root, nobody can check as another."""
    daemon = Daemon(tmp_path, cst_base)
    if os.geteuid():
        assert "only root" in check(daemon, "--as", "nobody").stderr
        return
    program = (
        "import os, sys\n"
        "import digsigd.check, digsigd.daemon\n"  # the user may not read them
        "from digsigd import tap\n"
        "os.access = lambda *_: True\n"
        f"tap._become('nobody')\nprint(os.getresuid(), os.getresgid(), os.getgroups())\n"
        f"try: open({str(tmp_path / 'secret')!r})\nexcept PermissionError: print('refused')\n"
    )
    (tmp_path / "secret").touch(0o600)
    user = pwd.getpwnam("nobody")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=DEADLINE)
    ids = (user.pw_uid,) * 3, (user.pw_gid,) * 3
    assert done.stdout.startswith(f"{ids[0]} {ids[1]} ")
    assert done.stdout.endswith("refused\n")
