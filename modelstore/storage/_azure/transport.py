"""How requests to Azure travel: many connections, and no attempt that goes beyond the deadline.

Imports the SDK: only what makes a client may import this.
"""

from __future__ import annotations

from typing import Any

import urllib3.connection
import urllib3.connectionpool
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import ExponentialRetry
from requests import Session
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from modelstore import deadline
from modelstore.storage.heads import WholeHead
from modelstore.storage.transfer import backoff

CONNECTIONS = 64
"""Kept open at most; the SDK's ten would be closed and opened anew when several transfers run."""

RETRIES = 5
"""How often a request is sent again whose answer was a server's error; three times where none came."""


def options() -> dict[str, Any]:
    """Arguments with which a client is made."""
    session = Session()
    never = Retry(total=False, redirect=False, raise_on_status=False)  # the SDK's own policy does that
    session.mount("https://", _Adapter(pool_maxsize=CONNECTIONS, max_retries=never))
    session.mount("http://", _Adapter(pool_maxsize=CONNECTIONS, max_retries=never))
    return {
        "transport": _Transport(session=session),
        "retry_policy": _Retries(retry_total=RETRIES, retry_status=RETRIES),
    }


class _Adapter(HTTPAdapter):  # type: ignore[misc]
    """Takes no answer whose head broke off."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Called by `requests` when it makes or unpickles an adapter."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class _HTTPConnection(urllib3.connection.HTTPConnection):  # type: ignore[misc]
    response_class = WholeHead


class _HTTPSConnection(urllib3.connection.HTTPSConnection):  # type: ignore[misc]
    response_class = WholeHead


class _HTTPPool(urllib3.connectionpool.HTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.connectionpool.HTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HTTPSConnection


class _Retries(ExponentialRetry):  # type: ignore[misc]
    """The SDK's policy, with pauses that begin below a second (its own: 15) and never go beyond the deadline."""

    def sleep(self, settings: dict[str, Any], transport: object) -> None:
        deadline.pause(backoff(settings["count"]))


class _Transport(RequestsTransport):  # type: ignore[misc]
    """The SDK's transport; each attempt gets what is left at the time, not what was left before the first."""

    def send(self, request: Any, **kwargs: Any) -> Any:
        kwargs["connection_timeout"] = deadline.at_most(deadline.CONNECT_SECONDS, "sending a request")
        kwargs["read_timeout"] = deadline.at_most(deadline.STALL_SECONDS, "sending a request")
        return super().send(request, **kwargs)
