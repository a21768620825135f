import json

import numpy as np
import pytest
from conftest import ROOT
from test_validate import keep, run, spoil_all

from pipeline.errors import PipelineError
from pipeline.reference import read_reference


@pytest.fixture
def reference(splits, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    keep(splits, tmp_path, "validate.json")
    return tmp_path / "reference.json"


def test_what_is_kept_is_read_back_and_equal_data_give_equal_bytes(reference, splits, tmp_path):
    kept = read_reference(reference)
    assert kept.archive_sha256 == "ab" * 32
    assert kept.name == f"archive {'ab' * 4}"
    assert {part: content.images for part, content in kept.parts.items()} == {"training": 500, "test": 100}
    assert kept.parts["training"].class_shares["disc"] == pytest.approx(0.1, abs=0.02)
    first = reference.read_bytes()
    keep(splits, tmp_path, "validate.json")
    assert reference.read_bytes() == first


def test_the_file_of_this_repository_keeps_none():
    assert read_reference(ROOT / "data/reference.json") is None


def test_data_that_failed_or_was_not_validated_is_not_kept(reference, splits, tmp_path):
    before = reference.read_bytes()
    spoil_all(splits, images=lambda images: images // 2)
    with pytest.raises(PipelineError, match="is not the file that was validated"):
        keep(splits, tmp_path, "validate.json")
    with pytest.raises(PipelineError):
        run(splits, tmp_path)
    with pytest.raises(PipelineError, match="the data failed validation"):
        keep(splits, tmp_path)
    assert reference.read_bytes() == before


def edited(change):
    def edit(content):
        change(content["parts"]["training"])
        return json.dumps(content)

    return edit


DAMAGES = [
    (lambda content: json.dumps(content)[:-9], "is damaged: "),
    (lambda content: "[]", "is damaged: "),
    (lambda content: json.dumps(content | {"parts": {}}), "is damaged: parts"),
    (edited(lambda part: part["quantiles"].pop("noise")), "other measures than this version takes"),
    (edited(lambda part: part["quantiles"]["noise"].pop()), "quantiles of noise must be 101 rising numbers"),
    (edited(lambda part: part["quantiles"]["noise"].reverse()), "quantiles of noise must be 101 rising numbers"),
    (edited(lambda part: part["quantiles"]["noise"].__setitem__(3, "x")), r"quantiles\.noise\.3"),
    (edited(lambda part: part["quantiles"]["noise"].__setitem__(100, float("inf"))), r"quantiles\.noise\.100"),
    (edited(lambda part: part["class_shares"].pop("disc")), "name different classes"),
    (edited(lambda part: part.update(images=0)), r"training\.images"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[message for _, message in DAMAGES])
def test_a_damaged_reference_is_one_message(reference, splits, tmp_path, damage, message):
    reference.write_text(damage(json.loads(reference.read_text())))
    with pytest.raises(PipelineError, match=rf"{message}.*git checkout.*make reference"):
        run(splits, tmp_path)


def test_an_absent_reference_is_told(tmp_path):
    with pytest.raises(PipelineError, match=r"there is no .*git checkout"):
        read_reference(tmp_path / "reference.json")


def test_a_list_of_numbers_stands_on_one_line(reference):
    assert max(map(len, reference.read_text().splitlines())) > 500
    assert np.array(json.loads(reference.read_text())["parts"]["test"]["quantiles"]["noise"]).shape == (101,)
