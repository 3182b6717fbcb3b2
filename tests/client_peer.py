"""A server that takes what the client sends and answers as told, or breaks off. For the tests."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Event = dict[str, Any]
Step = int | tuple[int, str] | str


class Body(NamedTuple):
    """What has arrived, and when."""

    path: str
    raw: bytes
    events: list[Event]
    headers: dict[str, str]
    at_s: float


class Peer:
    """`plan` holds what to do with the next bodies, one entry each; afterwards every body is accepted.

    Entries: a status, (status, Retry-After), "close" (read, then drop the connection), "store and close" (what has
    arrived is durable, the answer is lost), "half an answer" (the same, in its middle), "hang" (no answer; the
    connection stays open until `release` is set), "late" (an answer, but only then), or "page" (200 and HTML).
    """

    def __init__(self, *plan: Step, refuse: Callable[[Event], bool] = lambda event: False) -> None:
        self.plan = list(plan)
        self.refuse = refuse
        self.bodies: list[Body] = []
        self.stored: dict[tuple[str, ...], Event] = {}
        """Accepted events by what StreamLens knows them by: a repeated one is there once."""
        self.release = threading.Event()
        self.url = ""
        self._lock = threading.Lock()

    @contextmanager
    def running(self, port: int = 0) -> Iterator["Peer"]:
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                peer._post(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
            server.daemon_threads = True
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                self.release.set()
                server.shutdown()
                thread.join()

    def ids(self) -> list[str]:
        """The request ids of all stored events."""
        return [str(event["request_id"]) for event in self.stored.values()]

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        raw = request.rfile.read(int(request.headers["Content-Length"]))
        events = [json.loads(line) for line in gzip.decompress(raw).splitlines()]
        with self._lock:
            self.bodies.append(Body(request.path, raw, events, dict(request.headers), time.monotonic()))
            step = self.plan.pop(0) if self.plan else "accept"
            if step in ("accept", "late", "store and close", "half an answer"):
                self._store(request.path, events)
        request.close_connection = True
        if step in ("hang", "late"):
            self.release.wait(60)
        if isinstance(step, int | tuple):
            status, headers = (step, {}) if isinstance(step, int) else (step[0], {"Retry-After": step[1]})
            headers |= {"Location": self.url + "/elsewhere"} if status == 301 else {}
            self._answer(request, status, b'{"title": "no", "detail": "not today"}', headers)
        elif step == "page":
            self._answer(request, 200, b"<html>Welcome to the hotel", {})
        elif step == "half an answer":
            self._answer(request, 202, b'{"status"', {"Content-Length": "1000"})
        elif step in ("accept", "late"):
            bad = [index for index, event in enumerate(events) if self.refuse(event)]
            errors = [{"index": index, "field": "route", "detail": "refused"} for index in bad]
            told = {"accepted": len(events) - len(bad), "rejected": len(bad), "errors": errors}
            self._answer(request, 202 if told["accepted"] else 400, json.dumps(told).encode(), {})

    def _store(self, path: str, events: list[Event]) -> None:
        for event in events:
            if not self.refuse(event):
                names = ("type", "request_id", "name", "event_id")
                self.stored[path, *(str(event.get(name)) for name in names)] = event

    @staticmethod
    def _answer(request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)
