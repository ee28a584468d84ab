"""A week of 25 models: `python examples/a_week.py [FOLDER]`.

Somebody looks for a model that finds rare malignant tumours among many benign ones, in scikit-learn's breast cancer
data, thinned out so that one in thirteen is malignant. Every attempt goes into the store with a note; what to do next,
what worked and what was decided is written beside it. At the end, the journal tells the week.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.svm import SVC

from modelstore import ModelStore

DOMAIN = "tumours"


def data() -> tuple[Any, Any, Any, Any]:
    """Rows and labels to train and to test with; 1 is malignant, and rare."""
    found = load_breast_cancer()
    malignant = found.target == 0
    rare = np.flatnonzero(malignant)[:30]
    rows = np.sort(np.concatenate([np.flatnonzero(~malignant), rare]))
    X, y = found.data[rows], malignant[rows].astype(int)
    return train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)


class Week:
    """Trains, measures and stores; and keeps the ids of what was stored."""

    def __init__(self, store: ModelStore) -> None:
        self.store = store
        self.X, self.X_test, self.y, self.y_test = data()
        self.count = 0

    def try_out(self, name: str, model: Any, note: str, parent: str | None = None, rows: Any = None) -> str:
        """Fit a model, measure it and store it."""
        X, y = (self.X, self.y) if rows is None else (self.X[rows], self.y[rows])
        model.fit(X, y)
        scores = model.predict_proba(self.X_test)[:, 1]
        alarms = scores >= np.quantile(scores, 0.9)  # the doctors can look at one case in ten
        self.count += 1
        info = self.store.upload(
            DOMAIN,
            f"{self.count:02d}-{name}",
            model=model,
            metrics={
                "average precision": round(float(average_precision_score(self.y_test, scores)), 4),
                "recall at 10 %": round(float(alarms[self.y_test == 1].mean()), 4),
                "brier": round(float(brier_score_loss(self.y_test, scores)), 4),
            },
            tags={"family": name.partition("-")[0]},
            note=note,
            parent=parent,
            X_train=X,
            y_train=y,
        )
        return str(info.model_id)

    def note(self, text: str, kind: str, **further: Any) -> int:
        """Write into the journal."""
        return self.store.note(DOMAIN, text, kind=kind, **further)

    def twice(self, times: int) -> Any:
        """Rows of the training data, the malignant ones several times."""
        return np.concatenate([np.arange(len(self.y)), np.repeat(np.flatnonzero(self.y == 1), times - 1)])


def scaled(model: Any) -> Any:
    """Behind a scaler."""
    return make_pipeline(StandardScaler(), model)


def linear(C: float = 1.0, **settings: Any) -> Any:
    """A scaled logistic regression."""
    return scaled(LogisticRegression(C=C, max_iter=2000, **settings))


def monday(week: Week) -> None:
    """Baselines."""
    week.store.create_model_state("staging")
    week.store.create_model_state("production", exclusive=True, requires=["staging"])
    base = week.try_out("linear", linear(), "The baseline: scaled logistic regression, as it comes.")
    week.try_out("bayes", GaussianNB(), "Naive Bayes, for comparison: quick, and sure of itself.")
    week.try_out("neighbours", scaled(KNeighborsClassifier(5)), "Five neighbours.")
    week.try_out("forest", RandomForestClassifier(200, random_state=0), "A random forest, as it comes.")
    week.note("Rare cases: try class weights and oversampling before anything fancy", "next")
    week.note("Are the probabilities any good? Calibrate once a model is chosen", "next")
    week.store.set_model_state(DOMAIN, base, "staging", reason="something to compare with")
    week.store.set_model_state(DOMAIN, base, "production", reason="better than no model")


def tuesday(week: Week) -> None:
    """The rare class."""
    week.try_out("linear-weights", linear(class_weight="balanced"), "Balanced class weights.", parent="01-linear")
    week.try_out("linear-more", linear(), "Malignant rows five times.", parent="01-linear", rows=week.twice(5))
    week.try_out("linear-most", linear(), "Malignant rows twelve times.", parent="01-linear", rows=week.twice(12))
    forest = RandomForestClassifier(200, class_weight="balanced", random_state=0)
    week.try_out("forest-weights", forest, "The forest with balanced weights.", parent="04-forest")
    todo = week.store.journal(DOMAIN, kind="next", open=True)[0].id
    week.note("Weights and oversampling move the ranking little, and cost Brier score", "tried", answers=todo)
    week.note("Less regularisation, or more? The features are strongly correlated", "idea")


def wednesday(week: Week) -> None:
    """Regularisation and features."""
    for C in (0.01, 0.1, 10.0):
        week.try_out(f"linear-C{C:g}", linear(C), f"Regularisation C={C:g}.", parent="01-linear")
    sparse = linear(0.5, l1_ratio=1.0, solver="saga")
    week.try_out("linear-sparse", sparse, "An L1 penalty: fewer features.", parent="01-linear")
    few = make_pipeline(StandardScaler(), SelectKBest(k=10), LogisticRegression(max_iter=2000))
    week.try_out("linear-best10", few, "Only the ten best features.", parent="01-linear")
    turned = make_pipeline(StandardScaler(), PCA(8), LogisticRegression(max_iter=2000))
    week.try_out("linear-pca8", turned, "Eight principal components in place of 30 features.", parent="01-linear")
    quantiles = QuantileTransformer(n_quantiles=100, output_distribution="normal")
    normal = make_pipeline(quantiles, LogisticRegression(max_iter=2000))
    week.try_out("linear-quantiles", normal, "Quantiles in place of a scaler: skewed features.", parent="01-linear")


def thursday(week: Week) -> None:
    """Trees and kernels."""
    week.try_out("extra", ExtraTreesClassifier(300, random_state=0), "Extremely randomised trees.", parent="04-forest")
    week.try_out("boosting", GradientBoostingClassifier(random_state=0), "Gradient boosting, as it comes.")
    hist = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    week.try_out("boosting-hist", hist, "Histogram boosting: too few rows for it?", parent="17-boosting")
    slow = GradientBoostingClassifier(learning_rate=0.02, n_estimators=300, max_depth=2, subsample=0.7, random_state=0)
    week.try_out("boosting-slow", slow, "Slower, with shallow trees and subsamples.", parent="17-boosting")
    kernel = CalibratedClassifierCV(scaled(SVC(random_state=0)), ensemble=False, cv=3)
    week.try_out("kernel", kernel, "A support vector machine with an RBF kernel.")
    week.note("Boosting needs more malignant rows than we have; trees agree with the linear models", "failed")
    best = week.store.leaderboard(DOMAIN, "average precision", limit=1).ids[0]
    week.store.set_model_state(DOMAIN, best, "staging", reason="the best average precision so far")
    week.store.set_model_state(DOMAIN, best, "production", reason="the best average precision so far")


def friday(week: Week) -> None:
    """Combinations, calibration, a decision."""
    pair = [("linear", linear(0.1)), ("extra", ExtraTreesClassifier(300, random_state=0))]
    vote = week.try_out("vote", VotingClassifier(pair, voting="soft"), "Linear and extra trees, averaged.")
    stack = StackingClassifier(pair, LogisticRegression(), cv=3)
    week.try_out("stack", stack, "The same, stacked.", parent="21-vote")
    todo = next(entry.id for entry in week.store.journal(DOMAIN, kind="next", open=True))
    sigmoid = CalibratedClassifierCV(linear(0.1), method="sigmoid", cv=3)
    week.try_out("calibrated", sigmoid, "The linear model, calibrated with a sigmoid.", parent="10-linear-C0.1")
    isotonic = CalibratedClassifierCV(linear(0.1), method="isotonic", cv=3)
    week.try_out("calibrated-iso", isotonic, "The same with isotonic regression.", parent="23-calibrated")
    both = CalibratedClassifierCV(VotingClassifier(pair, voting="soft"), method="sigmoid", cv=3)
    week.try_out("calibrated-vote", both, "The vote, calibrated.", parent="21-vote")
    week.note(
        "Calibration makes the probabilities worse: too few malignant rows to learn it from", "failed", answers=todo
    )
    week.store.set_model_state(DOMAIN, vote, "staging", reason="finds as many, and two kinds of models agree")
    week.store.set_model_state(DOMAIN, vote, "production", reason="finds as many, and two kinds of models agree")
    week.store.rollback(DOMAIN, "production", reason="300 trees answer too slowly for the clinic")
    week.note("Keep the simple one until somebody complains about its probabilities", "decision")
    week.note("Ask the clinic for more malignant cases", "next")


def run(store: ModelStore, next_day: Callable[[], None] = lambda: None) -> None:
    """The week."""
    week = Week(store)
    for day in (monday, tuesday, wednesday, thursday, friday):
        day(week)
        next_day()


def main(folder: str = "models") -> None:
    store = ModelStore.from_file_system(folder, create_directory=True)
    run(store)
    print(store.journal(DOMAIN))
    print("the best three:")
    for record in store.leaderboard(DOMAIN, "average precision", limit=3):
        print(f"  {record.model_id:24} {record.metrics['average precision']}")
    (production,) = store.list_models(DOMAIN, "production")
    print(f"in production: {production}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
