"""What all tests share: where the real Code Signing Tools are, and which tests go to one worker together."""

from __future__ import annotations

import functools
import inspect
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import HealthCheck, settings
from twisted.internet.defer import Deferred

from digsigd.testing import TrialPki
from tests.helpers import keys
from tests.helpers.blobs import Signing
from tests.helpers.daemons import DEADLINE, RUNNING
from tests.soak.figures import FIGURES, Figures
from tests.soak.scale import Scale

CST_VERSIONS = ("3.4.1", "4.0.1")
# Folders whose tests wait for daemons and commands: they are begun first, so that what is quick fills the end.
_SLOW = ("cli", "daemon", "client", "signing")
# In seconds, below the timeout in pyproject.toml.
_LONGEST = 240.0
# Generated examples are the same in every run, and no busy machine fails them. Loaded before test files are read, whose
# own settings begin with it; `--hypothesis-profile=searching` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("searching", derandomize=False, deadline=None)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `make soak` and `make test-spsdk`."""
    options = parser.getgroup("soak", "tests that take minutes")
    options.addoption("--soak", action="store_true", help="run the tests that are marked soak; others with -m soak")
    options.addoption("--soak-folder", metavar="FOLDER", help="where figures and plots of the tests go")
    options.addoption("--soak-requests", type=int, default=20_000, help="how many requests in a row, at most")
    options.addoption("--soak-seconds", type=float, default=570, help="when the requests in a row end at the latest")
    options.addoption("--soak-kills", type=int, default=100, help="how often a daemon is killed")
    options.addoption("--soak-cases", type=int, default=10_000, help="how many requests the fuzzers send together")
    options.addoption("--soak-seed", type=int, help="the number that the fuzzers and kills follow")
    options.addoption("--spsdk", type=Path, metavar="NXPIMAGE", help="run the tests that are marked spsdk, with this")


def pytest_configure(config: pytest.Config) -> None:
    """Give processes that tests start the usual signals, also below `nohup`, and workers a folder for keys."""
    config.stash[FIGURES] = Figures(config.getoption("--soak-folder"))
    # Without a limit of their own, requests of tests would have httpx's 5 s: a busy machine may take longer.
    for part in ("connect", "read", "write", "pool"):
        setattr(DEFAULT_TIMEOUT_CONFIG, part, DEADLINE)
    for one in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(one) == signal.SIG_IGN:
            signal.signal(one, signal.default_int_handler if one == signal.SIGINT else signal.SIG_DFL)
    if "DIGSIGD_TESTS_STATE" not in os.environ:
        # Daemons that tests start record here: several daemons of a user share one record.
        state = os.environ["DIGSIGD_TESTS_STATE"] = tempfile.mkdtemp(prefix="digsigd-tests-state-")
        os.environ["XDG_STATE_HOME"] = state
        config.add_cleanup(lambda: shutil.rmtree(state, ignore_errors=True))
    if keys.FOLDER not in os.environ:
        # Workers inherit it.
        folder = os.environ[keys.FOLDER] = tempfile.mkdtemp(prefix="digsigd-tests-keys-")
        config.add_cleanup(lambda: _forget_keys(folder))


def _forget_keys(folder: str) -> None:
    del os.environ[keys.FOLDER]
    shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs cst, leave out what soaks or needs SPSDK. For xdist, begin with the slow files.

    `--dist loadfile` keeps the tests of a file together: they share a daemon, a token or folders of the project.
    """
    for item in items:
        if "cst_base" in getattr(item, "fixturenames", ()):
            item.add_marker("cst")
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _bounded(item.obj)
    unasked = [name for name in ("soak", "spsdk") if not config.getoption(f"--{name}")]
    if left_out := [item for item in items if any(item.get_closest_marker(name) for name in unasked)]:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    if hasattr(config, "workerinput"):
        root = Path(__file__).parent
        items.sort(key=lambda item: _turn(item.path.relative_to(root).parts))


def _bounded(test: Callable[..., Any]) -> Callable[..., Any]:
    """A test that fails once it has waited for too long: pytest-timeout's error would end in the reactor."""

    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> Any:
        from twisted.internet import reactor

        waiting = Deferred.fromCoroutine(test(*args, **kwargs))
        return await waiting.addTimeout(_LONGEST, reactor)

    return bounded


def _turn(parts: tuple[str, ...]) -> int:
    """When a file's turn is; those of the same turn stay in their order."""
    if len(parts) == 1:
        return -1
    return _SLOW.index(parts[0]) if parts[0] in _SLOW else len(_SLOW)


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """End the daemons that a test started and left running, as it does when it fails; those of its file go on."""
    before = set(RUNNING)
    yield
    for one in RUNNING - before:
        one.kill()


@pytest.fixture(scope="session", autouse=True)
def _no_faketime_is_left() -> None:
    """Remove what killed processes under faketime left: a later one that gets the number of such a process fails."""
    for path in Path("/dev/shm").glob("*faketime_s*_*"):
        number = path.name.rpartition("_")[2]
        if number.isdecimal() and not Path("/proc", number).exists():
            with suppress(OSError):
                path.unlink()


@pytest.fixture(params=["quick", pytest.param("soak", marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
def scale(request: pytest.FixtureRequest) -> Scale:
    """How much a test does: a little in `make test`, more in `make soak`."""
    option = request.config.getoption
    return Scale.soak(option) if request.param == "soak" else Scale.quick(option)


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    """What tests have measured; printed at the end."""
    return request.config.stash[FIGURES]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the figures of the tests that run in this process."""
    config.stash[FIGURES].show(terminalreporter)


@pytest.fixture(scope="session")
def cst_base() -> Path:
    """The folder with cst-3.4.1 and cst-4.0.1 in the layout of NXP's tarball. A missing one fails, it never skips."""
    default = Path(__file__).parent.parent / ".digsigd" / "nxp"
    base = Path(os.environ.get("DIGSIGSERVER_IMX_CST_BASE") or default)
    for version in CST_VERSIONS:
        for tool in ("cst", "srktool"):
            path = base / f"cst-{version}" / "linux64/bin" / tool
            if not path.is_file():
                pytest.fail(f"{path} is missing: `make test` gets it, or `etc/get-cst --base {base} {version}`")
    return base


@pytest.fixture(scope="session")
def signing(cst_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Signing:
    """The real cst, both versions, and keys of every kind."""
    return Signing(cst_base, lambda: tmp_path_factory.mktemp("signing"))


@pytest.fixture(scope="session")
def pki() -> TrialPki:
    """The keys of the machine that most tests sign for."""
    return keys.trial_keys("p256", srks=2)


@pytest.fixture(scope="session")
def other_pki() -> TrialPki:
    """The keys of somebody else."""
    return keys.trial_keys("p256", srks=1, other=True)
