import json

import numpy as np

from benchmarks.skewed import RATIOS, WEIGHTS, main, name_of, skewed, skewed_table
from pipeline.data.splits import read_split


def test_the_shares_of_the_classes_fall_from_all_to_one_tenth(splits):
    split = read_split(splits["train"])
    before, after = (np.bincount(each.labels, minlength=10) for each in (split, skewed(split, 10)))
    assert after[0] == before[0]
    assert after[9] == round(before[9] / 10)
    assert (np.diff(after) <= 0).all()


def test_a_training_prints_its_figures(splits, capsys, monkeypatch):
    from pipeline.models.networks import NETWORKS

    monkeypatch.setitem(NETWORKS, "fast", NETWORKS["basic"]._replace(epochs=1, batch_size=20))
    main(10, "balanced", 0, splits["train"], splits["validation"], splits["test"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["training_images"] == len(skewed(read_split(splits["train"]), 10).labels)
    assert all(0 <= figures[name] <= 1 for name in ("accuracy", "macro_f1", "recall_of_rare", "recall_of_others"))


def test_the_table_shows_means_over_the_seeds():
    row = {"conditions": {"data": "toys"}, "training_images": 1234, "macro_f1": 0.5, "recall_of_rare": 0.25}
    rows = {
        name_of(ratio, weight, seed): row | {"accuracy": 0.5 + seed / 10, "recall_of_others": 0.75}
        for ratio in RATIOS
        for weight in WEIGHTS
        for seed in range(2)
    }
    lines = skewed_table(rows).splitlines()
    assert "skewed copies of **toys**" in lines[0]
    assert lines[-1] == "| 100 to 1 | 1,234 | balanced | 55.00% | 0.5000 | 25.0% | 75.0% | 2 |"
