"""Requests that schemathesis makes from docs/openapi.yaml, and others that break it: what it says of answers holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok

from digsigd.testing import TrialPki
from tests.helpers.daemons import DEADLINE, MACHINE, Start
from tests.soak.figures import Figures
from tests.soak.scale import Scale
from tests.soak.test_raw_requests import CONFIG, check_clean

OPENAPI = Path(__file__).parents[2] / "docs/openapi.yaml"
# Which part of all requests each path gets; two thirds of them are as described.
SHARES = {
    "POST /sign/imx": 0.55, "GET /machines/{machine}": 0.2, "GET /healthz": 0.02, "GET /readyz": 0.02,
    "GET /metrics": 0.01, "GET /record/key": 0.01, "GET /": 0.02, "GET /page/machines": 0.02,
    "GET /page/signatures": 0.02,
    "GET /page/signatures/{record}": 0.02, "GET /page/verify": 0.01, "GET /page/{style}": 0.01,
    "POST /page/verify": 0.09,
}  # fmt: skip
# Not whether good requests are told from bad ones: unknown fields are ignored, and a good one can name unknown keys.
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
)


def test_answers_are_as_described(scale: Scale, figures: Figures, start: Start, pki: TrialPki) -> None:
    """Status, type, headers and form of each; no 5xx, and nothing is left of them."""
    daemon = start(f"{CONFIG}\n[page]\nenabled = true\n[metrics]\npath = true\n")
    assert daemon.post(pki).status_code == 200
    before = len(daemon.descriptors())
    load_all_checks()
    checks = [CHECKS.get_one(name) for name in CHECKED]
    schema = schemathesis.openapi.from_path(str(OPENAPI))
    schema.config.update(base_url=daemon.url)
    told: Counter[str] = Counter()
    names = set()
    with requests.Session() as session:
        for result in schema.get_all_operations():
            assert isinstance(result, Ok)
            operation = result.ok()
            names.add(operation.label)
            for mode, part in ((GenerationMode.POSITIVE, 2 / 3), (GenerationMode.NEGATIVE, 1 / 3)):
                count = max(1, round(scale.described * SHARES[operation.label] * part))

                def send(case: Any) -> None:
                    if case.path_parameters and "machine" in case.path_parameters and sum(told.values()) % 4 == 0:
                        case.path_parameters["machine"] = MACHINE
                    answer = case.call(session=session, timeout=DEADLINE, allow_redirects=False)
                    told[str(answer.status_code)] += 1
                    case.validate_response(answer, checks=checks)

                bounds = settings(
                    max_examples=count, deadline=None, database=None, phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )  # fmt: skip
                try:
                    strategy = operation.as_strategy(generation_mode=mode)
                    hypothesis.seed(scale.seed)(bounds(given(strategy)(send)))()
                except hypothesis.errors.Unsatisfiable:
                    # There is nothing to break in a request without parameters.
                    assert mode is GenerationMode.NEGATIVE
    assert names == set(SHARES)
    figures.add(
        "Requests of the fuzzers",
        kind="from openapi.yaml", seed=scale.seed, requests=told.total(),
        answers=", ".join(f"{count} x {what}" for what, count in sorted(told.items())),
    )  # fmt: skip
    check_clean(daemon, pki, before)
