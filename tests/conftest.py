"""Fixtures of all tests."""

from postgres_fixtures import dsn, empty_dsn, lone_postgres, postgres, scratch, store

__all__ = ["dsn", "empty_dsn", "lone_postgres", "postgres", "scratch", "store"]
