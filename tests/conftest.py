"""Fixtures of all tests."""

from kafka_fixtures import kafka, kafka_broker
from postgres_fixtures import dsn, empty_dsn, lone_postgres, postgres, scratch, store

__all__ = ["dsn", "empty_dsn", "kafka", "kafka_broker", "lone_postgres", "postgres", "scratch", "store"]
