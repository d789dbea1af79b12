"""The process that asks the signing host: an order on standard input, its result on standard output."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from digsigd import Error
from digsigd.client import SigningClient, run
from digsigd.http.reactor import Reactor
from digsigd.spsdk.configuration import configured
from digsigd.spsdk.errors import ProviderError
from digsigd.spsdk.exchange import Order, Result
from digsigd.spsdk.signing import sign_region, signature_length


def main() -> int:
    """Carry out one order. Return 0 with a result on standard output, which also says why it failed."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    try:
        result = run(lambda reactor: _answered(order, reactor))
    except Error as error:
        told = ProviderError.of(error)
        result = Result(failure=told.summary(), hint=told.hint)
    sys.stdout.buffer.write(msgspec.json.encode(result))
    sys.stdout.buffer.flush()
    return 0


async def _answered(order: Order, reactor: Reactor) -> Result:
    configuration = configured(order.keys, order.search_paths, os.environ)
    client = SigningClient(configuration.settings, reactor=reactor)
    try:
        if order.call == "length":
            return Result(length=await signature_length(client, configuration))
        signature = await sign_region(client, configuration, order.region, Path(order.folder))
        return Result(signature=signature.raw, notes=list(signature.notes))
    finally:
        await client.close()


if __name__ == "__main__":
    raise SystemExit(main())
