"""Provider batches: for which models there are any, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from embedfleet_schema.catalogue.api_models import price_of
from embedfleet_schema.errors import ProviderBatchesUnsupported
from embedfleet_schema.types import Delivery, Space

if TYPE_CHECKING:
    from embedfleet_schema.settings import Settings

# "50% cost discount compared to synchronous APIs":
# https://platform.openai.com/docs/guides/batch
PRICE_SHARE = 0.5
PROVIDER = "openai"


def has_batch_api(model: str, settings: Settings) -> bool:
    """Whether there may be one for `provider/model`: servers that speak OpenAI's protocol are asked
    when it matters.
    """
    return model.startswith(f"{PROVIDER}/") and settings.openai_api_version is None


def check_delivery(delivery: Delivery, space: Space, settings: Settings) -> None:
    """Let a delivery pass that the model has.

    Raises:
        ProviderBatchesUnsupported: its provider has no batch API that embedfleet speaks.
    """
    if delivery == "direct" or has_batch_api(space.name, settings):
        return
    reason = "Azure OpenAI" if space.provider == PROVIDER else space.provider
    raise ProviderBatchesUnsupported(model=space.name, provider=reason)


def provider_batch_price(name: str, overrides: Mapping[str, float]) -> float | None:
    """USD per million tokens of `provider/model` in a provider batch; None where nobody says."""
    price = price_of(name, overrides)
    return None if price is None else PRICE_SHARE * price
