"""scikit-survival: survival analysis on top of scikit-learn."""

from __future__ import annotations

from modelstore.managers.sklearn import SklearnManager


class SksurvManager(SklearnManager):
    """Stores every estimator of scikit-survival as scikit-learn's are stored."""

    name = "sksurv"
    title = "scikit-survival"
    # By name: the one class that most of them share, SurvivalAnalysisMixin, stands beside BaseEstimator and not below.
    claims = (
        "sksurv.ensemble.boosting:ComponentwiseGradientBoostingSurvivalAnalysis",
        "sksurv.ensemble.boosting:GradientBoostingSurvivalAnalysis",
        "sksurv.ensemble.forest:_BaseSurvivalForest",
        "sksurv.kernels.clinical:ClinicalKernelTransform",
        "sksurv.linear_model.aft:IPCRidge",
        "sksurv.linear_model.coxnet:CoxnetSurvivalAnalysis",
        "sksurv.linear_model.coxph:CoxPHSurvivalAnalysis",
        "sksurv.meta.ensemble_selection:EnsembleAverage",
        "sksurv.meta.ensemble_selection:MeanEstimator",
        "sksurv.meta.ensemble_selection:MeanRankEstimator",
        "sksurv.meta.stacking:Stacking",
        "sksurv.metrics:as_concordance_index_ipcw_scorer",
        "sksurv.metrics:as_cumulative_dynamic_auc_scorer",
        "sksurv.metrics:as_integrated_brier_score_scorer",
        "sksurv.nonparametric:SurvivalFunctionEstimator",
        "sksurv.preprocessing:OneHotEncoder",
        "sksurv.svm.minlip:MinlipSurvivalAnalysis",
        "sksurv.svm.naive_survival_svm:NaiveSurvivalSVM",
        "sksurv.svm.survival_svm:BaseSurvivalSVM",
        "sksurv.tree.tree:SurvivalTree",
    )
    distributions = (
        "scikit-survival",
        "ecos",
        "narwhals",
        "numexpr",
        "osqp",
        "pandas",
        *SklearnManager.distributions,
    )
    extra = "sksurv"
    limits = (
        "OneHotEncoder and ClinicalKernelTransform remember the library of the frame that they were fitted on, and a "
        "fitted EnsembleSelection a function: they are pickled.",
    )
