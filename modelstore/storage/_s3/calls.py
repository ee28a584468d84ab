"""One request to S3: with a fitting client, within the deadline, its errors translated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from modelstore import deadline
from modelstore.exceptions import DeadlineExceededError, ModelStoreError, StorageUnavailableError
from modelstore.records import now
from modelstore.storage._s3 import attempts as s3_attempts
from modelstore.storage._s3.client import Clients
from modelstore.storage._s3.errors import Translator, status_of
from modelstore.storage.guard import in_time
from modelstore.storage.transfer import backoff

REPEATS = 3
"""How often a question is asked again whose answer broke off without the SDK trying again itself."""


@dataclass(frozen=True)
class Outcome:
    """How a request ended: with an answer, or with an error."""

    answer: dict[str, Any] | None
    error: Exception | None
    sure: bool
    """With an error: whether the request certainly did nothing. With an answer: whether it was done only once."""
    broken: bool = False
    """There was an answer, and it was not whole."""


class Calls:
    """Requests about one bucket. May be used from several threads.

    Args:
        clients: the clients to send them with.
        errors: translates what they raise.
        common: arguments of every request (`Bucket`, `RequestPayer`).
    """

    def __init__(self, clients: Clients, errors: Translator, common: dict[str, Any]) -> None:
        self._clients = clients
        self._common = common
        self.errors = errors
        self.skew = timedelta()
        """How far the server's clock was ahead of this machine's in its last answer; 0 while that is below 2 s."""

    def send(self, operation: str, doing: str, key: str | None, **arguments: Any) -> Outcome:
        """Send a request, and say how it ended.

        Raises:
            DeadlineExceededError: the time was over before anything was sent.
        """

        def request() -> Outcome:
            with s3_attempts.followed() as attempts:
                try:
                    answer = getattr(self._clients.get(), operation)(**self._common, **arguments)
                except Exception as error:
                    self._note_clock(getattr(error, "response", None))
                    if attempts.sent and not _is_known(error):  # the parser's, of whatever it stumbled over
                        return self._broken(error, doing, key)
                    return Outcome(None, error, not attempts.unsure and _did_nothing(error))
            self._note_clock(answer)
            if attempts.cut:
                return self._broken("it ended early", doing, key)
            return Outcome(answer, None, not attempts.unsure)

        deadline.remaining(doing, key)
        try:
            return in_time(request, doing, key)
        except DeadlineExceededError as error:
            return Outcome(None, error, False)

    def insist(self, operation: str, doing: str, key: str | None, **arguments: Any) -> Outcome:
        """The same for a request that may be sent twice: sends it again while answers break off that the SDK took."""
        failures = 0
        while (outcome := self.send(operation, doing, key, **arguments)).broken and failures < REPEATS:
            failures += 1
            deadline.pause(backoff(failures))
        return outcome

    def __call__(self, operation: str, doing: str, key: str | None = None, **arguments: Any) -> dict[str, Any]:
        """The answer to a request that may be sent twice.

        Raises:
            StorageError: what became of it instead.
        """
        outcome = self.insist(operation, doing, key, **arguments)
        if outcome.answer is None:
            raise self.failure(outcome, operation, doing, key) from outcome.error
        return outcome.answer

    def _broken(self, why: object, doing: str, key: str | None) -> Outcome:
        where = f"{self.errors.address.rstrip('/')}/{key or ''}"
        message = f"{doing} {where} failed: the answer broke off ({why}); try again"
        return Outcome(None, StorageUnavailableError(message, key), False, True)

    def failure(self, outcome: Outcome, operation: str, doing: str, key: str | None) -> Exception:
        """The error of ours for a request that failed."""
        assert outcome.error is not None
        if isinstance(outcome.error, ModelStoreError):
            return outcome.error
        return self.errors(outcome.error, operation, doing, key)

    def has(self, full_key: str) -> bool:
        """Whether a listing shows an object.

        Raises:
            StorageError: it cannot be listed.
        """
        found = self("list_objects_v2", "looking for", None, Prefix=full_key, MaxKeys=1)
        return any(entry["Key"] == full_key for entry in found.get("Contents", ()))

    def look(self, full_key: str, key: str) -> bool:
        """Whether an object is there, as a HEAD tells.

        Raises:
            StorageError: it does not tell.
        """
        outcome = self.send("head_object", "looking for", key, Key=full_key)
        if outcome.error is not None and status_of(outcome.error) != 404:
            raise self.failure(outcome, "head_object", "looking for", key) from outcome.error
        return outcome.error is None

    def endpoint(self) -> str:
        """The URL that requests go to.

        Raises:
            StorageError: the SDK cannot tell.
        """
        try:
            # In time, since making the first client looks for credentials, which may be handed out late or never.
            return str(in_time(self._clients.get, "connecting").meta.endpoint_url)
        except ModelStoreError:
            raise
        except Exception as error:
            raise self.errors(error, "", "opening") from error

    def clock(self) -> datetime:
        """The server's time, as its last answer told it; this machine's before that."""
        return now() + self.skew

    def _note_clock(self, answer: dict[str, Any] | None) -> None:
        date = ((answer or {}).get("ResponseMetadata") or {}).get("HTTPHeaders", {}).get("date")
        try:
            skew = parsedate_to_datetime(date) - now() if date else None
        except (TypeError, ValueError):  # no date, or one without a time zone
            return
        if skew is not None:
            # The header counts in whole seconds and took a while to come here.
            self.skew = skew if abs(skew) >= timedelta(seconds=2) else timedelta()


def _is_known(error: Exception) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    return isinstance(error, (BotoCoreError, ClientError, ModelStoreError))


def _did_nothing(error: Exception) -> bool:
    """Whether what a request raised says that it had no effect."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    if isinstance(error, ClientError):
        return 300 <= status_of(error) < 500 and status_of(error) != 409
    if isinstance(error, HTTPClientError):
        return False
    return isinstance(error, (BotoCoreError, ModelStoreError)) or s3_attempts.never_sent(error)
