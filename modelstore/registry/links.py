"""Models that need another one of the same store, such as an adapter its base model.

A record refers to the other by domain, id and the digest of its content, as an id is free again after a deletion. So a
link never leads to another model than the one that was meant, and never in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from modelstore.exceptions import IntegrityError
from modelstore.registry.registry import Model, Registry


def complete(registry: Registry, entries: Iterable[dict[str, Any]]) -> None:
    """Add to each of the `references` of a record's managers what tells its model from all others.

    Raises:
        DomainNotFoundException, ModelNotFoundException, ModelDeletedException: there is no such model.
    """
    for entry in entries:
        for reference in entry.get("references", ()):
            model = registry.find(reference["domain"], reference["model_id"])
            reference["content_digest"] = _content(model)


def follow(registry: Registry, reference: Mapping[str, Any], subject: str, offline: bool) -> Model:
    """The model that is referred to.

    Args:
        subject: the model that refers to it, for errors.

    Raises:
        DomainNotFoundException, ModelNotFoundException, ModelDeletedException: it is not there any more.
        IntegrityError: another model bears its id now.
    """
    model = registry.find(reference["domain"], reference["model_id"], offline=offline)
    if _content(model) != reference.get("content_digest"):
        raise IntegrityError(
            subject, "link", f"the model {model.model_id!r} of {model.domain!r} that it needs is another one by now"
        )
    return model


def _content(model: Model) -> str:
    """What tells the content of a model; of an adopted one, whose archive has no digest, the key that it alone has."""
    return str(model.archive.get("content_digest") or model.archive["key"])
