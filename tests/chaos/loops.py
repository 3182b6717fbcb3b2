"""An event loop that notices when another thread uses it: what libuv does then is undefined, and rarely seen."""

import os
import sys
import threading
import traceback
from typing import Any

import uvloop

MISUSED = 70


class OwnThreadLoop(uvloop.Loop):
    """uvloop, for one thread but for what is made for several, as `call_soon_threadsafe`."""

    _thread: int | None = None

    def run_forever(self) -> None:
        self._thread = threading.get_ident()
        try:
            super().run_forever()
        finally:
            self._thread = None

    def call_soon(self, callback: Any, *args: Any, **options: Any) -> Any:
        self._check(callback)
        return super().call_soon(callback, *args, **options)

    def call_later(self, delay: Any, callback: Any, *args: Any, **options: Any) -> Any:
        self._check(callback)
        return super().call_later(delay, callback, *args, **options)

    def call_at(self, when: Any, callback: Any, *args: Any, **options: Any) -> Any:
        self._check(callback)
        return super().call_at(when, callback, *args, **options)

    def misused(self, callback: Any) -> None:
        """Another thread wants `callback` to be called."""
        raise NotImplementedError

    def _check(self, callback: Any) -> None:
        if self._thread not in (None, threading.get_ident()):
            self.misused(callback)


class FatalLoop(OwnThreadLoop):
    """Ends the process then."""

    def misused(self, callback: Any) -> None:
        traceback.print_stack()
        name = threading.current_thread().name
        print(f"{name} wants {callback!r} called by the loop of another thread", file=sys.stderr, flush=True)
        os._exit(MISUSED)


class Policy(uvloop.EventLoopPolicy):
    """Makes such loops."""

    def _loop_factory(self) -> FatalLoop:
        return FatalLoop()
