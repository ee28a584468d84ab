"""What all managers of modelstore claim together, tried without any framework: by classes that only have the names."""

from __future__ import annotations

import functools
import gc
import json
import re
import statistics
import subprocess
import sys
import time
import types
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from modelstore.managers.base import SUBJECTS, Manager
from modelstore.managers.detection import BUILTIN, Managers, _load

MANAGERS = {path: _load(path) for path in BUILTIN}
BY_NAME = {manager.name: manager for manager in MANAGERS.values()}
CLAIMS = [(manager.name, claim) for manager in MANAGERS.values() for claim in manager.claims]
WRAPPERS = [(manager.name, claim) for manager in MANAGERS.values() for claim in manager.wrappers]
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

CORE = {"modelstore", "cloudpickle", "platformdirs", "tqdm", "zstandard"}


@functools.cache
def all_of_ours() -> Managers:
    """The managers of BUILTIN alone: what else is installed here does not matter."""
    return Managers(MANAGERS.values())


def fake(name: str, *bases: type) -> type:
    """A class that says it is `module:qualname`."""
    module, _, qualname = name.partition(":")
    names = {"__module__": module, "__qualname__": qualname}
    return types.new_class(qualname.rpartition(".")[2], bases, {}, lambda body: body.update(names))


def chain(*names: str) -> type:
    """The class of the first name, which derives from that of the second, and so on."""
    cls: type = object
    for name in reversed(names):
        cls = fake(name, cls)
    return cls


def found(cls: type) -> str | None:
    """The name of the manager that gets an object of this class."""
    manager = all_of_ours().find(cls())
    return manager.name if manager else None


def test_all_managers_go_together() -> None:
    """No two have one name, or claim one class or wrapper; each claim is a module and a name in it."""
    managers = all_of_ours()
    assert len(managers.by_name) == len(BUILTIN)
    counted = Counter(claim for _, claim in [*CLAIMS, *WRAPPERS])
    assert {claim: count for claim, count in counted.items() if count > 1} == {}
    assert all(re.fullmatch(r"[\w.]+:[\w.]+", claim) for claim in counted)
    assert all(path.partition(":")[0].rpartition(".")[2].isidentifier() for path in BUILTIN)


@pytest.mark.parametrize(("name", "claim"), CLAIMS)
def test_a_claimed_class_leads_to_its_manager(name: str, claim: str) -> None:
    """An object of a claimed class, or of one that derives from it, is the claimant's, and nobody else's."""
    cls = fake(claim)
    assert found(cls) == name
    assert found(fake("__main__:Mine", cls)) == name
    assert found(fake("__main__:Mixed", fake("somebody.else:Mixin"), cls)) == name


@pytest.mark.parametrize(("name", "claim"), WRAPPERS)
def test_a_wrapper_is_taken_off(name: str, claim: str) -> None:
    """What a declared wrapper holds is what is stored, and the wrapper's name is known."""
    inner, wrapper = fake("__main__:Inner")(), fake(claim)()
    setattr(wrapper, BY_NAME[name].wrappers[claim], inner)
    assert all_of_ours().unwrap(wrapper) == (inner, [claim.rpartition(":")[2]])


SKLEARN = "sklearn.base:BaseEstimator"
MODULE = "torch.nn.modules.module:Module"
KERAS_TORCH = ("keras.src.models.model:Model", "keras.src.backend.torch.trainer:TorchTrainer")

FAMILIES: dict[tuple[str, ...], str] = {
    ("xgboost.sklearn:XGBClassifier", "xgboost.sklearn:XGBModel", SKLEARN): "xgboost",
    ("lightgbm.sklearn:LGBMRanker", "lightgbm.sklearn:LGBMModel", SKLEARN): "lightgbm",
    ("catboost.core:CatBoostClassifier", "catboost.core:CatBoost", "catboost.core:_CatBoostBase"): "catboost",
    ("skorch.classifier:NeuralNetClassifier", "skorch.net:NeuralNet", SKLEARN): "skorch",
    ("imblearn.pipeline:Pipeline", "sklearn.pipeline:Pipeline", SKLEARN): "imblearn",
    ("imblearn.over_sampling._smote.base:SMOTE", "imblearn.base:BaseSampler", SKLEARN): "imblearn",
    ("interpret.glassbox._ebm._ebm:ExplainableBoostingClassifier", "interpret.glassbox._ebm._ebm:EBMModel", SKLEARN):
        "interpret",
    ("sklearn.pipeline:Pipeline", "sklearn.utils.metaestimators:_BaseComposition", SKLEARN): "sklearn",
    ("sklearn.svm._classes:SVC", "sklearn.svm._base:BaseSVC", SKLEARN): "sklearn",
    ("causalml.inference.meta.tlearner:BaseTRegressor", "causalml.inference.meta.tlearner:BaseTLearner",
     "causalml.inference.meta.base:BaseLearner", "causalml.inference.serialization:SerializableLearner"): "causalml",
    ("pmdarima.arima.arima:ARIMA", "pmdarima.base:BaseARIMA", SKLEARN): "pmdarima",
    ("sktime.forecasting.naive:NaiveForecaster", "sktime.base._base:BaseEstimator", "sktime.base._base:BaseObject",
     "skbase.base._base:BaseObject"): "sktime",
    ("sktime.classification.ensemble._ctsf:ComposableTimeSeriesForestClassifier",
     "sktime.base._panel.forest._composable:BaseTimeSeriesForest", "sklearn.ensemble._forest:BaseForest", SKLEARN,
     "sktime.base._base:BaseObject"): "sktime",
    ("river.compat.sklearn_to_river:SKL2RiverClassifier", "river.base.classifier:Classifier",
     "river.base.base:Base"): "river",
    ("river.compat.river_to_sklearn:River2SKLClassifier", SKLEARN): "sklearn",
    ("statsforecast.core:StatsForecast", "statsforecast.core:_StatsForecast"): "statsforecast",
    ("statsforecast.adapters.prophet:AutoARIMAProphet", "prophet.forecaster:Prophet"): "statsforecast",
    ("spacy.lang.en:English", "spacy.language:Language"): "spacy",
    ("torchvision.models.resnet:ResNet", MODULE): "pytorch",
    ("torch.jit._script:RecursiveScriptModule", "torch.jit._script:ScriptModule", MODULE): "torchscript",
    ("__main__:Net", "lightning.pytorch.core.module:LightningModule", MODULE): "pytorch_lightning",
    ("__main__:Net", "pytorch_lightning.core.module:LightningModule", MODULE): "pytorch_lightning",
    ("transformers.models.bert.modeling_bert:BertModel", "transformers.modeling_utils:PreTrainedModel", MODULE):
        "transformers",
    ("sentence_transformers.sentence_transformer.model:SentenceTransformer",
     "sentence_transformers.base.model:BaseModel", "torch.nn.modules.container:Sequential", MODULE):
        "sentence_transformers",
    ("sentence_transformers.SentenceTransformer:SentenceTransformer", "torch.nn.modules.container:Sequential", MODULE):
        "sentence_transformers",
    ("peft.peft_model:PeftModelForCausalLM", "peft.peft_model:PeftModel", MODULE): "peft",
    ("diffusers.models.unets.unet_2d:UNet2DModel", "diffusers.models.modeling_utils:ModelMixin", MODULE): "diffusers",
    ("keras.src.models.sequential:Sequential", *KERAS_TORCH, "keras.src.layers.layer:Layer",
     "keras.src.backend.torch.layer:TorchLayer", MODULE): "tensorflow",
    ("keras.src.layers.core.dense:Dense", "keras.src.layers.layer:Layer", "keras.src.backend.torch.layer:TorchLayer",
     MODULE): "tensorflow",
    ("keras.src.layers.core.dense:Dense", "keras.src.layers.layer:Layer",
     "keras.src.backend.tensorflow.layer:TFLayer", "tensorflow.python.module.module:Module"): "tensorflow",
    ("keras.src.models.sequential:Sequential", "keras.src.models.model:Model", "keras.src.layers.layer:Layer",
     "keras.src.backend.jax.layer:JaxLayer", "flax.nnx.module:Module", "flax.nnx.pytreelib:Pytree"): "tensorflow",
    ("flax.linen.linear:Dense", "flax.linen.module:Module"): "flax",
    ("paddle.nn.layer.common:Linear", "paddle.nn.layer.layers:Layer"): "paddle",
    ("pyspark.ml.classification:LogisticRegressionModel", "pyspark.ml.util:MLWritable", "pyspark.ml.param:Params"):
        "pyspark",
    ("h2o.estimators.gbm:H2OGradientBoostingEstimator", "h2o.estimators.estimator_base:H2OEstimator",
     "h2o.model.model_base:ModelBase"): "h2o",
    ("gensim.models.word2vec:Word2Vec", "gensim.utils:SaveLoad"): "gensim",
    ("shap.explainers._tree:TreeExplainer", "shap.explainers._explainer:Explainer"): "shap",
    ("statsmodels.regression.linear_model:RegressionResultsWrapper", "statsmodels.base.wrapper:ResultsWrapper"):
        "statsmodels",
    ("onnx.onnx_ml_pb2:ModelProto", "google._upb._message:Message"): "onnx",
}  # fmt: skip
"""Classes as they are in the libraries, with those of their parents that matter, in the order of the MRO; and whose
their objects are."""


@pytest.mark.parametrize("names", FAMILIES, ids=lambda names: names[0].rpartition(":")[2])
def test_real_families_lead_to_the_right_manager(names: tuple[str, ...]) -> None:
    """The most derived claimed class decides, though other managers claim classes further up."""
    wanted = FAMILIES[names]
    if wanted not in BY_NAME:
        # Not among the managers of this version: then nobody else may take it for their own in silence.
        assert found(chain(*names)) in (None, "sklearn", "pytorch", "prophet")
        return
    assert found(chain(*names)) == wanted
    assert found(chain("__main__:Mine", *names)) == wanted


def test_every_family_has_a_manager() -> None:
    """The table of families names managers that there are, and most of those that claim something."""
    claimants = {name for name, _ in CLAIMS}
    assert {wanted for wanted in FAMILIES.values() if wanted not in BY_NAME} <= {"pmdarima", "causalml"}
    assert len(claimants & set(FAMILIES.values())) > len(claimants) / 2


def test_keywords_and_options_do_not_collide() -> None:
    """No option of one manager is a keyword for objects of another: it would be taken from it in silence."""
    objects = {word: name for name, manager in BY_NAME.items() for word in manager.keywords}
    clashes = [
        (name, option, objects[option])
        for name, manager in BY_NAME.items()
        for option in manager.options
        if option in objects
    ]
    assert clashes == []
    words = {*objects, *(option for manager in BY_NAME.values() for option in manager.options)}
    assert all(word.isidentifier() and word == word.lower() for word in words)


def test_no_keyword_is_an_argument_of_upload() -> None:
    """A manager's keyword that `upload` has as an argument of its own would never reach the manager."""
    import inspect

    from modelstore import ModelStore

    own = set(inspect.signature(ModelStore.upload).parameters) - {"objects"}
    words = {word for manager in BY_NAME.values() for word in (*manager.keywords, *manager.options)}
    assert words & own == set()
    assert set(SUBJECTS) <= words


def extras() -> dict[str, str]:
    """The extras of pyproject.toml, each as its line; `tomllib` is not in Python 3.10."""
    section = PYPROJECT.read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    return {line.partition(" = ")[0]: line for line in section.splitlines() if " = [" in line}


@pytest.mark.parametrize("manager", MANAGERS.values(), ids=lambda manager: manager.name)
def test_a_manager_says_what_the_pages_need(manager: Manager) -> None:
    """Title, what is restored, exactness and limits are short English; the extra exists and installs the framework."""
    assert re.fullmatch(r"[a-z][a-z0-9_]*", manager.name)
    for text in (manager.restores_as, manager.exactness, *manager.limits):
        assert 3 < len(text) < 600, text
        assert text == text.strip(), text
    assert isinstance(manager.limits, tuple)
    assert set(manager.load_options) <= {"into", "with_optimizer", "device"}
    assert len(set(manager.distributions)) == len(manager.distributions)
    assert type(manager).__doc__
    if manager.extra is None:
        assert manager.name in ("model_file", "python")
        return
    line = extras()[manager.extra]
    named = {re.split(r"[<>=\[;]", each)[0] for each in re.findall(r'"([^"]+)"', line)}
    through = {each for group in re.findall(r"modelstore\[([^\]]+)\]", line) for each in group.split(",")}
    named |= {re.split(r"[<>=\[;]", each)[0] for more in through for each in re.findall(r'"([^"]+)"', extras()[more])}
    assert manager.distributions[0] in named, f"{manager.extra} installs {sorted(named)}"


def per_call(call: Any, times: int) -> float:
    """Seconds of the quickest of several medians: what the call takes when nothing else disturbs."""
    medians = []
    gc.disable()
    try:
        for _ in range(7):
            taken = []
            for _ in range(times):
                start = time.perf_counter()
                call()
                taken.append(time.perf_counter() - start)
            medians.append(statistics.median(taken))
    finally:
        gc.enable()
    return min(medians)


def test_detection_is_quick() -> None:
    """Whose an object of a known class is takes under 50 µs, of a class never seen before under 1 ms."""
    managers = Managers(MANAGERS.values())
    deep = chain(*(f"__main__:Level{level}" for level in range(20)), "xgboost.sklearn:XGBModel", SKLEARN)
    obj, unclaimed = deep(), chain(*(f"__main__:Other{level}" for level in range(20)))()
    assert per_call(lambda: (managers.unwrap(obj), managers.find(obj)), 500) < 50e-6
    assert per_call(lambda: (managers.unwrap(unclaimed), managers.find(unclaimed)), 500) < 200e-6
    fresh = iter([fake(f"__main__:Fresh{number}", deep)() for number in range(7 * 40)])
    assert per_call(lambda: managers.find(next(fresh)), 40) < 1e-3


def test_importing_all_managers_imports_no_framework() -> None:
    """A new process that has made all managers and asked about objects has imported nothing but the core."""
    code = (
        "import json, sys\n"
        "before = set(sys.modules)\n"
        "from modelstore.managers.detection import BUILTIN, Managers, _load\n"
        "managers = Managers(map(_load, BUILTIN))\n"
        "for obj in ({'a': 1}, [1], 'text', 1.5, object(), len, (lambda: 0), b'x', None):\n"
        "    managers.find(obj)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))\n"
    )
    path = [entry for entry in sys.path if entry]
    # -S: no hook of an installed package may import something in our name.
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout)) - set(sys.stdlib_module_names)
    assert imported <= CORE, sorted(imported - CORE)
