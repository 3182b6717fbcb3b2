"""Logs: people's lines on a terminal, JSON otherwise, from structlog and from the libraries' standard logging alike."""

import logging
import sys
from typing import Any

import structlog

# Faust's services log under the module of our subclass.
_LIBRARIES = (
    "faust",
    "mode",
    "aiokafka",
    "aiohttp",
    "asyncio",
    "streamlens.app",
    "streamlens.transports",
    "web.driver",
    "web.otlpgrpc",
)


def configure(log_format: str = "auto", level: int = logging.INFO) -> None:
    """Send all logs to stderr. `log_format`: auto, text or json."""
    text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if text else "iso", utc=not text),
    ]
    # Tracebacks without local variables: those hold what applications sent.
    plain = structlog.dev.plain_traceback
    traceback = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
    render: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
        if text
        else [traceback, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)  # what they tell below that is about themselves
