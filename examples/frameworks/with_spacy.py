"""spaCy, up and back: `python examples/frameworks/with_spacy.py [FOLDER]`.

A pipeline that sorts messages is stored as `to_disk` writes it. No code is in it: it loads where pickles are refused.
"""

from __future__ import annotations

import sys

import spacy
from spacy.training import Example

from modelstore import ModelStore

MESSAGES = {
    "order": ["I would like to buy two lamps", "Please send me another chair", "Can I order the blue table?"],
    "complaint": ["The lamp arrived broken", "My chair wobbles, I want my money back", "This table is scratched"],
    "question": ["When do you open on Sunday?", "Is the table made of oak?", "How long does delivery take?"],
}
NEW = ["I want to order a lamp", "The chair is broken", "Do you deliver on Sunday?"]


def train() -> spacy.Language:
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("textcat")
    examples = [
        Example.from_dict(nlp.make_doc(text), {"cats": {kind: float(kind == label) for kind in MESSAGES}})
        for label, texts in MESSAGES.items()
        for text in texts
    ]
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(15):
        nlp.update(examples, sgd=optimizer)
    return nlp


def main(folder: str = "models") -> None:
    nlp = train()
    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("messages", model=nlp, tags={"language": nlp.lang})

    loaded = store.load("messages", info.model_id, allow_pickle=False)
    for text in NEW:
        expected, seen = nlp(text).cats, loaded(text).cats
        if seen != expected:
            raise SystemExit("the loaded pipeline predicts something else")
        print(f"{max(seen, key=seen.get):<10} {text}")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
