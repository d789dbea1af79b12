"""What is in etc/yocto and etc/ci signs: its shell runs here, with a real digsign and a real daemon."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from digsigd.ahab import chip, verify
from digsigd.testing import TrialAhabImage, TrialAhabPki, TrialPki
from tests.helpers import golden
from tests.helpers.blobs import Signing
from tests.helpers.daemons import MACHINE, RIGHTS, Daemon

ETC = Path(__file__).parents[2] / "etc"
LAYER = ETC / "yocto"
CLASS = LAYER / "classes/digsign-imx.bbclass"
RECIPES = LAYER / "dynamic-layers/freescale-layer"
IMX_BOOT = RECIPES / "recipes-bsp/imx-mkimage/imx-boot_%.bbappend"
U_BOOT = RECIPES / "recipes-bsp/u-boot/u-boot-fslc_%.bbappend"
KERNELS = [RECIPES / f"recipes-kernel/linux/{name}_%.bbappend" for name in ("linux-imx", "linux-fslc-imx")]
DIGSIGN = Path(sys.executable).with_name("digsign")
TOKEN = "a-token-of-the-build"
# What base.bbclass and logging.bbclass of OpenEmbedded give to shell functions.
HELPERS = """
bbnote() { echo "NOTE: $*"; }
bbfatal() { echo "ERROR: $*"; exit 1; }
"""


@dataclass
class Recipe:
    """Variables, functions and flags of a recipe, read as BitBake reads the few forms that the layer has."""

    overrides: tuple[str, ...] = ()
    # Each with how it was assigned: "=", "?=" or "??=".
    values: dict[str, tuple[str, str]] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)

    def read(self, path: Path) -> Recipe:
        """Take over what a file says, and what it inherits or requires."""
        text = re.sub(r"\\\n", " ", path.read_text())
        body: list[str] | None = None
        name = ""
        for line in text.splitlines():
            if body is not None:
                if line == "}":
                    self.functions[name], body = "\n".join(body), None
                else:
                    body.append(line)
            elif match := re.fullmatch(r"(\w+)\(\) \{", line):
                name, body = match[1], []
            elif line.startswith("inherit "):
                self.read(LAYER / "classes" / f"{line.split()[1]}.bbclass")
            elif line.startswith("require "):
                self.read(path.parent / line.split()[1])
            elif match := re.fullmatch(r"addtask (\w+) (.*)", line):
                self.tasks[match[1]] = match[2]
            elif match := re.fullmatch(r'(\w+\[\w+\]) \+?= "(.*)"', line):
                self.flags[match[1]] = match[2]
            elif match := re.fullmatch(r'([A-Z_]+(?::[\w-]+)?) (\?\?=|\?=|=) "(.*)"', line):
                self.assign(*match.groups())
            else:
                assert not line or line.startswith("#"), line
        assert body is None, f"{path}: {name} has no end"
        return self

    def assign(self, name: str, how: str, value: str) -> None:
        strength = ["??=", "?=", "="]
        known = self.values.get(name)
        if known is None or (how == "=" or strength.index(how) > strength.index(known[0])):
            self.values[name] = (how, value)

    def value(self, name: str) -> str | None:
        """What a variable is, with overrides and with all that is in it."""
        for candidate in (*(f"{name}:{one}" for one in self.overrides), name):
            if candidate in self.values:
                return self.expand(self.values[candidate][1])
        return None

    def expand(self, text: str) -> str:
        """As BitBake does: names it does not know are left to the shell."""

        def known(match: re.Match[str]) -> str:
            value = self.value(match[1])
            return match[0] if value is None else value

        return re.sub(r"\$\{([A-Z_]+)\}", known, text)

    def script(self, task: str) -> str:
        """What BitBake would run for a task."""
        functions = "\n".join(f"{name}() {{\n{self.expand(body)}\n}}" for name, body in self.functions.items())
        return f"{HELPERS}\n{functions}\n{task}\n"

    def run(self, task: str, folder: Path, shell: str = "sh", **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [shell, "-e", "-c", self.script(task)], cwd=folder, capture_output=True, text=True, timeout=120,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **environ}, stdin=subprocess.DEVNULL,
        )  # fmt: skip


Make = Callable[..., Recipe]
# A file with containers, and keys for it, without SGKs and with them.
CONTAINERS = TrialAhabImage.of_size(0x10000)
AHAB = TrialAhabPki.make("p384", versions=(0,))
AHAB_SGK = TrialAhabPki.make("p384", sgk=True, versions=(0,))


@pytest.fixture(scope="module")
def pki(signing: Signing) -> TrialPki:
    return signing.pki("rsa2048")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    """A signing host that asks for a token."""
    folder = tmp_path_factory.mktemp("daemon")
    (folder / "token").write_text(TOKEN + "\n")
    running = Daemon(folder, cst_base, f'[callers.build]\ntoken_file = "{folder}/token"\n{RIGHTS}')
    running.put_keys(MACHINE, pki.tarball())
    for machine, keys in (("imx93-board", AHAB), ("imx8qxp-board", AHAB_SGK)):
        running.put_keys(machine, keys.tarball())
    running.start()
    yield running
    running.stop()


@pytest.fixture
def make(tmp_path: Path, daemon: Daemon, pki: TrialPki) -> Make:
    """A recipe of the layer as a build configures it."""

    def one(path: Path, *overrides: str, **values: str) -> Recipe:
        recipe = Recipe(overrides or ("mx8m-generic-bsp",))
        configuration = {
            "MACHINE": MACHINE,
            "S": str(tmp_path / "git"),
            "B": str(tmp_path / "build"),
            "KERNEL_OUTPUT_DIR": "arch/arm64/boot",
            "DIGSIGN": str(DIGSIGN),
            "DIGSIGN_SERVER": daemon.url,
            "DIGSIGN_TOKEN_FILE": str(daemon.folder / "token"),
            "DIGSIGN_FUSES": pki.fuse_value.hex(),
            **values,
        }
        for name, value in configuration.items():
            recipe.assign(name, "=", value)
        return recipe.read(path)

    (tmp_path / "git").mkdir()
    (tmp_path / "build").mkdir()
    return one


def digsign(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DIGSIGN, *arguments], capture_output=True, text=True, timeout=120)


def holds(image: Path, pki: TrialPki) -> bool:
    """Whether a board with these keys boots the image."""
    return digsign("verify", image, "--fuses", pki.fuse_value.hex()).returncode == 0


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("layout", ["nxp-old", "nxp-new"])
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_every_imx_boot_is_signed(make: Make, tmp_path: Path, pki: TrialPki, layout: str, shell: str) -> None:
    """Under the names of meta-freescale and of meta-imx, before they are installed and deployed."""
    names = [f"imx-boot-{MACHINE}-sd.bin-flash_evk", f"imx-boot-variant-{MACHINE}-fspi.bin-flash_evk_flexspi"]
    data = [golden.flash("mm", layout), golden.flash("mm", layout, boot="flexspi")]
    images = [write(tmp_path / "git" / name, one) for name, one in zip(names, data, strict=True)]
    other = write(tmp_path / "git" / "imx-boot-other-sd.bin-flash_evk", b"of another machine")
    done = make(IMX_BOOT).run("do_digsign", tmp_path, shell)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(holds(image, pki) for image in images)
    assert other.read_bytes() == b"of another machine"
    assert TOKEN not in done.stdout + done.stderr
    signed = [image.read_bytes() for image in images]
    # When BitBake runs the task again, they are signed again.
    assert make(IMX_BOOT).run("do_digsign", tmp_path, shell).returncode == 0
    assert all(holds(image, pki) for image in images)
    assert [len(image.read_bytes()) for image in images] == [len(one) for one in signed]


def test_flash_bin_of_binman_is_signed(make: Make, tmp_path: Path, pki: TrialPki) -> None:
    """Where the machine has it in place of imx-boot, and nowhere else."""
    image = write(tmp_path / "build/imx8mm_evk_defconfig/flash.bin", golden.flash("mm", "binman"))
    done = make(U_BOOT, "mx8m-generic-bsp").run("do_digsign", tmp_path)
    assert done.returncode == 0
    assert "nothing is signed" in done.stdout
    assert not holds(image, pki)
    done = make(U_BOOT, "imx-boot-container").run("do_digsign", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert holds(image, pki)


@pytest.mark.parametrize("recipe", KERNELS, ids=lambda path: path.name)
def test_the_kernel_is_signed_if_asked_for(make: Make, tmp_path: Path, pki: TrialPki, recipe: Path) -> None:
    """For the address that is configured; with its initramfs too, if it has one."""
    unsigned = golden.kernel()
    image = write(tmp_path / "build/arch/arm64/boot/Image", unsigned)
    bundle = write(tmp_path / "build/arch/arm64/boot/Image.initramfs", golden.kernel(0x300000))
    for task in ("do_digsign", "do_digsign_initramfs"):
        assert make(recipe).run(task, tmp_path).returncode == 0
    assert image.read_bytes() == unsigned
    asked = {"DIGSIGN_KERNEL": "1", "DIGSIGN_KERNEL_LOAD_ADDRESS": "0x40480000"}
    for task in ("do_digsign", "do_digsign_initramfs"):
        done = make(recipe, **asked).run(task, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert holds(image, pki)
    assert not holds(bundle, pki)
    done = make(recipe, **asked, INITRAMFS_IMAGE_BUNDLE="1").run("do_digsign_initramfs", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert holds(bundle, pki)
    (ivt,) = json.loads(digsign("inspect", image, "--json").stdout)["parts"]
    assert ivt["loaded_to"] == 0x40480000 + 0x210000


def test_the_options_of_digsign_are_set(make: Make, tmp_path: Path, signing: Signing, daemon: Daemon) -> None:
    """Each by its variable; what is not set is left out."""
    seen = write(tmp_path / "seen", b'#!/bin/sh\nfor one in "$@"; do echo "<$one>"; done\n')
    seen.chmod(0o755)
    write(tmp_path / "git" / f"imx-boot-{MACHINE}-sd.bin-flash", b"image")
    plain = make(IMX_BOOT, DIGSIGN=str(seen), DIGSIGN_SERVER="", DIGSIGN_TOKEN_FILE="", DIGSIGN_FUSES="")
    image = f"<{tmp_path}/git/imx-boot-{MACHINE}-sd.bin-flash>"
    told = re.findall("^<.*>$", plain.run("do_digsign", tmp_path).stdout, re.MULTILINE)
    assert told == ["<sign>", image, "<--output>", image, "<--machine>", f"<{MACHINE}>", "<--srk>", "<1>"]
    options = {
        "DIGSIGN_MACHINE": "--machine", "DIGSIGN_SRK": "--srk", "DIGSIGN_CST": "--cst", "DIGSIGN_BACKEND": "--backend",
        "DIGSIGN_FUSES": "--fuses", "DIGSIGN_LOAD_ADDRESS": "--load-address", "DIGSIGN_SERVER": "--server",
        "DIGSIGN_TOKEN_FILE": "--token-file", "DIGSIGN_CA_FILE": "--ca-file", "DIGSIGN_CLIENT_CERT": "--client-cert",
        "DIGSIGN_CLIENT_KEY": "--client-key", "DIGSIGN_CONFIG": "--config", "DIGSIGN_SOC": "--soc",
    }  # fmt: skip
    values = {name: f"a value of {option}" for name, option in options.items()}
    every = make(IMX_BOOT, **values, DIGSIGN=str(seen), DIGSIGN_FAST_AUTH="1", DIGSIGN_SGK="1")
    told = re.findall("^<(.*)>$", every.run("do_digsign", tmp_path).stdout, re.MULTILINE)
    for name, option in options.items():
        assert told[told.index(option) + 1] == values[name]
    assert not {"--fast-auth", "--sgk"} - set(told)
    known = set(re.findall(r"(?<![\w-])--[a-z-]+", digsign("sign", "--help").stdout))
    assert {*options.values(), "--fast-auth", "--sgk", "--output"} <= known


@pytest.mark.parametrize(("machine", "override", "keys", "digest", "more"), [
    ("imx93-board", "mx93-generic-bsp", AHAB, "sha256", {}),
    ("imx8qxp-board", "mx8x-generic-bsp", AHAB_SGK, "sha512", {"DIGSIGN_SGK": "1", "DIGSIGN_SRK": "2"}),
], ids=["93", "8X"])  # fmt: skip
def test_files_with_containers_are_signed(
    make: Make, tmp_path: Path, machine: str, override: str, keys: TrialAhabPki, digest: Any, more: dict[str, str]
) -> None:
    """Every container of the owner, with SRK or SGK; again when BitBake runs the task again."""
    names = [f"imx-boot-{machine}-{config}.bin-flash_singleboot" for config in ("sd", "fspi")]
    images = [write(tmp_path / "git" / name, CONTAINERS.data) for name in names]
    fuses = keys.fuse_value(digest).hex()
    for _ in range(2):
        recipe = make(IMX_BOOT, override, MACHINE=machine, DIGSIGN_FUSES=fuses, **more)
        done = recipe.run("do_digsign", tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        for image in images:
            told = digsign("verify", image, "--soc", recipe.value("DIGSIGN_SOC") or "", "--fuses", fuses)
            assert told.returncode == 0, told.stdout + told.stderr
            for header, _ in CONTAINERS.containers:
                assert verify(image.read_bytes(), header).certificate is bool(more)
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(("overrides", "soc"), [
    (("mx8qm-generic-bsp",), "mx8"), (("mx8qxp-generic-bsp", "mx8x-generic-bsp"), "mx8x"),
    (("mx8dxl-generic-bsp", "mx8x-generic-bsp"), "mx8dxl"), (("mx8ulp-generic-bsp",), "mx8ulp"),
    (("mx91-generic-bsp",), "mx91"), (("mx93-generic-bsp",), "mx93"),
])  # fmt: skip
def test_the_chip_is_told_where_images_do_not_say_it(
    make: Make, tmp_path: Path, overrides: tuple[str, ...], soc: str
) -> None:
    """By meta-freescale's overrides, the most specific first; digsign knows each name, a machine may set another."""
    assert chip(soc).name == soc
    seen = write(tmp_path / "seen", b'#!/bin/sh\necho "$*"\n')
    seen.chmod(0o755)
    write(tmp_path / "git" / f"imx-boot-{MACHINE}-sd.bin-flash_singleboot", b"image")
    done = make(IMX_BOOT, *overrides, DIGSIGN=str(seen)).run("do_digsign", tmp_path)
    assert f" --soc {soc} " in f"{done.stdout} ", done.stdout
    other = Recipe(("imx95-evk",))
    for name, value in (("DIGSIGN_ENABLE:imx95-evk", "1"), ("DIGSIGN_SOC:imx95-evk", "mx95")):
        other.assign(name, "=", value)
    for name, value in (("MACHINE", MACHINE), ("S", f"{tmp_path}/git"), ("B", str(tmp_path)), ("DIGSIGN", str(seen))):
        other.assign(name, "=", value)
    done = other.read(IMX_BOOT).run("do_digsign", tmp_path)
    assert " --soc mx95" in done.stdout


def test_a_python_of_the_build_is_not_digsigns(make: Make, tmp_path: Path, pki: TrialPki) -> None:
    """What recipes export for theirs would keep digsign from starting."""
    image = write(tmp_path / "git" / f"imx-boot-{MACHINE}-sd.bin-flash", golden.flash("mm", "nxp-old"))
    broken = {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/nowhere", "_PYTHON_SYSCONFIGDATA_NAME": "_nothing"}
    done = make(IMX_BOOT).run("do_digsign", tmp_path, **broken)
    assert done.returncode == 0, done.stdout + done.stderr
    assert holds(image, pki)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"DIGSIGN_FUSES": "11" * 32}, "fuse"),
        ({"DIGSIGN_SERVER": "http://127.0.0.1:9", "DIGSIGN_CONFIG": "quick.toml"}, "127.0.0.1:9"),
        ({"DIGSIGN_TOKEN_FILE": "wrong-token"}, "token"),
        ({"DIGSIGN_MACHINE": "another"}, "another"),
        ({"DIGSIGN_CST": "9.9.9"}, "9.9.9"),
    ],
)
def test_a_failure_ends_the_build(make: Make, tmp_path: Path, values: Mapping[str, str], says: str) -> None:
    """With its reason; the image is as it was."""
    (tmp_path / "quick.toml").write_text("retries = 0\n")
    (tmp_path / "wrong-token").write_text("the-wrong-one\n")
    unsigned = golden.flash("mm", "nxp-old")
    image = write(tmp_path / "git" / f"imx-boot-{MACHINE}-sd.bin-flash", unsigned)
    done = make(IMX_BOOT, **values).run("do_digsign", tmp_path)
    assert done.returncode == 1
    assert f"ERROR: {image} was not signed and is unchanged" in done.stdout
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert image.read_bytes() == unsigned


def test_an_image_that_is_not_there_ends_the_build(make: Make, tmp_path: Path) -> None:
    """Rather than that nothing is signed."""
    done = make(IMX_BOOT).run("do_digsign", tmp_path)
    assert done.returncode == 1
    assert "not found; check this recipe's DIGSIGN_IMAGES" in done.stdout
    assert "imx-boot*-imx8mm-evk-*.bin-*" in done.stdout


def test_nothing_is_signed_for_other_chips(make: Make, tmp_path: Path) -> None:
    """Nor where it is turned off."""
    image = write(tmp_path / "git" / f"imx-boot-{MACHINE}-sd.bin-flash", b"of an i.MX 95")
    assert make(IMX_BOOT, "mx95-generic-bsp").run("do_digsign", tmp_path).returncode == 0
    for family in ("mx8m-generic-bsp", "mx93-generic-bsp"):
        assert make(IMX_BOOT, family, DIGSIGN_BOOT="0").run("do_digsign", tmp_path).returncode == 0
    assert image.read_bytes() == b"of an i.MX 95"


def test_tasks_come_where_they_have_to(make: Make) -> None:
    """After what makes images, before what takes them; with a network, which others have not."""
    recipe = make(KERNELS[0])
    assert recipe.tasks == {
        "digsign": "after do_compile before do_install do_deploy",
        "digsign_initramfs": "after do_bundle_initramfs do_digsign before do_deploy",
    }
    assert recipe.flags["do_digsign[network]"] == recipe.flags["do_digsign_initramfs[network]"] == "1"
    assert recipe.flags["do_digsign[dirs]"] == "${B}"
    # What says where the host is changes no hash; what says which keys sign does.
    excluded = set(recipe.flags["digsign_sign[vardepsexclude]"].split())
    assert excluded < {name for name in recipe.values if name.startswith("DIGSIGN")}
    assert not excluded & {"DIGSIGN_FUSES", "DIGSIGN_SRK", "DIGSIGN_MACHINE", "DIGSIGN_FAST_AUTH", "DIGSIGN_CST"}


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_the_shell_is_one_for_every_sh(make: Make, shell: str) -> None:
    """By their own syntax checks."""
    for path in (IMX_BOOT, U_BOOT, *KERNELS):
        subprocess.run([shell, "-n", "-c", make(path).script(":")], check=True)


def test_the_layer_has_what_it_says() -> None:
    """Every append is found by its pattern, and every variable is described."""
    text = (LAYER / "conf/layer.conf").read_text()
    (pattern,) = re.findall(r"freescale-layer:\$\{LAYERDIR\}/(\S+)", text)
    assert set(LAYER.glob(pattern)) == {IMX_BOOT, U_BOOT, *KERNELS} == set(LAYER.rglob("*.bbappend"))
    files = [CLASS, *LAYER.rglob("*.bbappend"), *LAYER.rglob("*.inc")]
    assert all("python " not in path.read_text() and "${@" not in path.read_text() for path in files)
    used = {name for path in files for name in re.findall(r"\bDIGSIGN(?:_[A-Z]+)*\b", path.read_text())}
    readme = (LAYER / "README.md").read_text()
    rows = [line for line in readme.splitlines() if line.startswith("| `DIGSIGN")]
    assert {name for row in rows for name in re.findall(r"`(DIGSIGN(?:_[A-Z]+)*)`", row.rsplit("|", 2)[0])} == used
    assert not re.search(r"DIGSIGN_TOKEN\b(?!_FILE)", "".join(path.read_text() for path in files) + readme)


def load(name: str) -> Any:
    return yaml.safe_load((ETC / "ci" / name).read_text())


def run_lines(lines: list[str], folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """As a runner does: one script, which ends where a command fails."""
    path = f"{DIGSIGN.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)], cwd=folder, capture_output=True, text=True, timeout=120,
        env={"PATH": path, "HOME": str(folder), **environ}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_gitlabs_jobs_sign_and_verify(tmp_path: Path, daemon: Daemon, pki: TrialPki) -> None:
    """With the variables that its comments name; the token comes in a file."""
    jobs = load("gitlab-ci.yml")
    write(tmp_path / "flash.bin", golden.flash("mp", "nxp-new"))
    given = {"DIGSIGN_SERVER": daemon.url, "DIGSIGN_TOKEN_FILE": f"{daemon.folder}/token"}
    values = {**jobs["variables"], "FUSES": pki.fuse_value.hex(), "SOC": "imx8mp"}
    done = run_lines(jobs["sign"]["script"], tmp_path, **values, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    # The job that verifies has no token, and needs none.
    done = run_lines(jobs["verify"]["script"], tmp_path, **values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert holds(tmp_path / "signed-flash.bin", pki)
    for job in ("sign", "verify"):
        for name in jobs[job]["artifacts"]["paths"]:
            assert (tmp_path / name.replace("$IMAGE", "flash.bin")).is_file()
        assert "CI_COMMIT_REF_PROTECTED" in jobs[job]["rules"][0]["if"]
    done = run_lines(jobs["verify"]["script"], tmp_path, **{**values, "FUSES": "11" * 32})
    assert done.returncode == 1
    comments = (ETC / "ci/gitlab-ci.yml").read_text().split("variables:\n")[0]
    assert {"DIGSIGN_SERVER", "DIGSIGN_TOKEN_FILE", "DIGSIGN_CA_FILE", "DIGSIGN_PACKAGE"} <= set(
        re.findall(r"DIGSIGN_\w+", comments)
    )


@pytest.mark.parametrize(("machine", "soc", "keys", "digest"), [
    ("imx93-board", "imx93", AHAB, "sha256"), ("imx8qxp-board", "mx8x", AHAB_SGK, "sha512"),
], ids=["93", "8X"])  # fmt: skip
def test_both_sign_files_with_containers(
    tmp_path: Path, daemon: Daemon, machine: str, soc: str, keys: TrialAhabPki, digest: Any
) -> None:
    """Once the variables name the machine and the chip."""
    changed = {"DIGSIGN_MACHINE": machine, "SOC": soc, "FUSES": keys.fuse_value(digest).hex()}
    given = {"DIGSIGN_SERVER": daemon.url, "DIGSIGN_TOKEN": TOKEN, "DIGSIGN_CA": "", "RUNNER_TEMP": str(tmp_path)}
    gitlab, workflow = load("gitlab-ci.yml"), load("github-actions.yml")
    steps = {step.get("name"): step for step in workflow["jobs"]["sign"]["steps"]}
    for name, values, scripts in (
        ("gitlab", gitlab["variables"], [gitlab[job]["script"] for job in ("sign", "verify")]),
        ("github", workflow["env"], [[steps[step]["run"]] for step in ("sign", "verify")]),
    ):
        folder = tmp_path / name
        write(folder / "flash.bin", CONTAINERS.data)
        for script in scripts:
            done = run_lines(script, folder, **{**values, **changed, **given})
            assert done.returncode == 0, done.stdout + done.stderr
        for header, _ in CONTAINERS.containers:
            verify((folder / "signed-flash.bin").read_bytes(), header)


@pytest.mark.parametrize("own_authority", [False, True])
def test_githubs_jobs_sign_and_verify(tmp_path: Path, daemon: Daemon, pki: TrialPki, own_authority: bool) -> None:
    """With the secrets and variables that its comments name."""
    workflow = load("github-actions.yml")
    steps = {step.get("name"): step for step in workflow["jobs"]["sign"]["steps"]}
    certificate = pki.files[pki.certificate("SRK")].decode()
    given = {
        "vars.DIGSIGN_SERVER": daemon.url,
        "secrets.DIGSIGN_TOKEN": TOKEN,
        "vars.DIGSIGN_CA": certificate if own_authority else "",
        "vars.DIGSIGN_FUSES": pki.fuse_value.hex(),
    }
    write(tmp_path / "flash.bin", golden.flash("mn", "nxp-hash"))
    for name in ("sign", "verify"):
        expressions = steps[name]["env"]
        env = {key: given[re.fullmatch(r"\$\{\{ (\S+) \}\}", text)[1]] for key, text in expressions.items()}  # type: ignore[index]
        assert name == "sign" or not any("TOKEN" in key for key in env)
        done = run_lines(
            [steps[name]["run"]], tmp_path, **{**workflow["env"], "SOC": "imx8mn"}, **env, RUNNER_TEMP=str(tmp_path)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert TOKEN not in done.stdout + done.stderr
    assert holds(tmp_path / "signed-flash.bin", pki)
    assert (tmp_path / "ca.pem").exists() is own_authority
    assert not own_authority or (tmp_path / "ca.pem").read_text().strip() == certificate.strip()
    # Secrets are in the environment of one step, and in no command.
    text = (ETC / "ci/github-actions.yml").read_text()
    assert text.count("secrets.") == 1
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["jobs"]["sign"]["environment"] == "release"


def test_what_ci_runs_is_there() -> None:
    """Each command of digsign that a script names."""
    for path in (ETC / "ci").iterdir():
        for command in re.findall(r"^\s*(?:- |run: )?digsign (\w+)", path.read_text(), re.MULTILINE):
            assert digsign(command, "--help").returncode == 0
