import json

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.splits import read_split, require_validated, write_split


def test_a_split_comes_back_as_it_was_written(splits, tmp_path):
    split = read_split(splits["test"])
    write_split(tmp_path / "again.npz", split)
    assert (tmp_path / "again.npz").read_bytes() == splits["test"].read_bytes()
    assert (split.images.shape, split.images.dtype, split.archive_sha256) == ((100, 32, 32, 3), np.uint8, "ab" * 32)


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x03\x04 cut"])
def test_an_absent_or_damaged_split_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "test.npz").write_bytes(content)
    with pytest.raises(PipelineError, match=r"cannot read the split .*test.npz.*dvc repro"):
        read_split(tmp_path / "test.npz")


def test_approved_splits_pass(splits):
    assert require_validated(splits["report"], splits["train"], splits["test"])["archive_sha256"] == "ab" * 32


def test_splits_that_failed_validation_are_refused(splits):
    content = json.loads(splits["report"].read_text()) | {"success": False}
    splits["report"].write_text(json.dumps(content))
    with pytest.raises(PipelineError, match=r"failed validation .* says success: False.*dvc repro validate"):
        require_validated(splits["report"], splits["train"])


def test_other_splits_than_the_validated_ones_are_refused(splits):
    content = bytearray(splits["train"].read_bytes())
    content[5000] ^= 1
    splits["train"].write_bytes(content)
    with pytest.raises(PipelineError, match=r"train.npz is not the file that was validated"):
        require_validated(splits["report"], splits["train"])


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"success": true}'])
def test_a_missing_or_damaged_report_is_refused(splits, content):
    splits["report"].unlink()
    if content is not None:
        splits["report"].write_text(content)
    with pytest.raises(PipelineError, match="cannot read the validation report"):
        require_validated(splits["report"], splits["train"])
