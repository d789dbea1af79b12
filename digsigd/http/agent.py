"""What is below treq: agents that bound headers, and do nothing unasked."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from twisted.internet.defer import Deferred
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from digsigd.http.connection import BoundedEndpoints, Owner
from digsigd.http.reactor import Reactor

# A name that nobody has: RFC 2606.
_STAND_IN = "http://stand-in.invalid/"
# RFC 3986, 2.2 and 2.3, and the percent sign of what is escaped already.
_AS_IT_IS = "!#$%&'()*+,/:;=?@[]~"
# What treq would act on by itself.
_TAKEN_OFF = ("content-encoding", "set-cookie", "set-cookie2")


def bounded_agent(
    endpoints: IAgentEndpointFactory, reactor: Reactor, pool: HTTPConnectionPool, owner: Owner | None = None
) -> IAgent:
    """Return an agent whose connections, those of `pool`, bound headers. With an `owner` it is for one request."""
    agent: IAgent = Agent.usingEndpointFactory(reactor, BoundedEndpoints(endpoints, owner), pool)
    return agent


@implementer(IAgent)
class PlainAgent:
    """An agent for one request of treq's to `url`: no cookies, and no unpacking without a bound.

    `codings` are the content codings of the answer once it is there, in the order in which they were applied
    (RFC 9110, 8.4), in lower case, without `identity`.

    treq is told `url_for_treq`. hyperlink, which it reads addresses with, takes [::1] for a name in need of IDNA, and
    fails: it gets an address that stands for `url`, unless that has a host's name for which IDNA is needed.
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
        """See `IAgent`."""
        headers = Headers() if headers is None else headers.copy()
        # treq adds that it takes gzip.
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
    """Return an address whose unusual characters are escaped, and those that were before are left as they are."""
    return quote(url, safe=_AS_IT_IS)
