"""The local log: an embedded, durable log of one process in RocksDB, for running without Kafka."""

from streamlens.locallog.local import LocalLog

__all__ = ["LocalLog"]
