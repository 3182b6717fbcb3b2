"""The errors of StreamLens, by what the caller can do about them.

StreamLensError
├── BadEvent        this event can't be used: count it, dead-letter it, go on
├── Unavailable     a part is down or full: retry later, with back-off
├── BadSetting      a setting is wrong: say so and do not start
├── DiskFailed      our own disk is full or broken: stop, and start again once it is not
└── Damaged         stored data contradict themselves: stop, never go on with wrong numbers
"""


class StreamLensError(Exception):
    """Base of all errors that StreamLens raises itself."""


class BadEvent(StreamLensError):
    """An event that can't be used. `field` names the field at fault, "" when the whole body is."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.field = field
        self.detail = detail


class Unavailable(StreamLensError):
    """A part that is needed is down or full. `retry_after_s` is a hint for the client."""

    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class BadSetting(StreamLensError):
    """A setting that can't be used; the message names it as the user wrote it."""


class DiskFailed(StreamLensError):
    """The process' own disk can't be written or read; the message names the file or directory."""


class Damaged(StreamLensError):
    """Stored data are damaged or contradict each other; the message names the file or directory."""


def is_closed(error: BaseException) -> bool:
    """Whether uvloop says that a connection was closed, which aiokafka and asyncpg expect as `OSError` only."""
    return isinstance(error, RuntimeError) and "the handler is closed" in str(error)
