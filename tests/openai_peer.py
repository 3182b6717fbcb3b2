"""A server that answers chat completions as OpenAI does, on loopback, for clients and instrumentations in tests."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 40,
    "total_tokens": 160,
    "prompt_tokens_details": {"cached_tokens": 64},
}


@contextmanager
def openai_peer() -> Iterator[dict[str, str]]:
    """The environment in which OpenAI's client finds it. A model that is called `full` gets 429."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Peer)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield {"OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1", "OPENAI_API_KEY": "sk-none"}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Peer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] == "full":
            error = {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}
            self._answer(429, "application/json", json.dumps({"error": error}))
            return
        said = {
            "id": f"chatcmpl-{time.time_ns()}",
            "created": int(time.time()),
            "model": asked["model"] + "-2024-07-18",
        }
        message = {"role": "assistant", "content": "Hello."}
        if asked.get("stream"):
            said["object"] = "chat.completion.chunk"
            chunks: list[dict[str, Any]] = [
                {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
                {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                {"choices": [], "usage": USAGE},
            ]
            events = [*(json.dumps(said | chunk) for chunk in chunks), "[DONE]"]
            self._answer(200, "text/event-stream", "".join(f"data: {event}\n\n" for event in events))
        else:
            said["object"] = "chat.completion"
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._answer(200, "application/json", json.dumps(said | {"choices": [choice], "usage": USAGE}))

    def _answer(self, status: int, kind: str, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test says what was wrong."""
