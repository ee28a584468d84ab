"""What spaCy's own files leave out: functions, words, and what they would lose without a word. See `spacy.py`."""
