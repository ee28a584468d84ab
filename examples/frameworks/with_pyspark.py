"""Spark ML, up and back: `python examples/frameworks/with_pyspark.py [FOLDER]`.

A pipeline goes up as the folder that Spark itself writes. Loading it takes a Spark session, and no pickle.
"""

from __future__ import annotations

import sys

from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.feature import HashingTF, Tokenizer
from pyspark.sql import SparkSession

from modelstore import ModelStore

PRAISE = ["good", "fine", "lovely", "great"]
BLAME = ["bad", "poor", "awful", "broken"]
THINGS = ["phone", "book", "kettle", "lamp", "chair"]


def reviews() -> list[tuple[str, float]]:
    """Short texts with what they think of a thing."""
    return [
        (f"this {thing} is {word} and was {delivery}", label)
        for words, label in ((PRAISE, 1.0), (BLAME, 0.0))
        for word in words
        for thing in THINGS
        for delivery in ("late", "quick")
    ]


def main(folder: str = "models") -> None:
    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    train, test = spark.createDataFrame(reviews(), ["text", "label"]).randomSplit([0.7, 0.3], seed=1)
    words = Tokenizer(inputCol="text", outputCol="words")
    features = HashingTF(inputCol="words", outputCol="features", numFeatures=256)
    model = Pipeline(stages=[words, features, LogisticRegression(maxIter=10)]).fit(train)

    store = ModelStore.from_file_system(folder, create_directory=True)
    area = BinaryClassificationEvaluator().evaluate(model.transform(test))
    info = store.upload("reviews", model=model, metrics={"area under ROC": area})

    loaded = store.load("reviews", info.model_id, allow_pickle=False)
    if loaded.transform(test).collect() != model.transform(test).collect():
        raise SystemExit("the loaded model predicts something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:2])
