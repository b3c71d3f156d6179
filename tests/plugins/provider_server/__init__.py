"""An embeddings provider in OpenAI's dialect, as a process of its own, with quotas and faults."""
