"""Objects of a store behind a URL (s3://, gs://, az://): listed, told apart, read as files."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, FileIO
from typing import Any, Self

from embedfleet_producer.readers.folders import EXCLUDED, HIDDEN, Selection
from embedfleet_producer.readers.options import ReadOptions
from embedfleet_producer.readers.rejections import FileRejected
from embedfleet_producer.readers.roots import Root, Source
from embedfleet_schema.errors import ExtraMissing, StoreRefused, UsageError
from embedfleet_schema.types import Rejection
from embedfleet_schema.unicode_forms import composed, is_unicode, unicode_forms

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BUFFER_BYTES = 65_536
# The extra that brings the library of a store, and what gives that its credentials.
STORES = {
    "s3": ("s3", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"),
    "gs": ("gcs", "a key file as GOOGLE_APPLICATION_CREDENTIALS"),
    "az": ("azure", "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"),
}
# What the libraries of the stores raise where they find nothing to log in with.
_NO_LOGIN = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "DefaultCredentialsError",
    "ClientAuthenticationError",
    "ValueError",
}
_UNREACHABLE = {
    "ConnectionError",
    "HTTPClientError",
    "ClientError",
    "ServiceRequestError",
    "TimeoutError",
}

Details = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ObjectUrl:
    """An object, or with its path as the beginning of others, a folder of them."""

    scheme: str
    path: str
    names_folder: bool

    @classmethod
    def of(cls, text: str) -> Self | None:
        """None where this is no URL.

        Raises:
            UsageError: it is one of another kind, or holds what is a secret.
        """
        if (found := _URL.fullmatch(text)) is None:
            return None
        scheme, rest = found[1].lower(), found[2]
        if scheme not in STORES:
            known = ", ".join(f"{each}://" for each in STORES)
            reason = f"{scheme}:// is not read. Give files, folders, or what lies behind {known}"
            raise UsageError(reason=reason)
        if "@" in rest.partition("/")[0] or "?" in rest or not rest.strip("/"):
            reason = (
                f"a path of {scheme}:// names a bucket and what is in it, no login and no query. "
                f"The library of the store takes credentials from {STORES[scheme][1]}"
            )
            raise UsageError(reason=reason)
        return cls(scheme, rest.strip("/"), rest.endswith("/") or "/" not in rest)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.path}"

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def root(self, name: str, prefix: str) -> Root:
        """What is there.

        Raises:
            ExtraMissing: the library of the store is not installed.
            StoreRefused: it cannot be read.
        """
        store = _Store(self.scheme)
        is_many = self.names_folder or store.is_folder(self.path)
        return ObjectRoot(name, prefix, self.url, self.path, store, is_many)


@dataclass(frozen=True, slots=True)
class StoredObject(Source):
    """An object: `tag` is what the store says of its content, as far as it says that."""

    path: str
    tag: str | None
    store: _Store

    def open(self) -> BufferedReader:
        try:
            return self.store.fetched(self.path)
        except StoreRefused as refused:
            raise FileRejected("UNREADABLE", refused.reason) from refused

    def version(self, options: ReadOptions) -> bytes | None:
        if self.tag is None:
            return None
        words = "\0".join((self.tag, self.key, repr(options)))
        return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class ObjectRoot(Root):
    """An object, or those whose names begin alike, as a folder."""

    path: str
    store: _Store
    is_many: bool

    @property
    def is_folder(self) -> bool:
        return self.is_many

    def sources(self, selection: Selection, left_out: Counter[str]) -> Iterator[Source | Rejection]:
        """The objects of one folder are listed at once, and sorted."""
        if not self.is_many:
            name = self.path.rpartition("/")[2]
            if selection.wants((name,), left_out):
                yield self._object((), self.name, self.store.details(self.path))
            return
        pending: list[tuple[tuple[str, ...], Details | None]] = [((), None)]
        while pending:
            parts, details = pending.pop()
            key = self.prefix + "/".join(parts)
            if details is not None:
                yield self._object(parts, key, details)
                continue
            try:
                found = self.store.listed("/".join((self.path, *parts)))
            except StoreRefused as refused:
                if not parts:
                    raise
                yield Rejection(composed(key), "UNREADABLE", refused.reason, self._place(parts))
                continue
            pending += reversed(list(_wanted(parts, found, selection, left_out)))

    def _place(self, parts: tuple[str, ...]) -> str:
        return "/".join((self.origin, *parts))

    def _object(self, parts: tuple[str, ...], name: str, details: Details) -> Source | Rejection:
        if not is_unicode(name):
            reason = "the object's name is not valid Unicode: rename it"
            return Rejection(ascii(name), "BAD_NAME", reason, self._place(parts))
        key = composed(name)
        former = (each for each in unicode_forms(name) if each != key)
        path = "/".join((self.path, *parts))
        place = self._place(parts)
        return StoredObject(key, next(former, None), place, path, _tag(details), self.store)


def _wanted(
    folder: tuple[str, ...],
    found: Mapping[str, Details],
    selection: Selection,
    left_out: Counter[str],
) -> Iterator[tuple[tuple[str, ...], Details | None]]:
    for name, details in sorted(found.items()):
        parts = (*folder, name)
        if name.startswith("."):
            left_out[HIDDEN] += 1
        elif details.get("type") == "directory":
            if selection.exclude.match(parts, is_folder=True):
                left_out[EXCLUDED] += 1
            else:
                yield parts, None
        elif selection.wants(parts, left_out):
            yield parts, details


def _tag(details: Details) -> str | None:
    """What changes with the content of an object: its etag, else the time and the size of it."""
    for name in ("ETag", "etag"):
        if details.get(name):
            return str(details[name])
    for name in ("LastModified", "last_modified", "updated", "mtime"):
        if details.get(name):
            return f"{details[name]} {details.get('size')}"
    return None


class _Store:
    """A store by its library, which is loaded at the first use.

    Raises:
        ExtraMissing: that is not installed.
        StoreRefused: it cannot be opened; all calls raise that.
    """

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        with self._ours(""):
            import fsspec

            # Listings are those of now, and so is the login.
            self._files = fsspec.filesystem(
                scheme, skip_instance_cache=True, use_listings_cache=False
            )

    def is_folder(self, path: str) -> bool:
        return self.details(path).get("type") == "directory"

    def details(self, path: str) -> Details:
        """What is known of an object without reading it."""
        with self._ours(path):
            found: Details = self._files.info(path)
        return found

    def listed(self, folder: str) -> dict[str, Details]:
        """What is in a folder, by name."""
        with self._ours(folder):
            found = self._files.ls(folder, detail=True)
        begins = f"{folder}/"
        named = {each["name"].rstrip("/").removeprefix(begins): each for each in found}
        # A store may keep an empty object for the folder itself.
        return {name: each for name, each in named.items() if name and "/" not in name}

    def fetched(self, path: str) -> BufferedReader:
        """An object as a temporary file without a name: one request, and so one version."""
        with tempfile.NamedTemporaryFile() as copy:
            with self._ours(path):
                self._files.get_file(path, copy.name)
            stream: BufferedReader = BufferedReader(FileIO(copy.name), _BUFFER_BYTES)
            return stream

    @contextmanager
    def _ours(self, path: str) -> Iterator[None]:
        """Errors in words of ours: what a library says may hold a secret."""
        try:
            yield
        except ImportError as error:
            extra, _ = STORES[self._scheme]
            raise ExtraMissing(feature=f"Reading {self._scheme}://", extra=extra) from error
        except Exception as error:  # noqa: BLE001 - a library of a store raises anything
            url = f"{self._scheme}://{path}"
            raise StoreRefused(url=url, reason=self._reason(error)) from None

    def _reason(self, error: Exception) -> str:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if "FileNotFoundError" in kinds:
            return "there is no such bucket, folder or object"
        if "PermissionError" in kinds:
            return "access is denied: check the credentials, and what they may read"
        if kinds & _NO_LOGIN:
            return f"no usable credentials were found: set {STORES[self._scheme][1]}"
        if kinds & _UNREACHABLE:
            return "the store cannot be reached: check its address and the network"
        return f"its library failed with {type(error).__name__}"
