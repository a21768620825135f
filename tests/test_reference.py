import json

import numpy as np
import pytest
from projects import ROOT
from validation_runs import change_all, run_validate, write_reference

from pipeline.common.errors import PipelineError
from pipeline.validation.reference import read_reference


@pytest.fixture
def reference(splits, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    write_reference(splits, tmp_path)
    return tmp_path / "reference.json"


def test_a_written_reference_can_be_read_and_equal_data_give_equal_bytes(reference, splits, tmp_path):
    content = read_reference(reference)
    assert content.archive_sha256 == "ab" * 32
    assert content.name == f"archive {'ab' * 4}"
    assert {name: part.images for name, part in content.parts.items()} == {"training": 500, "test": 100}
    assert content.parts["training"].class_shares["disc"] == pytest.approx(0.1, abs=0.02)
    first = reference.read_bytes()
    write_reference(splits, tmp_path)
    assert reference.read_bytes() == first


def test_the_file_of_this_repository_contains_no_reference():
    assert read_reference(ROOT / "data/reference.json") is None


def test_data_that_failed_or_was_not_validated_gives_no_reference(reference, splits, tmp_path):
    before = reference.read_bytes()
    change_all(splits, images=lambda images: images // 2)
    with pytest.raises(PipelineError, match="is not the file that was validated"):
        write_reference(splits, tmp_path)
    with pytest.raises(PipelineError):
        run_validate(splits, tmp_path)
    with pytest.raises(PipelineError, match="the data failed validation"):
        write_reference(splits, tmp_path, "v.json")
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
    (edited(lambda part: part["quantiles"].pop("noise")), "other image statistics than this version computes"),
    (
        edited(lambda part: part["quantiles"]["noise"].pop()),
        "quantiles of noise must be 101 numbers in ascending order",
    ),
    (
        edited(lambda part: part["quantiles"]["noise"].reverse()),
        "quantiles of noise must be 101 numbers in ascending order",
    ),
    (edited(lambda part: part["quantiles"]["noise"].__setitem__(3, "x")), r"quantiles\.noise\.3"),
    (edited(lambda part: part["quantiles"]["noise"].__setitem__(100, float("inf"))), r"quantiles\.noise\.100"),
    (edited(lambda part: part["class_shares"].pop("disc")), "have different classes"),
    (edited(lambda part: part.update(images=0)), r"training\.images"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[message for _, message in DAMAGES])
def test_a_damaged_reference_is_one_message(reference, splits, tmp_path, damage, message):
    reference.write_text(damage(json.loads(reference.read_text())))
    with pytest.raises(PipelineError, match=rf"{message}.*git checkout.*make reference"):
        run_validate(splits, tmp_path)


def test_a_missing_reference_is_an_error(tmp_path):
    with pytest.raises(PipelineError, match=r"reference.json does not exist.*git checkout"):
        read_reference(tmp_path / "reference.json")


def test_a_list_of_numbers_is_on_one_line(reference):
    assert max(map(len, reference.read_text().splitlines())) > 500
    assert np.array(json.loads(reference.read_text())["parts"]["test"]["quantiles"]["noise"]).shape == (101,)
