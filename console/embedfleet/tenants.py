"""The tenants of a fleet: how much of the workers each gets while others wait, too."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager

from embedfleet import arguments
from embedfleet.error_translation import translate_errors
from embedfleet_schema.database import Database
from embedfleet_schema.driver_errors import translated
from embedfleet_schema.errors import UsageError
from embedfleet_schema.store import shares
from embedfleet_schema.store.shares import TenantInfo
from embedfleet_schema.turns import LEAST_WEIGHT, MOST_WEIGHT


@translate_errors
class Tenants:
    """Who shares the workers of a fleet. A tenant is a name that `enqueue` gives to a job."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def set(self, name: str, weight: float) -> None:
        """Give a tenant `weight` times the tokens of one whose weight is 1, while both wait.

        It holds for what is enqueued from then on.

        Raises:
            UsageError: the weight is not from 0.001 to 1,000.
        """
        arguments.tenant_name("tenants.set", "name", name)
        number = arguments.amount("tenants.set", "weight", weight, unit="shares")
        if not LEAST_WEIGHT <= number <= MOST_WEIGHT or not math.isfinite(number):
            reason = f"a weight is a number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:,.0f}"
            raise UsageError(reason=reason)
        shares.set_weight(self._db, name, number)

    def clear(self, name: str) -> bool:
        """Let a tenant have the weight 1 again; False where none was set."""
        arguments.tenant_name("tenants.clear", "name", name)
        return shares.clear_weight(self._db, name)

    def show(self) -> list[TenantInfo]:
        """Those with a weight that was set, and those whose jobs wait, by name."""
        return shares.tenants(self._db)

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._db)
