"""The ancestor's import path of `modelstore.exceptions`."""

from modelstore.exceptions import *  # noqa: F403
from modelstore.exceptions import (
    DomainNotFoundException as DomainNotFoundException,
    FilePullFailedException as FilePullFailedException,
    ModelDeletedException as ModelDeletedException,
    ModelExistsException as ModelExistsException,
    ModelNotFoundException as ModelNotFoundException,
)
