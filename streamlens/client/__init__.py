"""The client for applications in Python: what they tell is sent in the background, and never blocks or breaks them.

The standard library alone, and no import of the rest of StreamLens: this folder may be copied into an application.
"""

from .buffer import Stats
from .client import AsyncClient, Client
from .timed import Timed, error_type

__all__ = ["AsyncClient", "Client", "Stats", "Timed", "error_type"]
