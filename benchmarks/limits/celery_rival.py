"""A Celery application whose task has a rate_limit, which holds for each worker by itself."""

from __future__ import annotations

import os

from celery import Celery

from limits.rivals import MODEL, TEXTS, WORDS
from plugins.provider_server.texts import texts

TASKS = 2_000

app = Celery("rival", broker=os.environ["RIVAL_BROKER"])
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 1


@app.task(rate_limit=os.environ["RIVAL_RATE"])  # type: ignore[untyped-decorator]
def embed(number: int) -> None:
    import openai

    with openai.OpenAI(base_url=os.environ["RIVAL_URL"], api_key="a-key") as client:
        batch = list(texts(("celery", number), TEXTS, (WORDS,)))
        client.embeddings.create(model=MODEL, input=batch, dimensions=64)


if __name__ == "__main__":
    for each in range(TASKS):
        app.send_task("limits.celery_rival.embed", args=[each])
