"""The parts of the benchmark that need no daemon: cases, logs, ratios, tables, plots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from etc.benchmarks import cases, floor, load, plots, profiling, results, tables, targets
from etc.benchmarks.cases import Case, CaseError
from etc.benchmarks.commands import DOCUMENT, JSON, PLOTS
from etc.benchmarks.floor import FloorError, FloorRun
from etc.benchmarks.load import LoadError
from etc.benchmarks.results import Figures, FloorFigures, Host, Result

FLOOR = FloorFigures(100.0, 10.0, 8.0, 7.0, 0.8, 0.7, 0.9)
RESULT = Result(
    "rsa4096,64K,4", "this", 5, 600, 0, 80.0, 3.0, 6.0, 0.2, 14.0, 20.0, 30.0, 12.0, 61.0, 90.0,
    {"system": replace(FLOOR, ratio=1.1), "own": FLOOR, "plain": FLOOR},
)  # fmt: skip
HOST = Host(2, "a processor", 8, "6.1", "a system", "3.11", "OpenSSL 3", "26", "3.4.1", "libraries of Debian trixie")
CURVES = {"p50 ms": [[1.0, 12.0], [1000.0, 13.5]], "daemon MiB": [[1.0, 60.0], [1000.0, 61.5]]}


def test_cases_are_named_by_a_text_and_name_themselves() -> None:
    """Values with `/`, `*` for all, and what is missing as in the base case."""
    assert cases.parse("rsa4096") == [Case("rsa4096")]
    assert cases.parse("p256,32M,1/16,cage=on/off") == [
        Case("p256", 32 << 20, clients, cage=cage) for clients in (1, 16) for cage in ("on", "off")
    ]
    assert {one.keys for one in cases.parse("*,64K,4")} == set(cases.KINDS)
    for one in cases.whole():
        assert cases.parse(one.name) == [one]


def test_cases_of_ahab_are_named_with_their_keys() -> None:
    """They are in the standard run, at both sizes, and `*` does not mean them."""
    (case,) = cases.parse("ahab-p384,32M,4")
    assert (case, case.ahab, case.machine) == (Case("ahab-p384", 32 << 20), "p384", "bench-ahab-p384-ssl")
    assert Case("p384").ahab == ""
    assert {one.name for one in cases.standard() if one.ahab} == {
        f"{keys},{size},4" for keys in cases.AHAB for size in ("64K", "32M")
    }


@pytest.mark.parametrize("text", [
    "", "rsa1024", "p256,64", "p256,1K", "p256,64K,0", "p256,64K,4,5", "p256,tls=on",
    "ahab-p256", "ahab-p384,16K", "ahab-p384,64K,4,backend=pkcs11",
])  # fmt: skip
def test_a_text_that_names_no_case_is_refused(text: str) -> None:
    """Before anything is started."""
    with pytest.raises(CaseError):
        cases.parse(text)


def test_the_standard_run_has_the_cases_of_all_targets() -> None:
    """A target without a case would never be measured."""
    measured = [replace(RESULT, case=one.name) for one in cases.standard()]
    assert all(one.measured(measured) is not None for one in targets.TARGETS)


def test_only_answers_with_status_200_count() -> None:
    """The others are counted apart, also those of which h2load's log has no line."""
    run = load.read("1000000\t200\t50000\n1100000\t503\t1000\n1000000\t200\t500000\n", count=5)
    assert (run.good, run.others, run.statuses[-1]) == (2, 3, 2)
    assert run.times_ms == (50.0, 500.0)
    assert run.seconds == pytest.approx(0.5)
    assert run.per_second == pytest.approx(4.0)


@pytest.mark.parametrize("text", ["", "no log\n", "1\t200\t1\n1\t200\t1\n"])
def test_a_log_that_is_none_is_refused(text: str) -> None:
    """Nothing, another text, and more requests than were asked for."""
    with pytest.raises(LoadError):
        load.read(text, count=1)


def test_a_floor_is_read_to_its_last_line() -> None:
    """Wall time is a median, CPU time a mean, and without the last line there is no figure."""
    run = floor.read("1000 3000 1024\n2000 5000 2048\n9000 7000 1024\n= 0.500000 10\n")
    assert run == FloorRun(per_second=6.0, wall_ms=2.0, cpu_ms=5.0, peak_mib=2.0)
    with pytest.raises(FloorError):
        floor.read("1000 3000 1024\n")


def test_the_ratio_is_the_median_of_ratios_of_the_same_round() -> None:
    """Not the ratio of medians, in which rounds of different minutes would meet."""
    runs = [FloorRun(rate, 1.0, 1.0, 1.0) for rate in (10.0, 100.0, 1000.0)]
    figures = results.floor_figures(runs, [9.0, 50.0, 900.0])
    assert (figures.ratio, figures.least_ratio, figures.most_ratio) == (0.9, 0.5, 0.9)


def test_percentiles_are_of_the_nearest_rank() -> None:
    """And of nothing 0."""
    assert [results.percentile(range(100), share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 99]
    assert results.percentile([], 0.5) == 0


def test_figures_survive_their_file_and_a_second_run_adds_to_them(tmp_path: Path) -> None:
    """What is measured again is replaced, the rest stays; figures of another host replace all."""
    path = tmp_path / "new/figures.json"
    results.add(None, Figures(HOST, [RESULT]))
    results.add(path, Figures(HOST, [RESULT]))
    assert results.read(path) == Figures(HOST, [RESULT])
    results.add(path, Figures(HOST, [], {"machines": CURVES}, {"p": [["reactor", "step", 1.0]]}))
    again = [replace(RESULT, case="p256,64K,4"), replace(RESULT, per_second=1.0)]
    results.add(path, Figures(HOST, again))
    both = results.read(path)
    assert both.cases == [again[1], again[0]]
    assert both.growth == {"machines": CURVES}
    results.add(path, Figures(replace(HOST, processors=16), []))
    assert results.read(path).cases == []


def test_each_target_is_shown_with_its_figure() -> None:
    """Met, missed or not measured."""
    lines = tables.targets([RESULT]).splitlines()
    assert (
        "| RSA-4096, 64 KiB, 4 clients: throughput of bare cst with the same libraries | ≥ 0.9 | 0.8 | **missed** |"
        in lines
    )
    assert any(line.endswith("| ≥ 1.05 | 1.1 | met |") for line in lines)
    assert any(line.endswith("| ≤ 1.12 | 1.12 | met |") for line in lines)
    assert any(line.endswith("| ≤ 30 ms | 12 ms | met |") for line in lines)
    assert any(line.endswith("| not measured |  |") for line in lines)
    assert "not measured" not in tables.targets([RESULT], unmeasured=False)


def test_checkouts_are_compared_case_by_case() -> None:
    """A case that only one of them has is left out."""
    other = replace(RESULT, checkout="other", per_second=40.0, own_ms=5.0)
    lone = replace(other, case="p256,64K,4")
    rows = tables.versus([RESULT, other, lone], "other").splitlines()[2:]
    assert rows == ["| `rsa4096,64K,4` | 80.0 | 40.0 | 2.00 | 3.0 + 6.0 | 5.0 + 6.0 | 0.80, 0.80 | 14 | 14 |"]


def test_blocks_replace_what_is_between_their_markers() -> None:
    """Only that, and a document without a place for one is an error."""
    text = "a\n<!-- bench: x -->\nold\n<!-- end -->\nb\n<!-- bench: y -->\n<!-- end -->\n"
    filled = tables.fill(text, {"x": r"new \1"})
    assert filled == "a\n<!-- bench: x -->\n\nnew \\1\n<!-- end -->\nb\n<!-- bench: y -->\n<!-- end -->\n"
    assert tables.fill(filled, {"x": r"new \1"}) == filled
    with pytest.raises(tables.MarkersMissing):
        tables.fill(text, {"z": ""})


def test_the_document_and_its_plots_are_made_from_its_figures() -> None:
    """`make bench-docs` was run after benchmarks.json was changed."""
    figures = results.read(JSON)
    assert tables.fill(DOCUMENT.read_text(), tables.blocks(figures)) == DOCUMENT.read_text()
    assert set(figures.growth) == {path.stem.removeprefix("growth-") for path in PLOTS.glob("growth-*.svg")}


def test_a_plot_fits_light_and_dark_pages_and_is_the_same_again() -> None:
    """Well-formed SVG whose only colours are variables that a dark page changes."""
    svg = plots.draw("machines", CURVES)
    assert svg == plots.draw("machines", CURVES)
    root = ET.fromstring(svg)  # noqa: S314 - our own
    style = root.find("{http://www.w3.org/2000/svg}style")
    assert style is not None
    assert "prefers-color-scheme: dark" in (style.text or "")
    rest = svg.replace(style.text or "", "")
    assert "var(--one)" in rest
    for colour in ("#0", "#f", "black", "white"):
        assert f": {colour}" not in rest
    assert "machines in the key store" in svg


def test_numbers_on_the_horizontal_axis_are_short() -> None:
    """Sizes in powers of two, the rest in powers of ten."""
    assert [plots.tick_text("size", 1 << power) for power in (6, 16, 28)] == ["64", "64K", "256M"]
    assert [plots.tick_text("records", x) for x in (1, 1000, 1e6)] == ["1", "1K", "1M"]


def test_a_sample_belongs_to_the_innermost_module_of_digsigd() -> None:
    """Else to the innermost library; waits do not count."""
    main = "thread (7): MainThread"
    form = "read (digsigd/web/form.py:3);feed (multipart.py:9)"
    text = (
        f"{main};run (twisted/internet/base.py:1);{form} 3\n"
        f"{main};run (twisted/internet/base.py:1) 1\n"
        f"{main};run (twisted/internet/base.py:1);EPollReactor.doPoll (twisted/internet/epollreactor.py:2) 90\n"
        "thread (8): PoolThread-1;work (digsigd/hab/cms.py:5) 2\n"
    )
    seen = profiling.samples(text)
    assert seen == {7: {"web/form": 3, "twisted/internet": 1}, 8: {"hab/cms": 2}}
    rows = profiling.table(seen, {7: ("main", 4.0), 8: ("pool", 0.5), 9: ("idle", 0.1)}, main=7)
    assert rows == [
        ["reactor", "`web/form`", 3.0],
        ["reactor", "`twisted/internet`", 1.0],
        ["other threads", "`hab/cms`", 0.5],
        ["other threads", "woken up", 0.1],
    ]
