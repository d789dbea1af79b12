"""Settings of metrics, canary and traces that cannot work are told before anything listens."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from digsigd.names import trace_id_of
from digsigd.settings import SettingsError, load
from digsigd.spans import Spans

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[metrics]\nendpoint = "tcp:9998"\n', r"metrics\.endpoint: .*not loopback.*allow_anonymous"),
        ('[callers.a]\ntoken_file = "t"\nmetrics = true\n', r"callers\.a\.metrics: needs metrics\.path"),
        ("[canary]\ncst_version = '1'\n", r"canary: needs machine"),
        ("[canary]\nmachine = '../a'\n", r"canary\.machine: is not a machine name"),
        ("[canary]\nmachine = 'a'\ncst_version = '/bin/cst'\n", r"canary\.cst_version: is not a version"),
        ("[canary]\nmachine = 'a'\nbackend = 'pkcs11'\n", r"canary\.csf: is needed for backend pkcs11"),
        ("[canary]\nmachine = 'a'\nevery = 0\n", r"canary\.every"),
        ("[telemetry]\notlp = 'collector:4318'\n", r"telemetry\.otlp: is not the http\(s\) URL"),
    ],
)
def test_what_cannot_work_is_told_with_its_key(tmp_path: Path, text: str, told: str) -> None:
    """And the file."""
    path = tmp_path / "digsigd.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=told) as caught:
        load(path, {})
    assert "digsigd.toml" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '[metrics]\nendpoint = "tcp:9998"\nallow_anonymous = true\n',
        '[metrics]\nendpoint = "unix:/run/metrics"\n',
        '[metrics]\npath = true\n[callers.a]\ntoken_file = "t"\nmetrics = true\n',
        "[telemetry]\notlp = 'https://collector.example/otlp/v1/traces'\n",
    ],
)
def test_what_can_work_is_accepted(tmp_path: Path, text: str) -> None:
    """Metrics are on with an endpoint, with a path, or both."""
    path = tmp_path / "digsigd.toml"
    path.write_text(text)
    assert load(path, {}).metrics.are_on == ("metrics" in text)


def test_traces_need_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(SettingsError, match=r"telemetry\.otlp: needs digsigd\[otel\]"):
        Spans("http://127.0.0.1:4318")


@pytest.mark.parametrize(
    ("text", "trace_id"),
    [
        (f"00-{TRACE}-{SPAN}-01", TRACE),
        (f"cc-{TRACE}-{SPAN}-01-more", TRACE),
        (f"00-{TRACE}-{SPAN}-01-more", ""),
        (f"ff-{TRACE}-{SPAN}-01", ""),
        (f"00-{TRACE.upper()}-{SPAN}-01", ""),
        (f"00-{'0' * 32}-{SPAN}-01", ""),
        (f"00-{TRACE}-{SPAN}-01\n", ""),
        (f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01", ""),
        ("", ""),
    ],
)
def test_only_a_valid_traceparent_has_a_trace(text: str, trace_id: str) -> None:
    """W3C Trace Context: nothing else of a client's text gets into the log."""
    assert trace_id_of(text) == trace_id
