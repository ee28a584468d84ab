"""imbalanced-learn: samplers, ensembles that sample, and pipelines with samplers among their steps."""

from __future__ import annotations

from modelstore.managers.sklearn import SklearnManager


class ImblearnManager(SklearnManager):
    """Stores every estimator of imbalanced-learn as scikit-learn's are stored."""

    name = "imblearn"
    title = "imbalanced-learn"
    claims = (
        "imblearn.base:BaseSampler",
        "imblearn.pipeline:Pipeline",
        # Each is one of scikit-learn's ensembles; they have no class of imbalanced-learn's in common.
        "imblearn.ensemble._bagging:BalancedBaggingClassifier",
        "imblearn.ensemble._easy_ensemble:EasyEnsembleClassifier",
        "imblearn.ensemble._forest:BalancedRandomForestClassifier",
        "imblearn.ensemble._weight_boosting:RUSBoostClassifier",
        "imblearn.metrics.pairwise:ValueDifferenceMetric",
    )
    distributions = ("imbalanced-learn", "sklearn-compat", *SklearnManager.distributions)
    extra = "imblearn"
    limits = ("The batch generators for Keras and TensorFlow are no estimators, and are not stored.",)
