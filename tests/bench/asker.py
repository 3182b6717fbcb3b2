"""Asks a worker over one connection that is kept alive, and says how long each answer took."""

import http.client
import json
import math
import threading
import time
from typing import Any
from urllib.parse import urlsplit


class Asker:
    """Blocking; for one thread."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)

    def get(self, path: str) -> tuple[float, bytes]:
        """Seconds until the whole body was there, and the body. Raises `RuntimeError` for anything but 200."""
        began = time.perf_counter()
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body[:300].decode(errors='replace')}")
        return time.perf_counter() - began, body

    def json(self, path: str) -> Any:
        """The decoded answer."""
        return json.loads(self.get(path)[1])

    def close(self) -> None:
        self._connection.close()


class Asking:
    """Asks one question again and again in a thread, while it is used as a context manager."""

    def __init__(self, url: str, path: str, every_s: float) -> None:
        self.seconds: list[float] = []
        self._asker, self._path, self._every_s = Asker(url), path, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._asker.close()

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            self.seconds.append(self._asker.get(self._path)[0])


def percentile(values: list[float], percent: float) -> float:
    """Nearest rank."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]
