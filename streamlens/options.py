"""What the logic of stage one is told: the settings, in the units in which it reckons."""

from collections.abc import Callable, Mapping

import msgspec

from streamlens.details import Details
from streamlens.facets import FACETS
from streamlens.pricing import Prices
from streamlens.redact import Redaction
from streamlens.settings import Settings
from streamlens.userhash import UserHash
from streamlens.watermark import Lines


class JoinOptions(msgspec.Struct, frozen=True):
    """What the logic of all partitions shares."""

    partitions: int
    lines: Lines
    max_future_us: int
    prices: Prices
    clock_us: Callable[[], int]
    facets: tuple[str, ...] = FACETS
    limits: Mapping[str, int] = {}
    """How many names of a label a tenant may have, where it is not the default of `tables/caps.py`."""
    by_tenant: bool = False
    """Ids are unique within a tenant, not within the installation."""
    user_hash: UserHash = UserHash("", str)
    details: Details = Details()
    """What halves carry for the calls that are kept whole."""
    max_visitors: int = 100_000

    @classmethod
    def of(cls, settings: Settings, clock_us: Callable[[], int], log_id: Callable[[], str]) -> "JoinOptions":
        series = settings.max_series
        return cls(
            settings.partitions,
            settings.lines,
            settings.max_future_s * 1_000_000,
            Prices(settings.prices_file),
            clock_us,
            settings.kept_facets,
            {"route": settings.max_routes, "model": settings.max_models}
            | dict.fromkeys(("series", "log detail", "metric detail", "warning detail"), series),
            by_tenant=settings.auth == "keys",
            user_hash=UserHash(settings.hash_key, log_id),
            details=Details(
                Redaction(settings.redacted, settings.redact_file), captures=settings.capture_content == "on"
            ),
            max_visitors=settings.max_visitors,
        )
