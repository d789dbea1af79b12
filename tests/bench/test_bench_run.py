"""One small run of the benchmark, with the real daemon, the real cst and h2load."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from digsigd import ahab
from digsigd.testing import TrialPki
from etc.benchmarks import commands, filling, floor, growth, load
from etc.benchmarks.cases import AHAB, Case
from etc.benchmarks.daemon import THIS, Checkout, daemon
from etc.benchmarks.floor import Floor, FloorError
from etc.benchmarks.ground import OWN, PLAIN, Ground
from etc.benchmarks.measure import measure

CASE = Case("p256", clients=2, record="sqlite")


@pytest.fixture
def ground(tmp_path: Path, cst_base: Path) -> Ground:
    return Ground(tmp_path, cst_base, "3.4.1")


def test_a_case_is_measured_beside_its_floors(ground: Ground) -> None:
    """Every request is signed, every figure is there, and two checkouts are compared in the same rounds."""
    found = measure(ground, CASE, rounds=2, count=5, checkouts=[THIS, Checkout("other", THIS.path)])
    assert [(one.case, one.checkout) for one in found] == [(CASE.name, "this"), (CASE.name, "other")]
    for one in found:
        assert (one.rounds, one.requests, one.others) == (2, 10, 0)
        assert {OWN, PLAIN} <= set(one.floors)
        figures = [one.per_second, one.own_ms, one.children_ms, one.p50_ms, one.p99_ms, one.stall_ms]
        figures += [part for each in one.floors.values() for part in (each.ratio, each.cpu_ms, each.wall_ms)]
        assert all(figure > 0 for figure in figures)
        assert one.tree_mib >= one.daemon_mib > 10


@pytest.mark.parametrize("keys", AHAB)
def test_a_case_of_ahab_is_measured_beside_cst_on_the_whole_file(ground: Ground, keys: str) -> None:
    """Every request is signed, and so is what each floor writes, the whole file."""
    case = Case(keys, clients=1)
    (found,) = measure(ground, case, rounds=1, count=2)
    assert (found.requests, found.others) == (2, 0)
    assert found.per_second > 0
    for one in ground.floors(case):
        place = one.folder / "0"
        subprocess.run([*one.command, "-i", floor.DESCRIPTION, "-o", floor.OUT], cwd=place, check=True)
        written = (place / floor.OUT).read_bytes()
        assert len(written) == case.size
        ahab.verify(written, 0x400, srk_table=ground.ahab_pki(case.ahab).srk_table())


def test_a_request_that_is_not_signed_is_counted_apart(ground: Ground) -> None:
    """Here the key store has no keys for the machine."""
    with daemon(ground, CASE) as running:
        ground.body(CASE)
        run = load.run(running.url, ground.body(CASE), clients=1, count=3, log=ground.folder / "log")
    assert run.statuses == {404: 3}
    assert run.good == 0


def test_a_bare_run_that_writes_nothing_is_no_floor(ground: Ground) -> None:
    """Whatever its exit code is."""
    (ground.folder / "place/0").mkdir(parents=True)
    with pytest.raises(FloorError, match="wrote no out"):
        floor.run(ground.forker, Floor("none", ground.folder / "place", ("/bin/true",), {}), 1, 1)


def test_a_record_is_filled_and_the_daemon_goes_on_with_it(ground: Ground, tmp_path: Path) -> None:
    """With copies of its first entry: the daemon that continues the log accepts them as its own."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    url = f"sqlite:///{state}/record.sqlite"
    ground.put_machine(CASE)
    for size in (0, 300):
        if size:
            assert filling.fill_record(state, url, size) == size
        with daemon(ground, CASE, record=url, state=state) as running:
            run = load.run(running.url, ground.body(CASE), clients=1, count=2, log=ground.folder / "log")
            assert run.statuses == {200: 2}
    assert filling.fill_record(state, url, 0) == 302


def test_growth_has_a_point_for_each_number(ground: Ground) -> None:
    """With every curve, and no request that was not signed."""
    curves = growth.clients(ground, (1, 3), requests=6)
    assert growth.OTHERS not in curves
    assert {growth.P50, growth.P99, growth.CPU, growth.MEMORY} <= set(curves)
    assert all([x for x, _ in points] == [1.0, 3.0] for points in curves.values())


def test_machines_share_their_keys(ground: Ground) -> None:
    """One file with as many names as there are machines."""
    names = filling.put_machines(ground, CASE, 3)
    files = [ground.keys / name / "imxsign/imx-cst-keys.tar.gz" for name in names]
    assert {file.stat().st_ino for file in files} == {files[0].stat().st_ino}
    assert isinstance(ground.pki("p256"), TrialPki)


def test_another_checkout_is_a_folder_with_the_project(cst_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A commit's name is none: this checkout would be measured twice."""
    words = ["--base", str(cst_base), "run", "--cases", "p256,64K", "--versus", "a-commit"]
    assert commands.main(words) == 1
    assert "a-commit is none (git worktree add)" in capsys.readouterr().err
