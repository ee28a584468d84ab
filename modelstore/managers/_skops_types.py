"""The types that a skops file may hold and still count as safe, beyond those that skops trusts by itself.

How each was reviewed, in the sources of scikit-learn 1.7 to 1.9, XGBoost 3.2, LightGBM 4.7, CatBoost 1.2,
imbalanced-learn 0.14, scikit-survival 0.28, interpret 0.7, causalml 0.18, shap 0.51, numpy 2 and scipy 1.15 to 1.18.
A name in this list may stand anywhere in a file that somebody else made up, so for each it was read what happens when
skops

- creates an instance by `cls.__new__` and sets any state on it (`__setstate__`, else `__dict__`),
- calls it with any arguments (`ConstructorFromReduceNode` and the keys of a dict do that), or
- puts it where a model calls a function (a scorer, `FunctionTransformer`, `SelectKBest`).

None of these imports, evaluates, unpickles, starts or writes anything. Left out for that reason: whatever takes a
function by name or evaluates text (`scipy.stats` distributions run `exec` on their state, `functools.partial` calls
what it is given, `PyFuncDistance` calls Python), functions that open files, and `numpy.memmap`. A class may have a
method that writes a file or unpickles one (`save_model`, causalml's `load`): skops hands out no method that is not
in the list by its own name, and where a model calls a method that the file names, it gives it the user's data.

Safe is meant as "runs no code of the file", as everywhere in modelstore. It does not mean that compiled code checks
what it is given: a forged tree whose node or feature numbers are out of range can make `predict` crash or read memory
that is not its own, for which reason skops leaves trees to its user. Checking them here would promise more than it
keeps, since a tree, its forest and its data each hold a number of features of their own, and each may be forged.

Names are exact: no module, no prefix, no subclass. A name that an installed version lacks harms nobody.
"""

from __future__ import annotations

_DISTANCES = (
    "BrayCurtis Canberra Chebyshev Dice Euclidean Hamming Haversine Jaccard Kulsinski Mahalanobis Manhattan Matching "
    "Minkowski RogersTanimoto RussellRao SEuclidean SokalMichener SokalSneath"
)

_REVIEWED = {
    "builtins": "frozenset complex",
    "collections": "OrderedDict",
    "numpy": "dtype amax amin around clip max mean median min nan_to_num nanmax nanmean nanmedian nanmin prod round "
    "std sum var",
    "scipy._lib.array_api_compat.numpy._aliases": "asarray",
    "scipy.interpolate._bsplines": "BSpline _BSpline",
    "scipy.sparse._bsr": "bsr_matrix bsr_array",
    "scipy.sparse._coo": "coo_matrix coo_array",
    "scipy.sparse._csc": "csc_matrix csc_array",
    "scipy.sparse._csr": "csr_matrix csr_array",
    "scipy.sparse._dia": "dia_matrix dia_array",
    # Parts of fitted estimators that are no public estimators themselves.
    "sklearn._loss.loss": "HalfTweedieLoss HalfTweedieLossIdentity HalfBinomialLossArrayAPI "
    "HalfMultinomialLossArrayAPI HalfPoissonLossArrayAPI",
    "sklearn.calibration": "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
    "sklearn.cluster._bisect_k_means": "_BisectingTree",
    "sklearn.cluster._kmeans": "_kmeans_single_elkan _kmeans_single_lloyd",
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "sklearn.gaussian_process._gpc": "_BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels": "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Matern "
    "PairwiseKernel Product RBF RationalQuadratic Sum WhiteKernel",
    "sklearn.impute._iterative": "IterativeImputer _ImputerTriplet",
    "sklearn.metrics._dist_metrics": " ".join(
        f"{name}Distance{bits}" for name in _DISTANCES.split() for bits in (64, 32)
    ),
    "sklearn.multiclass": "_ConstantPredictor",
    "sklearn.neighbors._ball_tree": "BallTree BallTree32 BallTree64",
    "sklearn.neighbors._kd_tree": "KDTree KDTree32 KDTree64",
    "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
    "sklearn.tree._tree": "Tree",
    "sklearn.utils._bunch": "Bunch",
    "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
    # What searches and selectors hold: splitters, scorers and the functions that compute scores.
    "sklearn.feature_selection._mutual_info": "mutual_info_classif mutual_info_regression",
    "sklearn.feature_selection._univariate_selection": "chi2 f_classif f_oneway f_regression r_regression",
    "sklearn.metrics._classification": "accuracy_score balanced_accuracy_score brier_score_loss cohen_kappa_score "
    "d2_brier_score d2_log_loss_score f1_score fbeta_score hamming_loss hinge_loss jaccard_score log_loss "
    "matthews_corrcoef precision_score recall_score zero_one_loss",
    "sklearn.metrics._ranking": "average_precision_score dcg_score label_ranking_average_precision_score ndcg_score "
    "roc_auc_score top_k_accuracy_score",
    "sklearn.metrics._regression": "d2_absolute_error_score d2_pinball_score d2_tweedie_score explained_variance_score "
    "max_error mean_absolute_error mean_absolute_percentage_error mean_gamma_deviance mean_pinball_loss "
    "mean_poisson_deviance mean_squared_error mean_squared_log_error mean_tweedie_deviance median_absolute_error "
    "r2_score root_mean_squared_error root_mean_squared_log_error",
    "sklearn.metrics._scorer": "_CurveScorer _MultimetricScorer _PassthroughScorer _Scorer negative_likelihood_ratio "
    "positive_likelihood_ratio",
    "sklearn.metrics.cluster._supervised": "adjusted_mutual_info_score adjusted_rand_score completeness_score "
    "fowlkes_mallows_score homogeneity_score mutual_info_score normalized_mutual_info_score rand_score v_measure_score",
    "sklearn.model_selection._search_successive_halving": "HalvingGridSearchCV HalvingRandomSearchCV "
    "_SubsampleMetaSplitter",
    "sklearn.model_selection._split": "GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut LeavePGroupsOut "
    "LeavePOut PredefinedSplit RepeatedKFold RepeatedStratifiedKFold ShuffleSplit StratifiedGroupKFold StratifiedKFold "
    "StratifiedShuffleSplit TimeSeriesSplit _CVIterableWrapper",
    # Boosted models as steps of pipelines. Their state is the framework's own model, as bytes or as text, which
    # `__setstate__` hands to its parser: what a file says to be a handle is parsed, and never used as an address.
    "catboost.core": "CatBoost CatBoostClassifier CatBoostRanker CatBoostRegressor",
    "lightgbm.basic": "Booster",
    "lightgbm.sklearn": "LGBMClassifier LGBMModel LGBMRanker LGBMRegressor",
    "xgboost.core": "Booster",
    "xgboost.sklearn": "XGBClassifier XGBModel XGBRFClassifier XGBRFRegressor XGBRanker XGBRegressor",
    # What is built on scikit-learn, and sets no state but `__dict__`.
    "causalml.inference.iv.drivlearner": "BaseDRIVLearner BaseDRIVRegressor XGBDRIVRegressor",
    "causalml.inference.meta.drlearner": "BaseDRClassifier BaseDRLearner BaseDRRegressor XGBDRRegressor",
    "causalml.inference.meta.rlearner": "BaseRClassifier BaseRLearner BaseRRegressor XGBRClassifier XGBRRegressor",
    "causalml.inference.meta.slearner": "BaseSClassifier BaseSLearner BaseSRegressor",
    "causalml.inference.meta.tlearner": "BaseTClassifier BaseTLearner BaseTRegressor MLPTRegressor XGBTClassifier "
    "XGBTRegressor",
    "causalml.inference.meta.tmle": "TMLELearner",
    "causalml.inference.meta.xlearner": "BaseXClassifier BaseXLearner BaseXRegressor",
    "causalml.optimize.policylearner": "PolicyLearner",
    "causalml.propensity": "ElasticNetPropensityModel GradientBoostedPropensityModel LogisticRegressionPropensityModel",
    "imblearn.base": "FunctionSampler",
    "imblearn.combine._smote_enn": "SMOTEENN",
    "imblearn.combine._smote_tomek": "SMOTETomek",
    "imblearn.ensemble._bagging": "BalancedBaggingClassifier",
    "imblearn.ensemble._easy_ensemble": "EasyEnsembleClassifier",
    "imblearn.ensemble._forest": "BalancedRandomForestClassifier",
    "imblearn.ensemble._weight_boosting": "RUSBoostClassifier",
    "imblearn.metrics.pairwise": "ValueDifferenceMetric",
    "imblearn.over_sampling._adasyn": "ADASYN",
    "imblearn.over_sampling._random_over_sampler": "RandomOverSampler",
    "imblearn.over_sampling._smote.base": "SMOTE SMOTEN SMOTENC",
    "imblearn.over_sampling._smote.cluster": "KMeansSMOTE",
    "imblearn.over_sampling._smote.filter": "BorderlineSMOTE SVMSMOTE",
    "imblearn.pipeline": "Pipeline",
    "imblearn.under_sampling._prototype_generation._cluster_centroids": "ClusterCentroids",
    "imblearn.under_sampling._prototype_selection._condensed_nearest_neighbour": "CondensedNearestNeighbour",
    "imblearn.under_sampling._prototype_selection._edited_nearest_neighbours": "AllKNN EditedNearestNeighbours "
    "RepeatedEditedNearestNeighbours",
    "imblearn.under_sampling._prototype_selection._instance_hardness_threshold": "InstanceHardnessThreshold",
    "imblearn.under_sampling._prototype_selection._nearmiss": "NearMiss",
    "imblearn.under_sampling._prototype_selection._neighbourhood_cleaning_rule": "NeighbourhoodCleaningRule",
    "imblearn.under_sampling._prototype_selection._one_sided_selection": "OneSidedSelection",
    "imblearn.under_sampling._prototype_selection._random_under_sampler": "RandomUnderSampler",
    "imblearn.under_sampling._prototype_selection._tomek_links": "TomekLinks",
    "interpret.glassbox._ebm._ebm": "DPExplainableBoostingClassifier DPExplainableBoostingRegressor "
    "ExplainableBoostingClassifier ExplainableBoostingRegressor",
    "scipy.optimize._optimize": "OptimizeResult",
    # Explainers without the function `link`, which modelstore names by itself, and what they hold.
    "shap._explanation": "Explanation OpHistoryItem",
    "shap.explainers._linear": "LinearExplainer",
    "shap.explainers._tree": "IsoTree SingleTree TreeEnsemble TreeExplainer",
    "shap.explainers.other._coefficient": "Coefficient",
    "shap.explainers.other._random": "Random",
    "shap.maskers._tabular": "Impute Independent Partition",
    "slicer.slicer": "Slicer",
    "slicer.slicer_internal": "Alias AliasLookup Obj",
    "sksurv.ensemble.boosting": "ComponentwiseGradientBoostingSurvivalAnalysis GradientBoostingSurvivalAnalysis "
    "_ComponentwiseLeastSquares",
    "sksurv.ensemble.forest": "ExtraSurvivalTrees RandomSurvivalForest",
    "sksurv.ensemble.survival_loss": "CensoredSquaredLoss CoxPH IPCWLeastSquaresError",
    "sksurv.functions": "StepFunction",
    "sksurv.kernels.clinical": "ClinicalKernelTransform",
    "sksurv.linear_model.aft": "IPCRidge",
    "sksurv.linear_model.coxnet": "CoxnetSurvivalAnalysis",
    "sksurv.linear_model.coxph": "BreslowEstimator CoxPHSurvivalAnalysis",
    "sksurv.meta.ensemble_selection": "EnsembleAverage EnsembleSelection EnsembleSelectionRegressor MeanEstimator "
    "MeanRankEstimator",
    "sksurv.meta.stacking": "Stacking",
    "sksurv.metrics": "as_concordance_index_ipcw_scorer as_cumulative_dynamic_auc_scorer "
    "as_integrated_brier_score_scorer brier_score concordance_index_censored concordance_index_ipcw "
    "cumulative_dynamic_auc integrated_brier_score",
    "sksurv.nonparametric": "CensoringDistributionEstimator SurvivalFunctionEstimator",
    "sksurv.preprocessing": "OneHotEncoder",
    "sksurv.svm.minlip": "HingeLossSurvivalSVM MinlipSurvivalAnalysis",
    "sksurv.svm.naive_survival_svm": "NaiveSurvivalSVM",
    "sksurv.svm.survival_svm": "FastKernelSurvivalSVM FastSurvivalSVM",
    "sksurv.tree.tree": "ExtraSurvivalTree SurvivalTree",
}

SAFE_TYPES = frozenset(f"{module}.{name}" for module, names in _REVIEWED.items() for name in names.split())
"""Full names of classes and functions."""
