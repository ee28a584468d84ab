"""Sentence Transformers, up and back: `python examples/frameworks/with_sentence_transformers.py [FOLDER]`.

Vectors of words, made from which words stand together, become an embedding model; it finds the answer that fits a
question, and after the load finds the same.
"""

from __future__ import annotations

import sys
from itertools import combinations

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, WordEmbeddings
from sentence_transformers.models.tokenizer import WhitespaceTokenizer

from modelstore import ModelStore

ANSWERS = [
    "you can return a parcel within thirty days",
    "a refund of the money takes five days",
    "our shop is open from nine to six",
    "the password is changed in the settings of your account",
]
QUESTIONS = ["how long does a refund take", "when is the shop open", "change my password"]


def vectors(words: list[str]) -> np.ndarray:
    """How often two words stand together, in few dimensions."""
    at = {word: number for number, word in enumerate(words)}
    together = np.eye(len(words))
    for sentence in ANSWERS:
        for first, second in combinations([word for word in sentence.split() if word in at], 2):
            together[at[first], at[second]] += 0.5
            together[at[second], at[first]] += 0.5
    return np.linalg.svd(together)[0][:, :16].astype("float32")


def main(folder: str = "models") -> None:
    words = sorted({word for sentence in ANSWERS for word in sentence.split()})
    tokenizer = WhitespaceTokenizer(words, stop_words=["a", "is", "the", "of", "in", "to"], do_lower_case=True)
    first = WordEmbeddings(tokenizer, vectors(words))
    model = SentenceTransformer(modules=[first, Pooling(16), Normalize()], device="cpu")

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("help-desk", model=model)

    loaded = store.load("help-desk", info.model_id, allow_pickle=False)
    if not all(np.array_equal(loaded.encode(texts), model.encode(texts)) for texts in (ANSWERS, QUESTIONS)):
        raise SystemExit("the loaded model predicts something else")
    best = loaded.similarity(loaded.encode(QUESTIONS), loaded.encode(ANSWERS)).argmax(1)
    for question, answer in zip(QUESTIONS, best.tolist(), strict=True):
        print(f"{question}? {ANSWERS[answer]}.")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
