"""H2O: trained models in H2O's binary form, fetched from the server and sent back to one.

A model of H2O's lives in a server, of which the Python object is a handle. The file goes by way of this process, so the
server may be on another machine. It takes the very version that wrote it, and reading it can run code in the server:
it holds names of Java classes and serialised Java objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from modelstore.exceptions import (
    IntegrityError,
    InvalidArgumentError,
    MissingDependencyError,
    RuntimeMismatchError,
    UnsupportedObjectError,
)
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.managers.exact_json import decode, split

MODEL = "model.bin"
PARAMETERS = "parameters.json"

_SEARCHES = (
    "h2o.automl._estimator:H2OAutoML",
    "h2o.automl._output:H2OAutoMLOutput",
    "h2o.grid.grid_search:H2OGridSearch",
)
_INCOMPLETE = ("hglm", "targetencoder")
_MODELS = "h2o.model.model_base:ModelBase"


class H2OManager(ObjectManager):
    """Stores `H2OEstimator` and all that derives from it, once it is trained."""

    name: ClassVar[str] = "h2o"
    title: ClassVar[str] = "H2O"
    claims: ClassVar[tuple[str, ...]] = ("h2o.estimators.estimator_base:H2OEstimator", _MODELS, *_SEARCHES)
    distributions: ClassVar[tuple[str, ...]] = ("h2o",)
    extra: ClassVar[str | None] = "h2o"
    restores_as: ClassVar[str] = "the same class, as a handle of the model in the server that is connected"
    exactness: ClassVar[str] = (
        "bit for bit; GLRM solves for each new row from a start that depends on how the server has cut the frame"
    )
    limits: ClassVar[tuple[str, ...]] = (
        "Loading takes the very version of H2O that the model was saved with: its binary form knows no other. MOJO "
        "files, which other versions read, cannot be made with the open release 3.46.0.12; one that you have is "
        "uploaded as a file.",
        "The binary form counts as a pickle: it holds serialised Java objects, which can run code in the server.",
        "Loading uses the connection that there is; without one it does what `h2o.init()` does, which takes Java to "
        "start a server on this machine.",
        "The server keeps a model under the id that it had. If another model has that id there, loading is refused.",
        "Estimators that are not trained are refused, as there is nothing of them in the server; so are searches "
        "(`H2OAutoML`, `H2OGridSearch`), of which you upload the leader or any other model.",
        "`H2OHGLMEstimator` and `H2OTargetEncoderEstimator` are refused: read back in another server, they fail.",
        "Frames and models of cross-validation are not stored along.",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Fetch the model from the server, and write what the Python object knows beside it."""
        import h2o

        _refuse(obj)
        path = folder.path(MODEL)
        try:
            h2o.download_model(obj, path=str(path.parent), filename=path.name)
        except Exception as error:  # the server's and the connection's errors have no base in common
            raise UnsupportedObjectError(
                f"the server does not give out this {class_name(obj)}: {error}", class_name(obj)
            ) from error
        plain, _ = split(obj._parms)
        folder.add_json(PARAMETERS, {"parms": plain, "estimator_type": obj._estimator_type})
        state = {
            "class": class_name(obj),
            "version": str(h2o.cluster().version),
            "model_id": str(obj.model_id),
            "trained": _trained_at(obj),
        }
        return Saved("h2o binary", state, pickled=[MODEL])

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Send the model to the server.

        Raises:
            PickleNotAllowedError: the policy refuses.
            RuntimeMismatchError: the server is of another version.
            InvalidArgumentError: the server has another model of the same id.
            MissingDependencyError: there is no server, and no Java to start one.
        """
        import h2o

        request.policy.require(f"the H2O model in {MODEL}")
        path = folder / MODEL
        if not path.is_file():
            raise IntegrityError("the H2O model", MODEL, "it is not there")
        running = str(_server().version)
        if state.get("version") != running:
            raise _other_version(str(state.get("version")), running)
        there = _known(str(state.get("model_id")))
        if there is not None and _trained_at(there) != state.get("trained"):
            raise InvalidArgumentError(
                "model_id",
                f"the server holds another model {state['model_id']!r}, which this one would replace; rename or remove "
                f"it first, by h2o.remove({state['model_id']!r}), or connect to another server",
            )
        try:
            model = there if there is not None else h2o.upload_model(str(path))
        except Exception as error:
            raise IntegrityError("the H2O model", MODEL, f"the server cannot read it: {error}") from error
        if class_name(model) != state.get("class") or model.model_id != state.get("model_id"):
            raise IntegrityError("the H2O model", MODEL, f"it holds the {class_name(model)} {model.model_id!r}")
        _complete(model, folder / PARAMETERS)
        return model

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The parameters that the model was trained with, but for names of frames in the server."""
        given = (obj.actual_params or {}).items()
        found = {name: _short(value) for name, value in given if not name.endswith("_frame")}
        return {"algo": obj.algo, **found}


def _refuse(obj: Any) -> None:
    import h2o

    if any(f"{base.__module__}:{base.__qualname__}" in _SEARCHES for base in type(obj).__mro__):
        raise UnsupportedObjectError(
            f"a {type(obj).__name__} is many models; upload one of them, such as its leader (automl.leader, "
            "grid.models[0])",
            class_name(obj),
        )
    if getattr(obj, "model_id", None) is None or not getattr(obj, "_model_json", None):
        raise UnsupportedObjectError(
            f"this {class_name(obj)} is not trained, so there is nothing of it in the server; train it first",
            class_name(obj),
        )
    if obj.algo in _INCOMPLETE:
        raise UnsupportedObjectError(
            f"H2O's binary form leaves out what a {type(obj).__name__} takes to work in another server; store the data "
            "and settings that it was trained with, and train it there",
            class_name(obj),
        )
    if h2o.connection() is None:
        raise UnsupportedObjectError(
            "there is no connection to the server that holds this model; connect first, by h2o.connect()",
            class_name(obj),
        )


def _server() -> Any:
    """The server that is connected, or one that `h2o.init` finds or starts."""
    import h2o

    connection = h2o.connection()
    if connection is None or not connection.connected:
        try:
            h2o.init(verbose=False)
        except Exception as error:
            if "java" in str(error).lower():
                command = "install a Java runtime, such as openjdk-17-jre-headless"
                raise MissingDependencyError("java", "starting an H2O server", command) from error
            raise InvalidArgumentError(
                "connection", f"there is no H2O server to load into ({error}); connect to one first, by h2o.connect()"
            ) from error
    return h2o.cluster()


def _known(model_id: str) -> Any:
    """The server's model of this id; None if it has none."""
    import h2o

    try:
        return h2o.get_model(model_id)
    except Exception:  # the server says that it has none by an error
        return None


def _trained_at(model: Any) -> Any:
    """When the model was made, in milliseconds, which tells two of one id apart."""
    return (model._model_json or {}).get("timestamp")


def _other_version(saved: str, running: str) -> RuntimeMismatchError:
    return RuntimeMismatchError(
        saved,
        running,
        "the H2O model",
        f"the H2O model was saved with H2O {saved}, and the server is {running}: H2O reads models of its own version "
        f"alone. Load it with a server and a client of {saved}: pip install h2o=={saved}",
    )


def _complete(model: Any, path: Path) -> None:
    """Give the handle what the server does not know: how its estimator was set up."""
    import json

    try:
        kept = json.loads(path.read_bytes())
        parameters = {name: decode(value) for name, value in kept["parms"].items()}
        model._estimator_type = kept["estimator_type"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError("the H2O model", path.name, f"it cannot be read: {error!r}") from error
    model._parms.update({name: value for name, value in parameters.items() if name in model._parms})


def _short(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and len(value) > 100:
        return f"{len(value)} values"
    if value is None or isinstance(value, (bool, int, float, str, list, tuple)):
        return value
    return str(value)[:1000]
