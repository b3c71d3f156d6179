"""A budget, before the job that has it is made: it must be one that can be kept."""

from __future__ import annotations

import math
from collections.abc import Mapping

from embedfleet_schema.catalogue.api_models import price_of
from embedfleet_schema.errors import BadBudget, PriceUnknown
from embedfleet_schema.types import Space


def check_budget(budget_usd: float | None, space: Space, prices: Mapping[str, float]) -> None:
    """Let a budget pass that workers can reckon with; None is no budget.

    Raises:
        BadBudget: it is not an amount above 0.
        PriceUnknown: nobody says what the model costs, so nothing would ever be counted as spent.
    """
    if budget_usd is None:
        return
    try:
        is_amount = math.isfinite(budget_usd) and budget_usd > 0
    except OverflowError as error:
        # A whole number of hundreds of digits, of which a message had better not be made.
        raise BadBudget(budget=math.inf) from error
    if not is_amount:
        raise BadBudget(budget=budget_usd)
    if price_of(space.name, prices) is None:
        raise PriceUnknown(model=space.name)
