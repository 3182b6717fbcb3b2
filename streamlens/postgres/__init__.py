"""Postgres, where the closed and open windows can be asked for: the embedded server, migrations, writes and queries."""
