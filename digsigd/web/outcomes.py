"""How requests to sign ended, for metrics and spans."""

from __future__ import annotations

from collections.abc import Mapping

from digsigd.metrics.meter import Meter
from digsigd.signing.evidence import Evidence
from digsigd.spans import Spans
from digsigd.web.answers import STATUS

SIGNED, GONE = "signed", "gone"
_STATUS = {SIGNED: 200, GONE: 0, **{kind.problem: status for kind, status in STATUS.items()}}
# What the record has beside the stages.
_NO_STAGES = {"all"}


class Outcomes:
    """Counts each request with `meter`, and sends its spans with `spans`; None: not."""

    def __init__(self, meter: Meter | None = None, spans: Spans | None = None) -> None:
        self._meter = meter
        self._spans = spans

    def over(
        self, outcome: str, evidence: Evidence, who: Mapping[str, str], *, seconds: float, received: int, sent: int
    ) -> None:
        """Take a request that has ended after `seconds`, with "signed", "gone", or a problem of an error.

        `who` are its log fields. `received` and `sent` are the bytes of its body and of its answer.
        """
        if self._meter is not None:
            times = {**evidence.seconds, "total": seconds}
            self._meter.request(
                outcome, evidence.machine, times, received=received, sent=sent, token_expires=evidence.token_expires
            )
        if self._spans is not None:
            about: dict[str, str | int] = {
                "digsigd.outcome": outcome,
                "digsigd.request_id": who["request_id"],
                "digsigd.caller": who["caller"],
                "http.request.body.size": received,
            }
            if evidence.machine:
                about["digsigd.machine"] = evidence.machine
            self._spans.request(
                evidence.traceparent,
                about,
                seconds=seconds,
                status=_STATUS.get(outcome, 500),
                stages={
                    stage: (evidence.ended[stage], length)
                    for stage, length in evidence.seconds.items()
                    if stage not in _NO_STAGES
                },
            )
