"""A store of objects behind S3's API: moto's server in the test's process, and what it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest


@dataclass
class Bucket:
    """A bucket of its own, and the requests since they were forgotten last."""

    name: str
    client: Any
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    def put(self, **objects: str) -> None:
        for name, content in objects.items():
            self.write(name, content)

    def write(self, key: str, content: str) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content.encode())

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def url(self, path: str = "") -> str:
        return f"s3://{self.name}/{path}"

    @property
    def downloads(self) -> list[str]:
        """The objects whose content was asked for."""
        return [
            path.partition(f"/{self.name}/")[2]
            for method, path, query in self.requests
            if method == "GET" and "list-type" not in query and f"/{self.name}/" in path
        ]


@pytest.fixture(scope="session")
def object_server() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """The URL of the server, and the requests that it gets."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    requests: list[tuple[str, str, str]] = []
    store = DomainDispatcherApplication(create_backend_app)

    def logged(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked = environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]
        requests.append(asked)
        return store(environ, start)

    server = make_server("127.0.0.1", 0, logged, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    thread.join()


@pytest.fixture
def bucket(
    object_server: tuple[str, list[tuple[str, str, str]]], monkeypatch: pytest.MonkeyPatch
) -> Bucket:
    """An empty bucket, with what a library needs to reach it in the environment."""
    import boto3

    url, requests = object_server
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "an-id",
        "AWS_SECRET_ACCESS_KEY": "a-canary-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=(name := f"b{uuid4().hex}"))
    requests.clear()
    return Bucket(name, client, requests)
