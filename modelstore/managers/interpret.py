"""InterpretML: explainable boosting machines, and its linear models and trees."""

from __future__ import annotations

from modelstore.managers.sklearn import SklearnManager


class InterpretManager(SklearnManager):
    """Stores explainable boosting machines with skops; the linear models and trees hold frames, and are pickled."""

    name = "interpret"
    title = "InterpretML"
    claims = (
        "interpret.glassbox._ebm._ebm:EBMModel",
        "interpret.glassbox._linear:BaseLinear",
        "interpret.glassbox._decisiontree:BaseShallowDecisionTree",
    )
    distributions = ("interpret-core", "interpret", "pandas", *SklearnManager.distributions)
    extra = "interpret"
    limits = (
        "DecisionListClassifier and the APLR models, which other packages implement, are not stored.",
        "Explanations and explainers of other models are not stored: make them again from the model.",
    )
