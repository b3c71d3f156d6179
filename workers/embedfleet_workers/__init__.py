"""The fleet: Celery workers that claim batches, embed them and commit vectors.

`celery -A embedfleet_workers worker -Q cpu` finds the application here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery


def __getattr__(name: str) -> Celery:
    """`app`, made on first use: importing this package must not import Celery."""
    if name == "app":
        from embedfleet_workers.celery_app import app

        return app
    raise AttributeError(name)
