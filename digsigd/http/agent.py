"""Agents for treq to run on: they bound headers, and neither keep cookies nor decompress."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from twisted.internet.defer import Deferred
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from digsigd.http.connection import BoundedEndpoints, Owner
from digsigd.http.reactor import Reactor

# A reserved name: RFC 2606.
_STAND_IN = "http://stand-in.invalid/"
# RFC 3986, 2.2 and 2.3, and the percent sign of existing escapes.
_AS_IT_IS = "!#$%&'()*+,/:;=?@[]~"
# Headers that treq would act on.
_TAKEN_OFF = ("content-encoding", "set-cookie", "set-cookie2")


def bounded_agent(
    endpoints: IAgentEndpointFactory, reactor: Reactor, pool: HTTPConnectionPool, owner: Owner | None = None
) -> IAgent:
    """Return an agent that uses connections of `pool` and bounds headers.

    With an `owner`, use the agent for one request only.
    """
    agent: IAgent = Agent.usingEndpointFactory(reactor, BoundedEndpoints(endpoints, owner), pool)
    return agent


@implementer(IAgent)
class PlainAgent:
    """An agent for one treq request to `url`, without cookies and without unbounded decompression.

    `codings` holds the content codings of the answer once it has arrived, in the order in which they were applied
    (RFC 9110, 8.4), in lower case, without `identity`.

    Pass `url_for_treq` to treq. treq parses addresses with hyperlink, which takes [::1] for a name that needs IDNA and
    fails. So `url_for_treq` is a placeholder for `url`, unless the host name of `url` does need IDNA.
    """

    def __init__(self, agent: IAgent, url: str) -> None:
        self._agent = agent
        self._url = escaped(url).encode() if urlsplit(url).netloc.isascii() else None
        self.url_for_treq = url if self._url is None else _STAND_IN
        self.codings: tuple[str, ...] = ()

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 - the interface's
    ) -> Deferred[IResponse]:
        """Implement `IAgent.request`: send the request to `url`, and take off the headers that treq would act on."""
        headers = Headers() if headers is None else headers.copy()
        # treq would add gzip.
        headers.setRawHeaders("accept-encoding", ["identity"])
        asking: Deferred[IResponse] = self._agent.request(method, self._url or uri, headers, bodyProducer)
        return asking.addCallback(self._taken_off)

    def _taken_off(self, response: IResponse) -> IResponse:
        named = b",".join(response.headers.getRawHeaders(b"content-encoding", [])).decode("latin-1").lower().split(",")
        self.codings = tuple(coding for name in named if (coding := name.strip()) not in {"", "identity"})
        for name in _TAKEN_OFF:
            response.headers.removeHeader(name)
        return response


def escaped(url: str) -> str:
    """Return an address with its unusual characters percent-escaped. Existing escapes stay unchanged."""
    return quote(url, safe=_AS_IT_IS)
