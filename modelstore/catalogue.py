"""The part of `ModelStore` that asks and changes the log, and touches no archive but to delete it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.confirm import confirm
from modelstore.notices import warn
from modelstore.opening import offline
from modelstore.records import ModelRecord
from modelstore.registry.keys import clean_id
from modelstore.timing import Timed, timed

if TYPE_CHECKING:
    from modelstore.doctor import Diagnosis
    from modelstore.registry.gc import GcReport
    from modelstore.registry.registry import Registry


class Catalogue(Timed):
    """Domains, models and states: what there is, and how it is marked or deleted.

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
    def list_models(self, domain: str, state_name: str | None = None, *, timeout: float | None = None) -> list[str]:
        """The ids of a domain's models, newest first; with a state, of those that are in it.

        Raises:
            DomainNotFoundException, StateNotFoundError: no such thing.
        """
        return self._registry.models(domain, state_name, offline(None))

    def list_versions(self, domain: str, state_name: str | None = None, *, timeout: float | None = None) -> list[str]:
        """The old name of `list_models`."""
        warn("list_versions() is deprecated; use list_models()", DeprecationWarning)
        return self.list_models(domain, state_name, timeout=timeout)

    @timed
    def get_model_info(self, domain: str, model_id: str, *, timeout: float | None = None) -> ModelRecord:
        """The record of a model: what `upload` returned.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
        """
        return self._registry.find(domain, clean_id(model_id), offline=offline(None)).record

    @timed
    def model_exists(self, domain: str, model_id: str, *, timeout: float | None = None) -> bool:
        """Whether the domain holds a model of this id; False for a deleted one."""
        return self._registry.exists(domain, model_id, offline(None))

    # -- states -------------------------------------------------------------------------------------------------

    @timed
    def list_model_states(self, *, timeout: float | None = None) -> list[str]:
        """The names of the model states, in the order in which they were created."""
        return self._registry.states.names(offline(None))

    @timed
    def create_model_state(self, state_name: str, *, timeout: float | None = None) -> None:
        """Define a state that models can be put into, such as "production"; nothing happens if it exists."""
        self._registry.states.create(state_name)

    def delete_model_state(self, state_name: str, skip_prompt: bool = False, *, timeout: float | None = None) -> None:
        """Delete a state and take all models out of it. Asks first, unless `skip_prompt`.

        Raises:
            StateNotFoundError: there is no such state.
            ConfirmationRequiredError: there is nobody to ask.
        """
        if skip_prompt or confirm(f"Delete model state {state_name!r} and remove it from all models"):
            with self._within(timeout):  # from now on: whoever was asked may have taken their time
                self._registry.states.delete(state_name)

    @timed
    def set_model_state(self, domain: str, model_id: str, state_name: str, *, timeout: float | None = None) -> None:
        """Put a model into a state. `load(domain, state=…)` takes the one that was put there last.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException, StateNotFoundError: no such thing.
        """
        self._registry.states.set(domain, model_id, state_name)

    @timed
    def remove_model_state(self, domain: str, model_id: str, state_name: str, *, timeout: float | None = None) -> None:
        """Take a model out of a state; nothing happens if it is not in it.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException, StateNotFoundError: no such thing.
        """
        self._registry.states.remove(domain, model_id, state_name)

    @timed
    def get_model_states(self, domain: str, model_id: str, *, timeout: float | None = None) -> list[str]:
        """The states that a model is in.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
        """
        return self._registry.states.of(domain, model_id, offline(None))

    @timed
    def doctor(self, *, timeout: float | None = None) -> Diagnosis:
        """Try out what works with this storage and these credentials, and what not; `print` the result.

        It says which right is missing for what, and gives the smallest policy that would make everything work. Costs
        about ten requests; its few small objects are deleted again, or left to `gc` if that is not allowed.
        """
        from modelstore.doctor import examine

        return examine(self._registry.storage)

    # -- deletion -----------------------------------------------------------------------------------------------

    def delete_model(
        self,
        domain: str,
        model_id: str,
        skip_prompt: bool = False,
        *,
        purge: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Delete a model: it is gone from every listing and its id is free. Asks first, unless `skip_prompt`.

        Its bytes go seven days later, with `gc()`; with `purge`, now.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
            ConfirmationRequiredError: there is nobody to ask.
        """
        with self._within(timeout):
            self._registry.find(domain, clean_id(model_id))
        if skip_prompt or confirm(f"Delete model {model_id!r} from domain {domain!r}"):
            with self._within(timeout):
                archive = self._registry.delete(domain, model_id, purge)
                if archive is not None:
                    self._registry.storage.delete([archive])

    @timed
    def gc(self, dry_run: bool = False, *, timeout: float | None = None) -> GcReport:
        """Free the bytes of models deleted over seven days ago, and those that uploads which never ended left.

        Args:
            dry_run: only report what could be freed.
        """
        from modelstore.registry.gc import collect

        return collect(self._registry, dry_run)
