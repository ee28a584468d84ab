"""The part of `ModelStore` that finds models again and tells what was learnt: search, comparison, notes, journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelstore.exceptions import InvalidArgumentError
from modelstore.opening import offline
from modelstore.records import time_text
from modelstore.registry.keys import clean_id, clean_name
from modelstore.timing import Timed, timed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from modelstore.archive import Cache
    from modelstore.registry.history import Entry
    from modelstore.registry.registry import Registry
    from modelstore.reports.comparison import Comparison
    from modelstore.reports.journal import Journal
    from modelstore.reports.results import SearchResults
    from modelstore.storage.base import Storage


class Discovery(Timed):
    """Finding models, and what people wrote about them.

    Each method takes `timeout`: seconds in which it must end (default: the store's).
    """

    _registry: Registry
    _cache: Cache
    storage: Storage

    @timed
    def search(
        self,
        where: str | None = None,
        *,
        domain: str | None = None,
        text: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
        state: str | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        max_age: float = 0.0,
        timeout: float | None = None,
    ) -> SearchResults:
        """The models that a condition describes, in one domain or in all.

        ::

            store.search("metrics.auc > 0.9 and tags.team == 'fincrime' and library in ['sklearn', 'xgboost']",
                         order_by="-metrics.auc", limit=10)

        Args:
            where: written like `pandas.DataFrame.query`: comparisons, `and`, `or`, `not`, `in`, `is None`,
                `contains(path, text)`, `startswith(path, text)`. Paths lead into `metrics`, `params`, `tags`, `data`,
                `code` and `extra` (`tags['my team']` where a name is no word); and there are `note`, `domain`,
                `model_id`, `library`, `type`, `user`, `created` and `state`. What a model lacks is None: it equals
                nothing, and is neither less nor more. Metrics and tags that were added after the upload count.
            domain: only models of this domain.
            text: words that all must stand in the model's names, notes or tags, each as the beginning of a word.
            order_by: a path; the highest first with `-` before it. What lacks it comes last. (Default: the best
                matches of `text`, else the newest first.)
            limit: at most so many.
            state: only models in this state.
            created_after: only models uploaded after this time (ISO 8601, UTC where it names no zone).
            created_before: only models uploaded before this time.
            max_age: be content with what this process read at most so many seconds ago.
            timeout: seconds in which this call must end (default: the store's).

        Returns:
            The records, each read when it is looked at. Costs one listing for the log of each domain, several at a
            time.

        Raises:
            QueryError: the condition or the order cannot be understood.
            DomainNotFoundException, StateNotFoundError: no such thing.
            InvalidArgumentError: another argument cannot be used.
        """
        from modelstore.registry.search import Question, find
        from modelstore.reports.results import SearchResults

        off = offline(None)
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidArgumentError("limit", f"limit={limit!r} is no number of models")
        number = None if state is None else self._registry.states.number(state, off)
        if domain is not None:
            domain, index = self._registry.open_domain(domain, off, max_age)
        else:
            known = self._registry.refresh(self._registry.domains(off, max_age), off, max_age)
            if known is None:
                return SearchResults((), self._record)
            index = known
        question = Question(
            where, domain, text, order_by, limit, number,
            time_text("created_after", created_after), time_text("created_before", created_before),
        )  # fmt: skip
        with index.read() as db:
            return SearchResults(find(db, question), self._record)

    def _record(self, domain: str, number: int) -> Any:
        return self._registry.numbered(domain, number).record

    @timed
    def leaderboard(
        self,
        domain: str,
        metric: str,
        *,
        limit: int | None = 10,
        lowest_first: bool = False,
        where: str | None = None,
        timeout: float | None = None,
    ) -> SearchResults:
        """A domain's models by a metric, the best first; those that lack it come last.

        Args:
            domain: which.
            metric: its name.
            limit: at most so many.
            lowest_first: whether a low value is a good one, as of a loss.
            where: only models that this describes; see `search`.
            timeout: seconds in which this call must end (default: the store's).

        Raises:
            DomainNotFoundException: there is no such domain.
            QueryError: the condition cannot be understood.
        """
        name = str(metric).removeprefix("metrics.")
        order = f"{'' if lowest_first else '-'}metrics[{name!r}]"
        return self.search(where, domain=domain, order_by=order, limit=limit)

    @timed
    def compare(
        self, domain: str, model_id: str, *others: str, tensors: bool = True, timeout: float | None = None
    ) -> Comparison:
        """What differs between models of a domain: parameters, metrics, data, dependencies, code, files and tensors.

        Args:
            domain: of the models.
            model_id: the one that the others are compared with.
            others: their ids.
            tensors: whether to compare the weights in safetensors files that are not the same, for which the models are
                fetched as for a `load`. Distances take numpy.
            timeout: seconds in which this call must end (default: the store's).

        Returns:
            A structure that prints as a table, in a notebook too; `to_json()` exports it. Costs one read for each
            model.

        Raises:
            InvalidArgumentError: there is nothing to compare with.
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
        """
        from modelstore.comparing import compare

        if not others:
            raise InvalidArgumentError("others", "compare() takes two ids or more")
        off = offline(None)
        models = [self._registry.find(domain, clean_id(each), offline=off) for each in (model_id, *others)]
        return compare(self.storage, self._cache, models, tensors, off)

    # -- what people write --------------------------------------------------------------------------------------

    @timed
    def note(
        self,
        domain: str,
        text: str,
        *,
        model_id: str | None = None,
        kind: str = "note",
        tags: Mapping[str, Any] | None = None,
        answers: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Write a note into the journal of a domain.

        Args:
            domain: which; it comes into being with its first model.
            text: what was thought, tried or found.
            model_id: the model that it is about.
            kind: `note`, `idea`, `tried`, `worked`, `failed`, `decision` or `next` (what to do next).
            tags: texts by name.
            answers: the id of another note, which is settled by this one: a `next` that was done.
            timeout: seconds in which this call must end (default: the store's).

        Returns:
            The note's id within its domain.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
            InvalidArgumentError: there is no such kind, or no such note to answer.
        """
        from modelstore.description import check_words
        from modelstore.registry.annotations import NOTE_KINDS, add_note

        if kind not in NOTE_KINDS:
            raise InvalidArgumentError("kind", f"kind={kind!r} is none of {', '.join(NOTE_KINDS)}")
        words = check_words(note=text, tags=tags)
        if not words.note or not words.note.strip():
            raise InvalidArgumentError("text", "a note is a text that is not empty")
        about = None if model_id is None else clean_id(model_id)
        return add_note(self._registry, domain, words.note, kind, about, words.tags, answers)

    @timed
    def add_metrics(
        self, domain: str, model_id: str, metrics: Mapping[str, Any], *, timeout: float | None = None
    ) -> None:
        """Add metrics to a model that were not known when it was uploaded.

        The record as uploaded stays; `get_model_info` gives them as `added`, and searches find them. A name that is
        there takes the new value.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
            InvalidArgumentError: a metric is no number.
        """
        from modelstore.description import check_words
        from modelstore.registry.annotations import describe

        if not metrics:
            raise InvalidArgumentError("metrics", "add_metrics() was given no metric")
        describe(self._registry, domain, clean_id(model_id), metrics=check_words(metrics=metrics).metrics)

    @timed
    def tag(self, domain: str, model_id: str, tags: Mapping[str, Any], *, timeout: float | None = None) -> None:
        """Add tags to a model; a name that is there takes the new value, and None takes it away.

        Raises:
            DomainNotFoundException, ModelNotFoundException, ModelDeletedException: no such thing.
            InvalidArgumentError: a tag cannot be written as JSON.
        """
        from modelstore.description import check_words
        from modelstore.registry.annotations import describe

        if not tags:
            raise InvalidArgumentError("tags", "tag() was given no tag")
        describe(self._registry, domain, clean_id(model_id), tags=check_words(tags=tags).tags)

    @timed
    def history(
        self,
        domain: str,
        model_id: str | None = None,
        *,
        state: str | None = None,
        timeout: float | None = None,
    ) -> list[Entry]:
        """All that happened in a domain, oldest first: what, when, by whom and why.

        Args:
            domain: which.
            model_id: only what is about the models that bear or bore this id.
            state: only what is about the states that bear or bore this name.
            timeout: seconds in which this call must end (default: the store's).

        Raises:
            DomainNotFoundException: there is no such domain.
            ModelNotFoundException: no model ever bore this id.
        """
        from modelstore.registry.history import read

        wanted = None if model_id is None else clean_id(model_id)
        name = None if state is None else clean_name("model state", state)
        return read(self._registry, domain, wanted, name, offline(None))

    @timed
    def journal(
        self,
        domain: str,
        *,
        kind: str | None = None,
        text: str | None = None,
        model_id: str | None = None,
        open: bool | None = None,
        after: datetime | str | None = None,
        before: datetime | str | None = None,
        timeout: float | None = None,
    ) -> Journal:
        """The account of a domain, oldest first: uploads with what changed, notes, states with their reasons.

        Args:
            domain: which.
            kind: only entries of this kind: `upload`, a kind of note, or a kind of event as in `history`.
            text: only entries that have all these words ("have we tried this?").
            model_id: only entries about the models that bear or bore this id.
            open: only notes that no other note answers (True), or only those that are answered (False).
            after: only entries after this time (ISO 8601, UTC where it names no zone).
            before: only entries before this time.
            timeout: seconds in which this call must end (default: the store's).

        Returns:
            Entries, which print as Markdown; `to_markdown()`, `to_html()` and `to_dict()` export them.

        Raises:
            DomainNotFoundException, ModelNotFoundException: no such thing.
            QueryError: `text` holds no word.
            InvalidArgumentError: a time is none.
        """
        from modelstore.journaling import Wanted, read_journal

        wanted = Wanted(
            kind, text, None if model_id is None else clean_id(model_id), open,
            time_text("after", after), time_text("before", before),
        )  # fmt: skip
        return read_journal(self._registry, domain, wanted, offline(None))
