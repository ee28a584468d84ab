"""gensim: every model comes back with the state that its training goes on from, nearly all without a pickle."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gensim")

import numpy as np
import scipy.sparse
from gensim import corpora, models, similarities
from gensim.models import keyedvectors, poincare, translation_matrix
from gensim.models.doc2vec import TaggedDocument
from gensim.utils import ClippedCorpus, SaveLoad

from modelstore import ModelStore
from modelstore.contracts.manager import Case
from modelstore.exceptions import IntegrityError, UnsupportedObjectError
from modelstore.managers._gensim.tree import FUNCTIONS, PLAIN, TREE
from modelstore.managers.classes import import_object
from modelstore.managers.gensim import GensimManager
from tests.managers.contract import BuiltinContract
from tests.managers.helpers import from_a_notebook, get, put

logging.getLogger("gensim").setLevel(logging.ERROR)

TEXTS = [
    *(["human", "interface", "computer"], ["survey", "user", "computer", "system", "response", "time"]),
    *(["eps", "user", "interface", "system"], ["system", "human", "system", "eps"], ["user", "response", "time"]),
    *(["trees"], ["graph", "trees"], ["graph", "minors", "trees"], ["graph", "minors", "survey"]),
] * 3
WORDS = {"vector_size": 8, "min_count": 1, "workers": 1, "epochs": 2, "seed": 1}


@functools.cache
def dictionary() -> Any:
    """The words of all texts."""
    return corpora.Dictionary(TEXTS)


@functools.cache
def bags() -> Any:
    """The texts as bags of words."""
    return [dictionary().doc2bow(text) for text in TEXTS]


class Own(models.Word2Vec):  # type: ignore[misc]
    """A user's class in an importable module."""


class OwnCorpus:
    """A user's corpus."""

    def __iter__(self) -> Iterator[Any]:
        yield from bags()

    def __len__(self) -> int:
        return len(bags())


def plain(value: Any, seen: tuple[int, ...] = ()) -> Any:
    """All that an object holds, to types and bits, whatever it is; what `probe` of every case looks at."""
    if isinstance(value, np.ndarray):
        array = [value.dtype.str, value.shape, value.flags.f_contiguous]
        return [*array, value.tobytes() if value.dtype.kind != "O" else [plain(each, seen) for each in value.flat]]
    if isinstance(value, (str, bytes, int, float, type(None), np.generic)):
        return [type(value).__name__, repr(value)]
    if id(value) in seen:
        return "above"
    seen = (*seen, id(value))
    if isinstance(value, np.random.RandomState):
        return plain(value.get_state(legacy=False), seen)
    if scipy.sparse.issparse(value):
        return [type(value).__name__, value.shape, plain([value.data, value.indices, value.indptr], seen)]
    if isinstance(value, (set, frozenset)):
        return [type(value).__name__, sorted(map(repr, value))]
    if isinstance(value, dict):
        return [type(value).__name__, [plain(item, seen) for item in value.items()]]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [plain(item, seen) for item in value]]
    if hasattr(value, "__dict__") and not isinstance(value, type) and type(value).__name__ != "function":
        return [type(value).__name__, {name: plain(item, seen) for name, item in sorted(vars(value).items())}]
    return [type(value).__name__, getattr(value, "__qualname__", type(value).__qualname__)]


def words(model: Any) -> Any:
    """Neighbours and vectors of an embedding, and what training goes on to make of it."""
    keys = model if isinstance(model, keyedvectors.KeyedVectors) else model.wv
    seen = [plain(model), keys.most_similar("graph", topn=3), keys.similarity("user", "time")]
    if hasattr(keys, "vectors_ngrams"):
        seen.append(keys["graphs"])  # a word that was not in the texts
    if model is not keys:
        if isinstance(model, models.Doc2Vec):
            more = [TaggedDocument(text, [at]) for at, text in enumerate(TEXTS)]
            seen.append(model.dv.most_similar(0, topn=2))
        else:
            more = [*TEXTS, ["graph", "novel"], ["novel", "trees"]]
            model.build_vocab(more, update=True)
        model.train(more, total_examples=len(more), epochs=2)
        seen.append(plain(model.wv.vectors))
    return seen


def topics(model: Any) -> Any:
    """What a transformation gives of a text, with everything that it holds."""
    seen = [plain(model), [model[bag] for bag in bags()[:3]]]
    if hasattr(model, "print_topics"):
        seen.append(repr(model.print_topics()))
    if isinstance(model, (models.LdaModel, models.LsiModel)):
        (model.update if isinstance(model, models.LdaModel) else model.add_documents)(bags()[:6])
        seen.append(plain([model[bag] for bag in bags()[:3]]))
    return plain(seen)


def documents(model: Any) -> Any:
    """Similarities to a text."""
    query = ["graph", "trees"] if isinstance(model, similarities.WmdSimilarity) else bags()[6]
    return [plain(model), plain(model[query])]


def phrases(model: Any) -> Any:
    """Phrases of a text."""
    return [plain(model), model[["graph", "minors", "response", "time"]]]


def edits(index: Any) -> Any:
    """Words that are a few edits away."""
    return list(index.most_similar("grap"))


def _words(cls: Any, **further: Any) -> Any:
    texts = TEXTS
    if cls is models.Doc2Vec:
        texts = [TaggedDocument(text, [at, f"text {at}"]) for at, text in enumerate(TEXTS)]
    return cls(texts, **{**WORDS, **further})


def _keys() -> Any:
    keys = _words(models.Word2Vec).wv
    keys.add_vector("further", np.arange(8, dtype="float32"))
    keys.set_vecattr("graph", "weight", 2.5)
    keys.fill_norms()
    return keys


def _doubles() -> Any:
    keys = keyedvectors.KeyedVectors(3, dtype=np.float64)
    keys.add_vectors(["graph", "user", "time", 4, ("a", 1)], np.random.RandomState(0).normal(size=(5, 3)))
    return keys


def _tree() -> Any:
    model = poincare.PoincareModel([("a", "b"), ("a", "c"), ("b", "d"), ("a", "d")], size=3, negative=1, seed=1)
    model.train(2)
    return model


def _terms() -> Any:
    return similarities.SparseTermSimilarityMatrix(similarities.UniformTermSimilarityIndex(dictionary()), dictionary())


def _translation() -> Any:
    pairs = [(word, word) for word in ("user", "graph", "human", "trees")]
    return translation_matrix.TranslationMatrix(_keys(), _keys(), pairs)


def _authors() -> Any:
    authors = {"a": list(range(15)), "b": list(range(15, 27))}
    return models.AuthorTopicModel(bags(), author2doc=authors, id2word=dictionary(), num_topics=2, random_state=1)


def _over_time() -> Any:
    few = {"passes": 1, "em_min_iter": 1, "em_max_iter": 1, "lda_inference_max_iter": 2}
    return models.LdaSeqModel(bags()[:9], id2word=dictionary(), time_slice=[4, 5], num_topics=2, random_state=1, **few)


def _ensemble() -> Any:
    few = {"num_topics": 2, "num_models": 2, "passes": 1, "iterations": 5, "topic_model_class": "lda"}
    return models.EnsembleLda(corpus=bags(), id2word=dictionary(), random_state=1, **few)


def _lda(cls: Any = models.LdaModel, **further: Any) -> Any:
    return cls(bags(), id2word=dictionary(), num_topics=3, random_state=1, **further)


def _own() -> Any:
    model = _words(Own)
    model.note = {"a": 1}
    return model


def _hdp(corpus: Any = None) -> Any:
    return models.HdpModel(bags() if corpus is None else corpus, dictionary(), random_state=1)


WITHOUT_PICKLE: dict[str, tuple[Any, Any]] = {
    "word2vec": (functools.partial(_words, models.Word2Vec), words),
    "word2vec, hierarchical": (functools.partial(_words, models.Word2Vec, hs=1, negative=0, sg=1), words),
    "word2vec, untrained": (functools.partial(models.Word2Vec, vector_size=8), plain),
    "fasttext": (functools.partial(_words, models.FastText, bucket=50), words),
    "fasttext, words only": (functools.partial(_words, models.FastText, max_n=0), plain),
    "doc2vec": (functools.partial(_words, models.Doc2Vec), words),
    "doc2vec, bags": (functools.partial(_words, models.Doc2Vec, dm=0, dbow_words=1), words),
    "keys": (_keys, words),
    "keys of doubles": (_doubles, plain),
    "keys of fasttext": (lambda: _words(models.FastText, bucket=50).wv, words),
    "poincare": (_tree, plain),
    "keys of poincare": (lambda: _tree().kv, plain),
    "dictionary": (dictionary, plain),
    "hash dictionary": (lambda: corpora.HashDictionary(TEXTS), plain),
    "lda": (_lda, topics),
    "lda of doubles": (functools.partial(_lda, dtype=np.float64, alpha="auto"), topics),
    "lda in parallel": (functools.partial(_lda, models.LdaMulticore, workers=1), plain),
    "lsi": (lambda: models.LsiModel(bags(), id2word=dictionary(), num_topics=3, random_seed=1), topics),
    "hdp": (_hdp, topics),
    "nmf": (functools.partial(_lda, models.Nmf), topics),
    "authors": (_authors, plain),
    "lda over time": (_over_time, plain),
    "ensemble": (_ensemble, plain),
    "tfidf": (lambda: models.TfidfModel(bags(), smartirs="ntc"), topics),
    "tfidf with a dictionary": (lambda: models.TfidfModel(dictionary=dictionary()), topics),
    "random projections": (lambda: models.RpModel(bags(), num_topics=3), topics),
    "log entropy": (lambda: models.LogEntropyModel(bags()), topics),
    "norm": (lambda: models.NormModel(bags()), topics),
    "bm25": (lambda: models.OkapiBM25Model(bags()), topics),
    "bm25, lucene": (lambda: models.LuceneBM25Model(bags()), topics),
    "bm25, atire": (lambda: models.AtireBM25Model(bags()), topics),
    "phrases": (lambda: models.Phrases(TEXTS, min_count=1, threshold=1), phrases),
    "phrases, npmi": (lambda: models.Phrases(TEXTS, min_count=1, threshold=0.1, scoring="npmi"), phrases),
    "phrases, frozen": (lambda: models.Phrases(TEXTS, min_count=1, threshold=1).freeze(), phrases),
    "similarities": (lambda: similarities.MatrixSimilarity(bags(), num_features=len(dictionary())), documents),
    "sparse": (lambda: similarities.SparseMatrixSimilarity(bags(), num_features=len(dictionary())), documents),
    "soft cosine": (lambda: similarities.SoftCosineSimilarity(bags(), _terms()), documents),
    "word movers": (lambda: similarities.WmdSimilarity(TEXTS, _keys()), plain),
    "terms": (_terms, plain),
    "equal terms": (lambda: similarities.UniformTermSimilarityIndex(dictionary()), plain),
    "terms of an embedding": (lambda: similarities.WordEmbeddingSimilarityIndex(_keys()), plain),
    "translation": (_translation, plain),
    "coherence": (lambda: models.CoherenceModel(model=_lda(), corpus=bags(), coherence="u_mass"), plain),
    "clipped corpus": (lambda: ClippedCorpus(bags(), 3), plain),
    "transformed corpus": (lambda: models.TfidfModel(bags())[bags()], plain),
    "similarity without shards": (lambda: similarities.Similarity(None, [], num_features=5), plain),
}

WITH_PICKLE: dict[str, tuple[Any, Any]] = {
    "class of the user's": (_own, words),
    "corpus of the user's": (lambda: _hdp(OwnCorpus()), plain),
    "texts by edits": (lambda: similarities.LevenshteinSimilarityIndex(dictionary()), edits),
}


class TestGensim(BuiltinContract):
    """Every kind of model, dictionary and similarity, down to the bits of every attribute."""

    manager = GensimManager()

    def cases(self) -> Mapping[str, Case]:
        """See the names."""
        return {
            name: Case(functools.partial(_build, name), probe)
            for name, (_, probe) in (WITHOUT_PICKLE | WITH_PICKLE).items()
        }

    def test_nearly_all_need_no_pickle(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Only classes of the user's and what is compiled are pickled, and the record says what it was."""
        pickled = {
            name: outcome.saved.state["pickle_because"]
            for name, outcome in self._outcomes(tmp_path_factory).items()
            if outcome.saved.pickled
        }
        assert pickled == {
            "class of the user's": "tests.managers.test_gensim.Own",
            "corpus of the user's": "tests.managers.test_gensim.OwnCorpus",
            "texts by edits": "gensim.similarities.fastss.FastSS",
        }

    def test_every_model_class_is_among_the_cases(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        """No class that gensim exports as a model or a similarity is left out."""
        public = {
            cls
            for module in (models, similarities, keyedvectors, poincare)
            for cls in vars(module).values()
            if isinstance(cls, type) and issubclass(cls, SaveLoad) and cls.__module__ != "gensim.utils"
        }
        held: set[type] = set()
        for outcome in self._outcomes(tmp_path_factory).values():
            _classes(outcome.objects["model"], held)
        abstract = {"TransformationABC", "BM25ABC", "SimilarityABC", "Shard", "TermSimilarityIndex"}
        missing = {cls.__name__ for cls in public - held} - abstract
        assert missing <= {"BackMappingTranslationMatrix", "VocabTransform"}


def _build(name: str) -> Any:
    return {"model": (WITHOUT_PICKLE | WITH_PICKLE)[name][0]()}


def _classes(value: Any, held: set[type]) -> None:
    held.add(type(value))
    for inner in vars(value).values():
        if isinstance(inner, SaveLoad):
            _classes(inner, held)


def test_what_is_one_object_stays_one(tmp_path: Path) -> None:
    """Objects, random states and arrays that stand in two places are one after a load too."""
    keys = _keys()
    index = similarities.WordEmbeddingSimilarityIndex(keys)
    index.again = [keys, keys.vectors, state := np.random.RandomState(0), state]
    loaded = get(GensimManager(), put(GensimManager(), index, tmp_path), tmp_path)
    first, vectors, one, other = loaded.again
    assert first is loaded.keyedvectors
    assert vectors is first.vectors
    assert one is other


def test_training_does_not_reach_the_files(tmp_path: Path) -> None:
    """Arrays are mapped privately from a folder that nobody may write to, and can be trained."""
    saved = put(GensimManager(), _words(models.Word2Vec), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.npy")}
    for path in before:
        os.chmod(path, 0o400)
    model = get(GensimManager(), saved, tmp_path)
    vectors = model.wv.vectors.copy()
    model.train(TEXTS, total_examples=len(TEXTS), epochs=3)
    assert not np.array_equal(vectors, model.wv.vectors)
    assert before == {path: path.read_bytes() for path in before}


def test_arrays_open_with_numpy_alone(tmp_path: Path) -> None:
    """The vectors are a `.npy` file, the words a list in JSON."""
    keys = _words(models.Word2Vec).wv
    put(GensimManager(), keys, tmp_path)
    (file,) = tmp_path.glob("arrays/*.npy")
    assert np.array_equal(np.load(file, allow_pickle=False), keys.vectors)
    assert '"graph"' in (tmp_path / TREE).read_text()


def test_what_lies_in_files_of_its_own_is_refused(tmp_path: Path) -> None:
    """Shards of an index, and a corpus that reads a file, alone or inside of another object."""
    corpora.MmCorpus.serialize(str(tmp_path / "bags.mm"), bags())
    corpus = corpora.MmCorpus(str(tmp_path / "bags.mm"))
    index = similarities.Similarity(str(tmp_path / "shard"), bags(), num_features=len(dictionary()))
    index.close_shard()
    for obj in (index, corpus, models.TfidfModel(bags())[corpus]):
        with pytest.raises(UnsupportedObjectError, match="as model="):
            put(GensimManager(), obj, tmp_path / "model")


def test_the_functions_and_classes_that_are_listed_exist() -> None:
    """Each name leads to what it says in this version of gensim."""
    assert all(callable(import_object(name)) for name in FUNCTIONS | PLAIN)


FORGED = {
    "another module": b'{"special": {"class": "os:system", "number": 0, "attributes": []}}',
    "another class": b'{"special": {"class": "gensim.utils:NoCM", "number": 0, "attributes": []}}',
    "a function": b'{"special": {"function": "gensim.utils:check_output"}}',
    "a path": b'{"special": {"file": "arrays/../../secret.npy", "number": 0}}',
    "a generator": b'{"special": {"generator": {"dict": [["bit_generator", "seed"]]}, "number": 0}}',
    "a sparse matrix": b'{"special": {"sparse": "sys", "parts": [], "shape": []}}',
    "a missing array": b'{"special": {"file": "arrays/7.npy", "number": 0}}',
    "nothing": b'{"special": {}}',
    "no JSON": b"{",
    "depth": b'{"tuple": [' * 5000,
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_forged_file_is_refused(forged: bytes, tmp_path: Path) -> None:
    """Names in the file lead to nothing but gensim's objects, and damage is reported as such."""
    saved = put(GensimManager(), dictionary(), tmp_path)
    (tmp_path / TREE).write_bytes(forged)
    with pytest.raises(IntegrityError):
        get(GensimManager(), saved, tmp_path, allow_pickle=True)


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    """A `.npy` file that was exchanged for one with a pickle inside is refused by numpy."""
    saved = put(GensimManager(), _words(models.Word2Vec).wv, tmp_path)
    (file,) = tmp_path.glob("arrays/*.npy")
    file.unlink()
    np.save(file, np.array([{}] * 99, dtype=object), allow_pickle=True)
    with pytest.raises(IntegrityError):
        get(GensimManager(), saved, tmp_path, allow_pickle=True)


def test_a_class_of_a_notebook_loads_elsewhere(tmp_path: Path) -> None:
    """A subclass from `__main__` is pickled by value."""
    build = """
        from gensim.models import Word2Vec
        class Named(Word2Vec):
            def nearest(self, word):
                return self.wv.most_similar(word, topn=2)
        model = Named([["a", "b", "c"], ["b", "c", "d"]] * 5, vector_size=4, min_count=1, workers=1)
    """
    because, cls = from_a_notebook(GensimManager(), build, 'model.nearest("a")', tmp_path)
    assert because == '"__main__.Named"'
    assert cls == "__main__:Named"


def test_through_the_store(store: ModelStore) -> None:
    """One line up, one line back, without a pickle; the record names the library and its parameters."""
    model = _words(models.Word2Vec)
    info = store.upload("words", model=model)
    assert info.library == "gensim"
    assert info["model"]["parameters"]["vector_size"] == 8
    loaded = store.load("words", allow_pickle=False)
    assert loaded.wv.most_similar("graph") == model.wv.most_similar("graph")
