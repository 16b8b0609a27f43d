"""An OpenAI-compatible endpoint that answers every chat after a fixed time: what a far model costs in waiting.

Run `python -m benchmarks.stub_endpoint --port 0 --latency-ms 200`; it prints its port. One process answers thousands of
requests at once, so that it is never what limits.
"""

import argparse
import asyncio
import json
import sys


async def serve(port: int, latency_s: float) -> None:
    """Answers until it is killed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = (line.lower() for line in head.split(b"\r\n"))
            length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), 0)
            asked = json.loads(await reader.readexactly(length))
            await asyncio.sleep(latency_s)
            text = f"echo of {asked['messages'][-1]['content']}"
            usage = {"prompt_tokens": 10, "completion_tokens": 5}
            said = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}
            body = json.dumps(said).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
            writer.write(f"content-length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()

    async def until_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(until_gone, "127.0.0.1", port, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=200.0)
    chosen = parser.parse_args()
    asyncio.run(serve(chosen.port, chosen.latency_ms / 1000.0))
