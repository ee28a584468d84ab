"""A function as a model, up and back: `python examples/frameworks/with_python_function.py [FOLDER]`.

`manager="python"` stores any Python object as a pickle, with the code of this script in it: the process that loads it
needs neither the script nor the modules beside it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

from modelstore import ModelStore

# Height in centimetres and pulse at rest of ten people.
PEOPLE = [(158, 71), (162, 74), (166, 69), (169, 66), (171, 70), (174, 64), (177, 67), (181, 61), (186, 63), (190, 59)]


def fit(pairs: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """Least squares, by hand: a closure over two numbers."""
    mean_x = math.fsum(x for x, _ in pairs) / len(pairs)
    mean_y = math.fsum(y for _, y in pairs) / len(pairs)
    slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in pairs) / math.fsum((x - mean_x) ** 2 for x, _ in pairs)

    def predict(height: float) -> float:
        """The pulse at rest to expect of somebody this tall."""
        return mean_y + slope * (height - mean_x)

    return predict


def main(folder: str = "models") -> None:
    model = fit(PEOPLE)
    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("pulse", model=model, manager="python", extra_metadata={"people": len(PEOPLE)})
    print(f"recorded: {info['model']['parameters']}")

    # The function can run code, so a reader has to want it; a store of one's own is trusted by default.
    loaded = store.load("pulse", info.model_id, allow_pickle=True)
    heights = [155 + step / 2 for step in range(90)]
    if [loaded(height) for height in heights] != [model(height) for height in heights]:
        raise SystemExit("the loaded function says something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
