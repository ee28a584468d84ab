"""fastai: learners, with their model, optimizer, callbacks, recorder and transforms, and without their data.

This is what `learn.export()` keeps, and it is exported without touching the learner: the weights lie in
`model.safetensors`, and the rest in a pickle (fastai has no other form for transforms and callbacks).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelstore.exceptions import InvalidArgumentError
from modelstore.folder import ModelFolder
from modelstore.managers.base import SUBJECTS, LoadRequest, ObjectManager, Saved, class_name
from modelstore.notices import warn

_LIVE = {"lock"}
_BATCH = {"dl": None, "xb": (None,), "yb": (None,), "pred": None, "loss": None}
"""What a learner holds of the batch it worked on last, and what fastai itself sets it to when training ends."""
_RECORDED = ("lrs", "iters", "losses", "values")
"""The history of a training, which fastai's `Recorder` leaves out of its pickle."""


class FastaiManager(ObjectManager):
    """Stores `Learner` and all that derives from it."""

    name = "fastai"
    claims = ("fastai.learner:Learner",)
    keywords = (*SUBJECTS, "learner")
    load_options = ("into", "device")
    distributions = ("fastai", "fastcore", "fasttransform", "torch", "numpy", "pandas", "cloudpickle")
    extra = "fastai"
    limits = (
        "data are not stored: `learn.dls` comes back empty, with all transforms, as `learn.export()` has it; "
        "`learn.dls.test_dl(items)` and `learn.predict(item)` work, further training takes new `dls`",
        "`DataLoaders` of plain PyTorch loaders have no empty form, and are left out with a warning",
        "`into=learner` fills the model's weights alone, without a pickle",
    )

    def save_object(self, obj: Any, folder: ModelFolder, options: Mapping[str, Any]) -> Saved:
        """Write the weights and the rest; the learner stays as it is.

        Raises:
            UnsupportedObjectError: something that it holds cannot be pickled.
        """
        import torch

        from modelstore.managers._torch.holders import save_holder

        attributes = {name: value for name, value in vars(obj).items() if name not in _LIVE}
        attributes.update({name: value for name, value in _BATCH.items() if name in attributes})
        attributes["dls"] = _without_data(obj.dls)
        recorded = vars(attributes["recorder"]) if "recorder" in attributes else {}
        history = {name: recorded[name] for name in _RECORDED if name in recorded}
        content = {"attributes": attributes, "history": history}
        wrapped = getattr(obj.opt, "opt", None)
        optimizers = [wrapped] if isinstance(wrapped, torch.optim.Optimizer) else []
        return save_holder(obj, content, obj.model, optimizers, folder)

    def load_object(self, folder: Path, state: Mapping[str, Any], request: LoadRequest) -> Any:
        """Build the learner, or fill the one that the caller has built.

        Raises:
            PickleNotAllowedError: the policy refuses; `into` takes no pickle.
            InvalidArgumentError: the device is not there, or `into` is no learner or does not fit.
        """
        from modelstore.managers._torch.devices import asked_device, is_available
        from modelstore.managers._torch.holders import fill_module, load_holder

        device = asked_device(request)
        if request.into is not None:
            if "fastai.learner:Learner" not in {f"{c.__module__}:{c.__qualname__}" for c in type(request.into).__mro__}:
                raise InvalidArgumentError("into", f"into= takes a Learner, not a {class_name(request.into)}")
            fill_module(folder, state, request.policy, request.into.model)
            return request.into
        learner, content = load_holder(folder, state, request.policy, device)
        learner.__setstate__(content["attributes"])
        if content["history"]:
            vars(learner.recorder).update(content["history"])
        dls = learner.dls
        recorded = getattr(dls, "device", None)
        if dls is not None and (device is not None or (recorded is not None and not is_available(str(recorded)))):
            import torch

            dls.device = torch.device(device or "cpu")
        return learner

    def object_parameters(self, obj: Any) -> dict[str, Any]:
        """The learner's settings, numbers of parameters, and the last row of the recorder."""
        from modelstore.managers._torch.summary import describe_object

        described: dict[str, Any] = describe_object(obj.model)
        for name in ("lr", "wd", "wd_bn_bias", "train_bn", "moms"):
            described[name] = getattr(obj, name, None)
        for name in ("loss_func", "opt_func"):
            value = getattr(obj, name, None)
            described[name] = getattr(value, "__qualname__", None) or str(value)
        described["metrics"] = [str(metric.name) for metric in obj.metrics]
        described["callbacks"] = [class_name(callback) for callback in obj.cbs]
        return described


def _without_data(dls: Any) -> Any:
    if dls is None:
        return None
    random_state = random.getstate()
    try:
        return dls.new_empty()
    except Exception as error:  # loaders of the user's raise whatever they like
        warn(
            f"the learner's dls are left out: they have no form without data ({type(error).__name__}: {error}); set "
            "learn.dls before you predict with what is loaded"
        )
        return None
    finally:
        random.setstate(random_state)  # each new loader takes a number
