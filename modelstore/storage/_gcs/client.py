"""Clients of Google Cloud Storage: how they are made, once a process, and what they are made from."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelstore import deadline
from modelstore.exceptions import (
    CredentialsError,
    DeadlineExceededError,
    InvalidArgumentError,
    MissingDependencyError,
    ModelStoreError,
)
from modelstore.storage import guard

if TYPE_CHECKING:
    from google.cloud.storage import Client

LOGIN = (
    "log in with `gcloud auth application-default login`, let GOOGLE_APPLICATION_CREDENTIALS name the key file of a "
    "service account, or pass credentials="
)
"""What to do about missing or invalid credentials."""

_LOOKING = "looking for credentials"


@dataclass(frozen=True)
class Settings:
    """What clients are made from. What is not given is left to the SDK's own chain."""

    project: str | None = None
    credentials: Any = None
    endpoint: str | None = None
    """A URL without a path, None for Google's own."""

    @property
    def plain(self) -> bool:
        """Whether nothing is encrypted on the way, as with emulators."""
        return urlsplit(self.endpoint or "https://").scheme == "http"


class Clients:
    """The client of this process: the one that was given, or one made when it is first needed."""

    def __init__(self, settings: Settings, given: Client | None) -> None:
        self._settings = settings
        self._given = given
        self._made: tuple[int, Client] | None = None if given is None else (os.getpid(), given)
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def get(self) -> Client:
        """The client, made anew in a forked child: processes must not share connections.

        Raises:
            CredentialsError: no credentials were found for the project, or they cannot be read.
            DeadlineExceededError: they were not found, or no token was handed out for them, in time.
        """
        made = self._made
        if made is None or made[0] != os.getpid():
            made = self._made_here()
        _refresh_in_time(made[1])
        return made[1]

    def _made_here(self) -> tuple[int, Client]:
        if self._pid != os.getpid():
            self._lock, self._pid = threading.Lock(), os.getpid()  # the old one may have been held during the fork
        left = deadline.remaining(_LOOKING)
        if not self._lock.acquire(timeout=-1 if left is None else left):
            raise deadline.exceeded(_LOOKING) or DeadlineExceededError(left or 0.0, _LOOKING)
        try:
            if self._made is None or self._made[0] != os.getpid():
                self._made = (os.getpid(), guard.in_time(self._make, _LOOKING))
            return self._made
        finally:
            self._lock.release()

    def _make(self) -> Client:
        if self._given is not None:
            return _again(self._given)
        client = _new_client(self._settings)
        for scheme in ("https://", "http://"):
            _keep_deadlines(session_of(client), scheme)
        return client


def _new_client(settings: Settings) -> Client:
    try:
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
        from google.cloud import storage
    except ImportError as error:
        raise MissingDependencyError(
            "google-cloud-storage", "a store in Google Cloud Storage", "pip install 'modelstore[gcs]'"
        ) from error
    options = ClientOptions(api_endpoint=settings.endpoint) if settings.endpoint else None
    credentials = settings.credentials
    if credentials is None and settings.plain:
        credentials = AnonymousCredentials()  # a token of Google's must not go over plain HTTP to whoever listens
    try:
        client = storage.Client(settings.project, credentials, client_options=options)
        session_of(client)  # where a client's certificate (mutual TLS) is looked for
        return client
    except DefaultCredentialsError as error:
        if settings.project is not None:
            raise CredentialsError(f"no credentials of Google Cloud were found ({error}): {LOGIN}") from error
        # As a public bucket is read: without anybody's name.
        return storage.Client(None, AnonymousCredentials(), client_options=options)
    except (GoogleAuthError, ValueError, OSError) as error:
        raise CredentialsError(f"the credentials of Google Cloud cannot be used ({error}): {LOGIN}") from error


def _again(client: Client) -> Client:
    """A client like another, for a forked child. The SDK makes them for its own worker processes the same way."""
    from google.cloud import storage

    options = {"api_endpoint": client.api_endpoint}
    return storage.Client(client.project, client._credentials, client_options=options)


def _refresh_in_time(client: Client) -> None:
    """See to it that a client has a token, where there is a deadline: whoever hands them out knows of none."""
    credentials = client._credentials
    if deadline.remaining(_LOOKING) is None or getattr(credentials, "valid", True):
        return
    from google.auth.transport.requests import Request

    try:
        guard.in_time(lambda: credentials.before_request(Request(), "GET", base_url(client), {}), _LOOKING)
    except ModelStoreError:
        raise
    except Exception:
        return  # the request that wants the token meets it too, and explains it


def session_of(client: Client) -> Any:
    """The `requests` session that signs a client's requests.

    The SDK has no public name for it, and no public call for what goes over it here: ranges read into memory that is
    there already (the SDK's downloads copy 8 KiB at a time), and parts that are sent in parallel from memory (its
    transfer manager sends files). Blobs and its transfer manager take the same one.
    """
    return client._http


def base_url(client: Client) -> str:
    """Where a client's requests go. Not its `api_endpoint`: with a client's certificate the SDK takes another host, for
    which it has no public name either.
    """
    return str(client._connection.get_api_base_url_for_mtls())


def _keep_deadlines(session: Any, scheme: str) -> None:
    from requests.adapters import HTTPAdapter

    from modelstore.storage._gcs.http import KeepingDeadlines

    if type(session.get_adapter(scheme)) is HTTPAdapter:  # not the one that shows a client's certificate (mutual TLS)
        session.mount(scheme, KeepingDeadlines())


def check_endpoint(endpoint: str | None) -> str | None:
    """The endpoint of the argument or of STORAGE_EMULATOR_HOST, as a URL without a path; None for Google's own.

    Raises:
        InvalidArgumentError: it is no such URL.
    """
    given = endpoint or os.environ.get("STORAGE_EMULATOR_HOST")
    if not given:
        return None
    if "@" in given:
        raise InvalidArgumentError("endpoint", "endpoint= holds a name or password: pass credentials= instead")
    url = (given if "://" in given else f"http://{given}").rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise InvalidArgumentError("endpoint", f"endpoint={given!r} is no URL such as https://storage.example.com")
    return url
