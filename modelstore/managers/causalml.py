"""CausalML: meta-learners, causal and uplift trees, instrumental variables, propensity models."""

from __future__ import annotations

from modelstore.managers.sklearn import SklearnManager


class CausalMLManager(SklearnManager):
    """Stores meta-learners with skops as far as their inner models allow; trees and forests are pickled."""

    name = "causalml"
    title = "CausalML"
    # Not the mixin SerializableLearner: in the forests it stands beside scikit-learn's base and not below.
    claims = (
        "causalml.features:LabelEncoder",
        "causalml.features:OneHotEncoder",
        "causalml.inference.iv.drivlearner:BaseDRIVLearner",
        "causalml.inference.iv.iv_regression:IVRegressor",
        "causalml.inference.meta.base:BaseLearner",
        "causalml.inference.meta.slearner:StatsmodelsOLS",
        "causalml.inference.meta.tmle:TMLELearner",
        "causalml.inference.tree._tree._classes:BaseDecisionTree",
        "causalml.inference.tree._uplift.upliftforest:_KernelUpliftRandomForestClassifier",
        "causalml.inference.tree.causal._tree:BaseCausalDecisionTree",
        "causalml.inference.tree.causal.causalforest:CausalRandomForestRegressor",
        # Before version 0.17 the uplift trees were compiled classes of their own.
        "causalml.inference.tree.uplift:UpliftRandomForestClassifier",
        "causalml.inference.tree.uplift:UpliftTreeClassifier",
        "causalml.match:NearestNeighborMatch",
        "causalml.optimize.policylearner:PolicyLearner",
        "causalml.optimize.unit_selection:CounterfactualUnitSelector",
        "causalml.propensity:PropensityModel",
    )
    distributions = (
        "causalml",
        "forestci",
        "lightgbm",
        "pandas",
        "pathos",
        "shap",
        "statsmodels",
        "xgboost",
        "xgboost-cpu",
        *SklearnManager.distributions,
    )
    extra = "causalml"
    limits = (
        "DragonNet and CEVAE, built on TensorFlow, PyTorch or JAX, are not stored: upload the networks in them.",
        "What is made of one data set and not applied to another (sensitivity analyses, matching searches, value "
        "estimators) is not stored.",
    )
