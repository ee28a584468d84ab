"""statsmodels, up and back: `python examples/frameworks/with_statsmodels.py [FOLDER]`.

A regression by formula. What the formula calls (`np.log`) is stored with it, so that it predicts where no `np` is.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf

from modelstore import ModelStore


def main(folder: str = "models") -> None:
    random = np.random.default_rng(0)
    flats = pd.DataFrame({"size": random.uniform(20, 150, 200), "town": random.choice(["Bonn", "Kiel", "Ulm"], 200)})
    flats["rent"] = 200 + 260 * np.log(flats["size"]) + 90 * (flats["town"] == "Bonn") + random.normal(0, 30, 200)
    results = smf.ols("rent ~ np.log(size) + C(town)", flats).fit()

    store = ModelStore.from_file_system(folder, create_directory=True)
    info = store.upload("rents", model=results, metrics={"r2": results.rsquared})

    loaded = store.load("rents", info.model_id)
    offers = pd.DataFrame({"size": [35.0, 80.0], "town": ["Ulm", "Bonn"]})
    if loaded.predict(offers).tolist() != results.predict(offers).tolist():
        raise SystemExit("the loaded results predict something else")
    print(f"{info.library}: {info.model_id} loads with equal predictions")


if __name__ == "__main__":
    main(*sys.argv[1:2])
