"""The part of `ModelStore` that marks models and takes them away: states, pins, deletion, and what frees the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelstore.anybody import ANYBODY, Anybody
from modelstore.confirm import confirm
from modelstore.opening import offline
from modelstore.registry.keys import clean_id
from modelstore.timing import Timed, timed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from modelstore.ancestor.adoption import AdoptionReport
    from modelstore.registry.gc import GcReport
    from modelstore.registry.registry import Registry
    from modelstore.registry.retention import RetentionReport


class Lifecycle(Timed):
    """States of models, and their end.

    Each method takes `timeout`: seconds in which it must end (default: the store's). Each `reason` is a text that
    `history` and `journal` give back.
    """

    _registry: Registry

    # -- states -------------------------------------------------------------------------------------------------

    @timed
    def list_model_states(self, *, timeout: float | None = None) -> list[str]:
        """The names of the model states, in the order in which they were created."""
        return self._registry.states.names(offline(None))

    @timed
    def create_model_state(
        self,
        state_name: str,
        *,
        exclusive: bool | None = None,
        requires: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Define a state that models can be put into, such as "production"; nothing happens if it exists.

        Args:
            state_name: any text.
            exclusive: whether at most one model of each domain is in it: whoever is put there takes the place of the
                one before (default: no).
            requires: names of states in which a model must be before it may be put into this one (default: none).
            timeout: seconds in which this call must end (default: the store's).

        Raises:
            InvalidArgumentError: it exists with other rules, which never change.
            StateNotFoundError: a state that is required does not exist.
        """
        self._registry.states.create(state_name, exclusive, requires)

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
    def set_model_state(
        self,
        domain: str,
        model_id: str,
        state_name: str,
        *,
        reason: str | None = None,
        expected: str | Anybody | None = ANYBODY,
        timeout: float | None = None,
    ) -> None:
        """Put a model into a state. `load(domain, state=…)` takes the one that was put there last.

        Args:
            domain: of the model.
            model_id: which.
            state_name: where to.
            reason: why.
            expected: the id of the model that you believe was put there last, or None for nobody; if it is another
                one by then, nothing changes.
            timeout: seconds in which this call must end (default: the store's).

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException, StateNotFoundError: no such thing.
            StateConflictError: another model is in the state than the expected one, or the model is not in the states
                that this one requires.
        """
        self._registry.states.set(domain, model_id, state_name, reason, expected)

    @timed
    def rollback(self, domain: str, state_name: str, *, reason: str | None = None, timeout: float | None = None) -> str:
        """Put the model back into a state that was in it before the present one; deleted ones are passed over.

        Called again, it goes back further. What a rollback took out comes back with `set_model_state` only.

        Returns:
            The id of the model that is in the state now.

        Raises:
            DomainNotFoundException, StateNotFoundError: no such thing.
            ModelNotFoundException: no model that still exists was in it before.
        """
        return self._registry.states.roll_back(domain, state_name, reason)

    @timed
    def remove_model_state(
        self,
        domain: str,
        model_id: str,
        state_name: str,
        *,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Take a model out of a state; nothing happens if it is not in it.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException, StateNotFoundError: no such thing.
        """
        self._registry.states.remove(domain, model_id, state_name, reason)

    @timed
    def get_model_states(self, domain: str, model_id: str, *, timeout: float | None = None) -> list[str]:
        """The states that a model is in.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
        """
        return self._registry.states.of(domain, model_id, offline(None))

    @timed
    def pin_model(self, domain: str, model_id: str, *, timeout: float | None = None) -> None:
        """Let nothing delete this model, neither a call nor a retention, until `unpin_model`.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
        """
        from modelstore.registry.removal import pin

        pin(self._registry, domain, model_id, True)

    @timed
    def unpin_model(self, domain: str, model_id: str, *, timeout: float | None = None) -> None:
        """Let a pinned model be deleted again.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
        """
        from modelstore.registry.removal import pin

        pin(self._registry, domain, model_id, False)

    # -- deletion -----------------------------------------------------------------------------------------------

    def delete_model(
        self,
        domain: str,
        model_id: str,
        skip_prompt: bool = False,
        *,
        purge: bool = False,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Delete a model: it is gone from every listing and its id is free. Asks first, unless `skip_prompt`.

        Its bytes go seven days later, with `gc()`, and until then `restore_model` brings it back; with `purge` they go
        now.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
            ModelPinnedError: it is pinned.
            ConfirmationRequiredError: there is nobody to ask.
        """
        from modelstore.registry import removal

        with self._within(timeout):
            self._registry.find(domain, clean_id(model_id))
        if skip_prompt or confirm(f"Delete model {model_id!r} from domain {domain!r}"):
            with self._within(timeout):
                archive = removal.delete(self._registry, domain, model_id, purge, reason)
                if archive is not None:
                    self._registry.storage.delete([archive])

    @timed
    def restore_model(
        self, domain: str, model_id: str, *, reason: str | None = None, timeout: float | None = None
    ) -> None:
        """Bring back a model that was deleted, while its bytes are there; nothing happens if it was not deleted.

        It comes back without the states that it was in.

        Raises:
            DomainNotFoundException, ModelNotFoundException: no such thing.
            ModelExistsException: another model bears its id now.
            ModelDeletedException: its bytes are gone.
        """
        from modelstore.registry.removal import restore

        restore(self._registry, domain, model_id, reason)

    def delete_domain(
        self,
        domain: str,
        skip_prompt: bool = False,
        *,
        purge: bool = False,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Delete all models of a domain, in one step. Asks first, unless `skip_prompt`.

        The domain is not listed any more, until somebody uploads to it or restores one of its models.

        Raises:
            DomainNotFoundException: there is no such domain.
            ModelPinnedError: one of its models is pinned; nothing was deleted.
            ConfirmationRequiredError: there is nobody to ask.
        """
        from modelstore.registry import removal

        with self._within(timeout):
            count = len(self._registry.models(domain))
        if skip_prompt or confirm(f"Delete domain {domain!r} with all its {count} models"):
            with self._within(timeout):
                archives = removal.delete_domain(self._registry, domain, purge, reason)
                self._registry.storage.delete(archives)

    @timed
    def retention(
        self,
        domain: str,
        *,
        keep_last: int = 10,
        keep_best: tuple[str, int] | Sequence[tuple[str, int]] = (),
        dry_run: bool = True,
        purge: bool = False,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> RetentionReport:
        """Delete a domain's models but for the last ones and the best ones, in one step.

        The latest, those that are in a state and those that are pinned always stay.

        Args:
            domain: which.
            keep_last: how many of the newest to keep.
            keep_best: `("metrics.auc", 3)` keeps the three with the highest values, `("-metrics.loss", 3)` with the
                lowest; or several such pairs.
            dry_run: only report (the default, as a wrong rule would cost models).
            purge: free the bytes now, and not seven days later.
            reason: why.
            timeout: seconds in which this call must end (default: the store's).

        Raises:
            DomainNotFoundException: there is no such domain.
            QueryError, InvalidArgumentError: a rule cannot be understood.
        """
        from modelstore.registry.retention import retain, rules_of

        report = retain(self._registry, domain, rules_of(keep_last, keep_best), dry_run, purge, reason)
        if report.archives:
            self._registry.storage.delete(report.archives)
        return report

    @timed
    def adopt(self, *, timeout: float | None = None) -> AdoptionReport:
        """Take in a store of operatorai/modelstore (0.0.74 to 0.0.82) that lies at this address.

        Its domains, models, states and deleted marks are found from then on, and its models load from where they lie.
        Nothing of it is written, copied or deleted, then or later, so the old library can go on reading and writing;
        call this again to take in what it did. A second call with nothing new changes nothing.

        Costs one listing, and one read and one commit for each model that is new.

        Returns:
            What came in, and what could not.

        Raises:
            StoreNotFoundError: no such store lies here.
        """
        from modelstore.ancestor.adoption import adopt

        return adopt(self._registry)

    @timed
    def gc(
        self,
        dry_run: bool = False,
        *,
        older_than: timedelta | float | None = None,
        timeout: float | None = None,
    ) -> GcReport:
        """Free the bytes of deleted models, and those that uploads which never ended left behind.

        Args:
            dry_run: only report what could be freed.
            older_than: how long ago a model must have been deleted, as a `timedelta` or in days (default: seven days).
                What belongs to no model is kept for seven days at least: an upload may be under way.
            timeout: seconds in which this call must end (default: the store's).

        Raises:
            InvalidArgumentError: `older_than` is no length of time.
        """
        from modelstore.registry.gc import GRACE, collect, grace_of

        grace = grace_of(older_than)
        # What no model refers to may be an upload that is under way, whatever somebody wants to be rid of.
        return collect(self._registry, dry_run, grace, max(grace, GRACE))
