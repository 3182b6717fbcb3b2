"""The partition checkpoint: state, source offsets and an epoch become durable as one unit, without transactions.

A unit is one partition of one stage. It owns one RocksDB, one changelog partition and the rules in `unit.py`; what is
counted is up to its `Logic`. `docs/decisions/002-checkpoint.md` says why it is built this way.
"""
