"""The commands of docs/operate, run as they stand there but for paths, and what they are said to show."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from digsigd.settings import load
from digsigd.testing import TrialPki
from tests.helpers.daemons import IMAGE, MACHINE, Daemon
from tests.helpers.keys import trial_keys
from tests.helpers.manual import Shell, blocks
from tests.helpers.tls_daemons import OwnTls

KEPT, STOLEN = "digsigd_kept-token-of-the-release-team", "digsigd_stolen-token-of-the-release-team"
RIGHTS = f"""[callers.release]
machines = ["{MACHINE}"]
backends = ["ssl"]
cst_versions = ["*"]
"""


def table(token: str) -> str:
    return f'[[callers.release.tokens]]\nsha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n'


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def pki() -> TrialPki:
    """Keys that an i.MX 8M supports."""
    return trial_keys("rsa2048")


class Host(Daemon):
    """A daemon whose record is in `state`, with checkpoints in a file elsewhere."""

    def __init__(self, folder: Path, cst_base: Path, pki: TrialPki, config: str) -> None:
        self.state, self.elsewhere = folder / "state", folder / "elsewhere"
        record = f'[record]\nfolder = "{self.state}"\ncheckpoints = ["{self.elsewhere.as_uri()}"]\n'
        super().__init__(folder, cst_base, f"{record}checkpoint_interval = 1\n{config}")
        self.put_keys(MACHINE, pki.tarball())

    def reload(self) -> None:
        assert self.process is not None
        before = self.log().count("reloaded")
        self.process.send_signal(1)
        self.wait_for_log("reloaded", before + 1)


def test_a_stolen_token_shows_what_was_signed_with_it(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """By its digits in the record, without what the builds' provenance has; the token is at its end."""
    daemon = Host(tmp_path, cst_base, pki, RIGHTS + table(KEPT) + table(STOLEN))
    daemon.start()

    def systemctl(what: str) -> None:
        assert what == "reload"
        daemon.config.write_text(daemon.config.read_text().replace(table(STOLEN), ""))
        daemon.reload()

    answers = [daemon.post(pki, headers=bearer(token)) for token in (KEPT, STOLEN, STOLEN)]
    assert [one.status_code for one in answers] == [200] * 3
    answers.append(daemon.post(pki, headers=bearer(STOLEN), machine="imx8mp-evk"))
    assert answers[3].status_code == 403
    records = [one.headers["X-Digsigd-Record"] for one in answers]
    shell = Shell(tmp_path / "shell", systemctl)
    (shell.folder / "provenance").mkdir()
    (shell.folder / "provenance/build.json").write_text(json.dumps({"predicate": [{"record": records[1]}]}))
    (shell.folder / "flash.signed.bin").write_bytes(answers[2].content)
    daemon.wait_for(lambda: daemon.elsewhere.exists() and f"\n{len(records)}\n" in daemon.elsewhere.read_text())
    digits = hashlib.sha256(STOLEN.encode()).hexdigest()[:8]
    code, said = shell.run(
        "".join(blocks("incidents.md")),
        {
            "/etc/digsigd/digsigd.toml": daemon.config,
            "/var/lib/digsigd": daemon.state,
            "/mnt/audit/signer1": daemon.elsewhere,
            "5e884898": digits,
            "296f7d1d.1207": records[2],
        },
        TOKEN=STOLEN,
    )
    assert code == 0, said
    assert f"known by   token {digits}" in said
    assert "nothing was changed" in said
    assert daemon.post(pki, headers=bearer(STOLEN)).status_code == 401
    used = [line.split("\t") for line in (shell.folder / "used.tsv").read_text().splitlines()]
    assert [(line[0], line[2]) for line in used] == [
        (records[1], "signed"), (records[2], "signed"), (records[3], "not-allowed")
    ]  # fmt: skip
    assert used[1][4] == "127.0.0.1"
    assert used[1][6] == hashlib.sha256(answers[2].content).hexdigest()
    assert (shell.folder / "strange").read_text().split() == sorted([records[2], records[3]])
    assert said.count("spl.bin") >= 3
    daemon.stop()


def test_a_record_is_backed_up_and_restored(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """While the daemon runs; after it is put back, and after a new one was begun, requests are signed."""
    daemon = Host(tmp_path, cst_base, pki, "")
    daemon.start()
    records: list[str] = []

    def systemctl(what: str) -> None:
        if what == "stop":
            daemon.stop()
        else:
            daemon.start()
            records.append(daemon.post(pki).headers["X-Digsigd-Record"])

    first = daemon.post(pki).headers["X-Digsigd-Record"]
    (tmp_path / "backup").mkdir()
    shell = Shell(tmp_path / "shell", systemctl)
    code, said = shell.run(
        "".join(blocks("record.md")),
        {
            "/etc/digsigd/digsigd.toml": daemon.config,
            "/var/lib/digsigd": daemon.state,
            "/backup": tmp_path / "backup",
        },
    )
    assert code == 0, said
    assert said.count("nothing was changed") == 2
    again, anew = records
    key = first.partition(".")[0]
    assert again == f"{key}.1"
    assert anew.endswith(".0")
    assert not anew.startswith(key)
    assert (daemon.state / "old-record/record.sqlite").exists()
    daemon.stop()


def test_keys_certificates_and_tokens_are_rotated(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """While the daemon runs: a tarball by a rename, a token beside the old one, a host certificate by a reload."""
    host = tmp_path / "host"
    host.mkdir()
    daemon = OwnTls(host, cst_base, pki, RIGHTS + table(KEPT))
    daemon.start()
    shell = Shell(tmp_path / "shell", lambda _: daemon.reload())
    (shell.folder / "new.tar.gz").write_bytes(pki.tarball(flat=True))
    certificate, key = daemon.hosts.issue("renewed", hours=100)
    (shell.folder / "host.key.new").write_bytes(key)
    (shell.folder / "host.key.new").chmod(0o600)
    (shell.folder / "host.pem.new").write_bytes(certificate)
    code, said = shell.run(
        "".join(blocks("keys.md")),
        {
            "/etc/digsigd/": f"{host}/",
            "/srv/digsigd/keys": daemon.keys,
            "signer.example:9999": daemon.url.removeprefix("https://"),
        },
        DIGSIGSERVER_KEYFILE_URI=daemon.keys.as_uri(),
        DIGSIGSERVER_IMX_CST_BASE=str(cst_base),
    )
    assert code == 0, said
    assert "signs with SRK 1, 2, 3, 4" in said
    assert "digsigd_" in said
    assert "notAfter=" in said
    assert daemon.curl("-H", f"Authorization: Bearer {KEPT}")[0] == 200
    assert "CN = renewed" in (shown := daemon.s_client().stdout) or "CN=renewed" in shown
    (tmp_path / "pins.toml").write_text("\n".join(blocks("keys.md", "toml")))
    pinned = load(tmp_path / "pins.toml", {}).machines
    assert pinned[MACHINE].fuses == pinned["imx93-evk"].fuses == "0" * 64
    assert pinned["imx93-evk"].soc == "mx93"
    daemon.stop()


def test_both_servers_are_compared(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """The same blobs but for the time are the same; other keys and a refusal are differences."""
    first, script = blocks("moving-over.md")
    keys = [pki, pki, trial_keys("rsa2048", other=True)]
    daemons = []
    for number, one in enumerate(keys):
        folder = tmp_path / str(number)
        folder.mkdir()
        daemon = Daemon(folder, cst_base, f'[record]\nfolder = "{folder}/state"\n')
        daemon.put_keys(MACHINE, one.tarball())
        daemons.append(daemon.start())
    shell = Shell(tmp_path / "shell")
    (shell.folder / "dual-run").write_text(script)
    (shell.folder / "spl.bin").write_bytes(IMAGE.data)
    (shell.folder / "spl.csf").write_text(pki.csf(IMAGE.blocks("spl.bin")))
    form = f"-F machine={MACHINE} -F soctype=mx8m -F cstversion=3.4.1 -F 'csf=@spl.csf;type=text/plain'"

    def compared(new: Daemon, artifact: str = "spl.bin") -> tuple[int, str]:
        return shell.run(f"sh dual-run {daemons[0].url} {new.url} {form} -F artifact=@{artifact}", {})

    assert compared(daemons[1]) == (0, "old: 200\nnew: 200\nthe same\n")
    code, said = compared(daemons[2])
    assert code == 1
    assert '"fuse_value": ' in said
    code, said = compared(daemons[2], "spl.csf")
    assert code == 1
    assert "old: 422\ncsf: " in said
    *check, start = first.strip().splitlines()
    assert start == "digsigd run"
    shutil.copytree(daemons[0].keys, tmp_path / "keys")
    code, said = shell.run(
        "\n".join(check), {"file:///digsigserver": (tmp_path / "keys").as_uri(), "/opt/NXP": cst_base}
    )
    assert code == 0, said
    assert "signs with SRK 1, 2, 3, 4" in said
    for daemon in daemons:
        daemon.stop()
