"""What is said to implement an interface does: all methods are there, with the arguments that callers give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer
from zope.interface import Interface
from zope.interface.verify import verifyObject

from digsigd.client._internal.form import Form
from digsigd.http.agent import PlainAgent
from digsigd.http.connection import BoundedEndpoints
from digsigd.http.endpoints import Endpoints
from digsigd.http.exchange import IUpload
from tests.http.clocked import ClockedReactor, Wires

CLOCK: Any = Clock()
ADDRESS = URI.fromBytes(b"https://host.example/")
BOUNDED = BoundedEndpoints(Wires(CLOCK))


def endpoints() -> Endpoints:
    reactor: Any = ClockedReactor()
    return Endpoints(reactor, connect_timeout=1, trust_root=None, certificate=None)


@pytest.mark.parametrize(
    ("interface", "made"),
    [
        (IAgent, PlainAgent(Agent(CLOCK), "http://host.example/")),
        (IAgentEndpointFactory, BOUNDED),
        (IStreamClientEndpoint, BOUNDED.endpointForURI(ADDRESS)),
        (IAgentEndpointFactory, endpoints()),
        (IStreamClientEndpoint, endpoints().endpointForURI(ADDRESS)),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_http_implements_what_it_says(interface: type[Interface], made: Any) -> None:
    """Agents and endpoints."""
    assert verifyObject(interface, made)


def test_a_form_is_an_upload(tmp_path: Path) -> None:
    """And so what Twisted takes for the body of a request."""
    path = tmp_path / "artifact"
    path.write_bytes(b"a")
    form = Form({}, b"", [(path, "artifact")], reactor=CLOCK)
    try:
        for interface in (IUpload, IBodyProducer, IPushProducer):
            assert verifyObject(interface, form, tentative=interface is IPushProducer)
    finally:
        form.close()
