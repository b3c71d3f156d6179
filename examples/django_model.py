"""The view of a collection as a model of Django that it does not manage: no migration touches it.

    EMBEDFLEET_DATABASE_URL=postgresql://... python examples/django_model.py handbook vpn.md

It prints what is nearest to a document. In a project, the model stands in models.py.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings

collection, key = sys.argv[1:]
url = urlsplit(os.environ["EMBEDFLEET_DATABASE_URL"])
database = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": url.path.removeprefix("/"),
    "USER": unquote(url.username or ""),
    "PASSWORD": unquote(url.password or ""),
    "HOST": url.hostname,
    "PORT": url.port or "",
    # The view is found in the first, pgvector in the second.
    "OPTIONS": {"options": "-c search_path=embedfleet,public"},
}
settings.configure(DATABASES={"default": database})
django.setup()

from django.db import models  # noqa: E402 - after the settings
from pgvector.django import CosineDistance, VectorField  # noqa: E402


class Chunk(models.Model):
    id = models.BigIntegerField(primary_key=True)
    document = models.TextField()
    position = models.IntegerField()
    content = models.TextField()
    metadata = models.JSONField()
    embedding = VectorField()  # HalfVectorField where the collection stores halfvec

    class Meta:
        app_label = "search"
        db_table = collection
        managed = False


if __name__ == "__main__":
    vector = Chunk.objects.get(document=key, position=0).embedding
    chunks = Chunk.objects.filter(metadata__lang="en")
    for chunk in chunks.order_by(CosineDistance("embedding", vector))[:10]:
        print(chunk.id, chunk.document, chunk.content[:60])
