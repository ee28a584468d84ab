"""boto3 clients for a store: how they are set up, and why so. All choices about speed and patience are here."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelstore import deadline
from modelstore.exceptions import MissingDependencyError
from modelstore.storage._s3.attempts import ATTEMPTS, watch

if TYPE_CHECKING:
    from types import ModuleType

    from botocore.client import BaseClient
    from botocore.config import Config

CONNECTIONS = 32
"""Kept open at most. A transfer uses eight at a time, and several may run; botocore's ten would close and open anew."""

PATIENCE = (1.0, 3.0, 10.0, deadline.STALL_SECONDS)
"""Seconds that a server may be silent. botocore fixes this when a client is made, so there is a client for each."""

_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws")
_CLIENTS_LOCK = threading.Lock()  # making a client is not thread-safe in boto3; using one is


def _new_lock() -> None:
    global _CLIENTS_LOCK
    _CLIENTS_LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):
    # Another thread of the parent may hold it at the fork, and is not there to release it in the child.
    os.register_at_fork(after_in_child=_new_lock)


@dataclass(frozen=True)
class Settings:
    """What clients are made from; everything that was not given is left to the SDK's own chain."""

    region: str | None = None
    endpoint: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    path_style: bool | None = None
    user_agent: str | None = None


class Clients:
    """The clients of one process, made when they are first needed.

    Args:
        settings: what to make them from.
        session: a `boto3.Session` to make them with (default: one of their own).
        client: the only one to use, as it is: its timeouts and retries are then its owner's choice.
    """

    def __init__(self, settings: Settings, session: Any = None, client: Any = None) -> None:
        self._settings = settings
        self._session = session
        self._given = client
        self._made: dict[float, BaseClient] = {}
        self._pid = os.getpid()

    def get(self) -> BaseClient:
        """A client whose patience fits into the time that is left, at least twice, so that it can try again.

        Raises:
            MissingDependencyError: boto3 is not installed.
            DeadlineExceededError: no time is left.
            Exception: what the SDK raises for arguments and configuration that it cannot use.
        """
        self._after_fork()
        if self._given is not None:
            watch(self._given)
            return self._given
        patience = _patience(deadline.remaining("connecting"))
        client = self._made.get(patience)
        if client is None:
            with _CLIENTS_LOCK:
                client = self._made.get(patience)
                if client is None:
                    client = self._made[patience] = self._make(patience)
        return client

    def _after_fork(self) -> None:
        """Connections must not be shared with the parent, whose answers would arrive here and ours there."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._made = {}
        if self._given is not None:
            self._given.close()  # its connections, in this process only; it opens new ones

    def _make(self, patience: float) -> BaseClient:
        boto3 = import_boto3()
        settings = self._settings
        if self._session is None:
            self._session = boto3.Session()
        region = settings.region
        if region is None and settings.endpoint is not None and self._session.region_name is None:
            region = "us-east-1"  # it is only part of the signature there
        client = self._session.client(
            "s3",
            region_name=region,
            endpoint_url=settings.endpoint,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            aws_session_token=settings.session_token,
            config=_config(settings, patience),
        )
        watch(client)
        return client


def import_boto3() -> ModuleType:
    """The SDK.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import boto3
    except ModuleNotFoundError as error:
        raise MissingDependencyError("boto3", "a store on S3", "pip install 'modelstore[s3]'") from error
    return boto3  # type: ignore[no-any-return]


def is_aws(endpoint: str | None) -> bool:
    """Whether a URL is one of AWS itself, which is known to create objects only if they are absent; None is."""
    return endpoint is None or (urlsplit(endpoint).hostname or "").endswith(_AWS_DOMAINS)


def _patience(left: float | None) -> float:
    fitting = [seconds for seconds in PATIENCE if left is None or seconds <= left / 2]
    return fitting[-1] if fitting else PATIENCE[0]


def _config(settings: Settings, patience: float) -> Config:
    from botocore.config import Config

    aws = is_aws(settings.endpoint)
    secure = settings.endpoint is None or settings.endpoint.lower().startswith("https:")
    path_style = settings.path_style if settings.path_style is not None else not aws
    s3: dict[str, Any] = {"addressing_style": "path" if path_style else "auto"}
    if not (aws and secure):
        # A SHA-256 of each body before it is sent is what botocore does over plain HTTP, and for any body without a
        # checksum: it costs more than sending does. We hold a SHA-256 of each chunk that every read checks, so a
        # body that was changed on its way is found out without it.
        s3["payload_signing_enabled"] = False
    return Config(
        s3=s3,
        connect_timeout=min(deadline.CONNECT_SECONDS, patience),
        read_timeout=patience,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        # AWS checks the CRC-32 of what it receives, in a trailer, before it says that it has it. Others often cannot
        # (the trailer is an error to some), and without TLS it would have to be computed before the body is sent.
        request_checksum_calculation="when_supported" if aws and secure else "when_required",
        # Not even on AWS: it is of whole objects and parts, while ranges are what is read, and those we check.
        response_checksum_validation="when_required",
        user_agent_extra=settings.user_agent,
    )
