"""Ingestion, query, health and pages, as Faust web views."""
