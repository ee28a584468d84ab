"""skorch: nets with their modules, optimizers, callbacks and history.

The module's weights lie in `model.safetensors`, which `net.load_params(f_params=…, use_safetensors=True)` reads too,
and the history in `history.json`, for `f_history=`. All else that makes a net (the user's module class, callbacks with
their state, the optimizer) refers to each other, and is one pickle without any weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import IntegrityError, InvalidArgumentError, UnsupportedObjectError
from modelstore.folder import ModelFolder
from modelstore.managers.base import LoadRequest, ObjectManager, Saved, class_name
from modelstore.managers.exact_json import decode, encode

HISTORY = "history.json"

_MODULE = "module_"
_CLASSES = "classes_inferred_"
_LONGEST = 1000


class SkorchManager(ObjectManager):
    """Stores `NeuralNet` and all that derives from it; initialized or not."""

    name = "skorch"
    claims = ("skorch.net:NeuralNet",)
    load_options = ("into", "device")
    distributions = ("skorch", "torch", "scikit-learn", "numpy", "cloudpickle")
    extra = "skorch"
    exactness = "bit for bit; `partial_fit` goes on with the same numbers"
    limits = (
        "nets with `compile=True` are refused once they are initialized: torch does not pickle compiled modules",
        "`into=net` fills the module, history and class labels without a pickle, not the optimizer's state; a net with "
        "several modules takes the pickle",
        "a net within another object, such as a pipeline of scikit-learn, is a part of that pickle; with classes of "
        "a notebook's, this takes skorch 1.2",
        "a `train_split` or callback that holds data, such as `predefined_split(dataset)`, is stored with that data",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the weights, the history and the rest.

        Raises:
            UnsupportedObjectError: the net is compiled, or something that it holds cannot be pickled.
        """
        import torch

        from modelstore.managers._torch.holders import save_holder

        modules = _parts(obj, torch.nn.Module)
        for name, module in modules.items():
            _refuse_compiled(obj, name, module)
        main = modules.get(_MODULE)
        optimizers = _parts(obj, torch.optim.Optimizer)
        saved = save_holder(obj, dict(vars(obj)), main, optimizers.values(), folder)
        saved.state["modules"] = sorted(modules)
        _add_history(obj, folder)
        if (labels := vars(obj).get(_CLASSES)) is not None:
            try:
                saved.state["classes"] = encode(labels) if len(labels) <= _LONGEST else None
            except TypeError:
                saved.state["classes"] = None
        return saved

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build the net, or fill the one that the caller has built.

        Raises:
            PickleNotAllowedError: the policy refuses; `into` takes no pickle.
            InvalidArgumentError: the device is not there, or `into` does not fit.
        """
        from modelstore.managers._torch.devices import asked_device, is_available
        from modelstore.managers._torch.holders import load_holder

        device = asked_device(request)
        if request.into is not None:
            return _fill(folder, state, request)
        net, attributes = load_holder(folder, state, request.policy, device)
        # Not through setattr, which would take the attributes for new ones of the user's.
        vars(net).update(attributes)
        if device is not None:
            vars(net)["device"] = device
        elif attributes.get("device") is not None and not is_available(str(attributes["device"])):
            vars(net)["device"] = "cpu"
        return net

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """`get_params()`, less what the callbacks hold."""
        parameters = obj.get_params(deep=False)
        return {name: value for name, value in parameters.items() if not name.startswith("callbacks__")}


def _parts(net: Any, cls: type) -> dict[str, Any]:
    """The net's own modules or optimizers, by attribute."""
    return {name: value for name, value in vars(net).items() if name.endswith("_") and isinstance(value, cls)}


def _refuse_compiled(net: Any, name: str, module: Any) -> None:
    names = [f"{base.__module__}:{base.__qualname__}" for base in type(module).__mro__]
    if "torch._dynamo.eval_frame:OptimizedModule" in names:
        raise UnsupportedObjectError(
            f"net.{name} was compiled by torch.compile, and compiled modules cannot be stored: make a net with "
            "compile=False, initialize() it, and give its module the weights by load_state_dict("
            f"net.{name}._orig_mod.state_dict())",
            class_name(net),
        )


def _add_history(net: Any, folder: ModelFolder) -> None:
    history: Any = getattr(net, "history_", None)
    if not hasattr(history, "to_list"):
        return
    try:
        text = json.dumps(history.to_list())
    except (TypeError, ValueError):  # a callback may have recorded anything; the pickle has it as it is
        return
    folder.add_bytes(HISTORY, text.encode())


def _fill(folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
    import torch

    from modelstore.managers._torch.holders import fill_module

    net = request.into
    names = {f"{base.__module__}:{base.__qualname__}" for base in type(net).__mro__}
    if "skorch.net:NeuralNet" not in names:
        raise InvalidArgumentError("into", f"into= takes a skorch net, not a {class_name(net)}")
    if not state.get("weights"):
        raise InvalidArgumentError("into", "this net was uploaded before it was initialized: there are no weights")
    if not net.initialized_:
        net.initialize()
    with_weights = [name for name, module in _parts(net, torch.nn.Module).items() if module.state_dict()]
    if with_weights != [_MODULE]:
        raise InvalidArgumentError(
            "into", f"into= fills {_MODULE}, and this net has weights in {', '.join(with_weights) or 'no module'}"
        )
    fill_module(folder, state, request.policy, net.module_)
    if (folder / HISTORY).exists():
        net.history_ = type(net.history_)(_json(folder / HISTORY))
    if state.get("classes") is not None:
        try:
            net.classes_inferred_ = decode(state["classes"])
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError("the record", "state", f"the class labels cannot be read: {error!r}") from error
    return net


def _json(path: Path) -> Any:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise IntegrityError("the skorch net", path.name, f"it is not JSON: {error}") from error
    if not isinstance(found, list):
        raise IntegrityError("the skorch net", path.name, "it is not a list of epochs")
    return found
