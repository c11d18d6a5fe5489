"""The least that a server of this contract can do: parse the request, send a reply made before.

What Recommend costs is compared with this, so that gRPC and Python themselves are left out of
the comparison. It speaks the same proto on the same gRPC and knows nothing of `online`.
"""

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Any

import grpc

from aisle.v1 import recommendation_pb2

SERVICE = "aisle.v1.RecommendationService"
METHOD = "Recommend"


async def serve(address: str, reply: bytes) -> None:
    """Answer every Recommend with `reply` until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    async def answer(_request: recommendation_pb2.RecommendRequest, _context: Any) -> bytes:
        return reply

    method = grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=recommendation_pb2.RecommendRequest.FromString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),)
    )
    server.add_insecure_port(address)
    await server.start()
    await stopping.wait()
    await server.stop(1.0)


def main() -> None:
    """`python -m infra.bench.echo --address 127.0.0.1:50052 --reply FILE`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--reply", type=Path, required=True, help="the bytes of a reply")
    args = parser.parse_args()
    asyncio.run(serve(args.address, args.reply.read_bytes()))


if __name__ == "__main__":
    main()
