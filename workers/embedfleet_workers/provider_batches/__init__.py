"""Provider batches: texts that can wait a day go to a provider's batch API, at half the price."""
