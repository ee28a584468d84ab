"""The part of `ModelStore` that says what there is: domains, models and their records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.notices import warn
from modelstore.opening import offline
from modelstore.records import ModelRecord, time_text
from modelstore.registry.keys import clean_id
from modelstore.timing import Timed, timed

if TYPE_CHECKING:
    from datetime import datetime

    from modelstore.doctor import Diagnosis
    from modelstore.registry.registry import Registry


class Catalogue(Timed):
    """Domains and models: what there is.

    Each method takes `timeout`: seconds in which it must end (default: the store's).
    """

    _registry: Registry

    @timed
    def list_domains(self, *, timeout: float | None = None) -> list[str]:
        """The names of all domains, sorted."""
        return self._registry.domains(offline(None))

    @timed
    def get_domain(self, domain: str, *, timeout: float | None = None) -> ModelRecord:
        """The record of a domain's latest model.

        Raises:
            DomainNotFoundException: there is no such domain.
            ModelNotFoundException: all its models have been deleted.
        """
        return self._registry.find(domain, offline=offline(None)).record

    @timed
    def list_models(
        self,
        domain: str,
        state_name: str | None = None,
        *,
        at: datetime | str | None = None,
        timeout: float | None = None,
    ) -> list[str]:
        """The ids of a domain's models, newest first; with a state, of those that are in it.

        Args:
            domain: which.
            state_name: only models in this state.
            at: a time (ISO 8601, UTC where it names no zone): as it was then, with what has been deleted since.
            timeout: seconds in which this call must end (default: the store's).

        Raises:
            DomainNotFoundException, StateNotFoundError: no such thing.
            InvalidArgumentError: `at` is no time.
        """
        return self._registry.models(domain, state_name, offline(None), time_text("at", at))

    def list_versions(self, domain: str, state_name: str | None = None, *, timeout: float | None = None) -> list[str]:
        """The old name of `list_models`."""
        warn("list_versions() is deprecated; use list_models()", DeprecationWarning)
        return self.list_models(domain, state_name, timeout=timeout)

    @timed
    def get_model_info(self, domain: str, model_id: str, *, timeout: float | None = None) -> ModelRecord:
        """The record of a model: what `upload` returned. What was said of it since stands beside that, as `added`.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
        """
        return self._registry.find(domain, clean_id(model_id), offline=offline(None)).record

    @timed
    def model_exists(self, domain: str, model_id: str, *, timeout: float | None = None) -> bool:
        """Whether the domain holds a model of this id; False for a deleted one."""
        return self._registry.exists(domain, model_id, offline(None))

    @timed
    def doctor(self, *, timeout: float | None = None) -> Diagnosis:
        """Try out what works with this storage and these credentials, and what not; `print` the result.

        It says which right is missing for what, and gives the smallest policy that would make everything work. Costs
        about ten requests; its few small objects are deleted again, or left to `gc` if that is not allowed.
        """
        from modelstore.doctor import examine

        return examine(self._registry.storage)
