"""StreamLens: real-time observability for LLM applications, on one Faust app."""

__version__ = "0.1.0"
