"""Sentence Transformers: what its folders may hold, and what they leave out."""
