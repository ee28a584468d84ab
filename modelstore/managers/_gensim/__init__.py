"""gensim's objects without pickle: a tree of attributes as JSON, with the large arrays beside it."""
