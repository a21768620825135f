import json

import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.data.splits import read_split, require_validated, write_split


def test_a_split_is_read_as_it_was_written(splits, tmp_path):
    split = read_split(splits["test"])
    write_split(tmp_path / "again.npz", split)
    assert (tmp_path / "again.npz").read_bytes() == splits["test"].read_bytes()
    assert (split.images.shape, split.images.dtype, split.archive_sha256) == ((100, 32, 32, 3), np.uint8, "ab" * 32)


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x03\x04 cut"])
def test_an_absent_or_damaged_split_is_reported(tmp_path, content):
    if content is not None:
        (tmp_path / "test.npz").write_bytes(content)
    with pytest.raises(PipelineError, match=r"cannot read the split .*test.npz.*dvc repro"):
        read_split(tmp_path / "test.npz")


def test_validated_splits_pass(splits):
    assert (
        require_validated(splits["verdict"], train=splits["train"], test=splits["test"])["archive_sha256"] == "ab" * 32
    )


def test_splits_that_failed_validation_are_refused(splits):
    content = json.loads(splits["verdict"].read_text()) | {"success": False}
    splits["verdict"].write_text(json.dumps(content))
    with pytest.raises(PipelineError, match=r"failed validation .* says success: False.*dvc repro validate"):
        require_validated(splits["verdict"], train=splits["train"])


def test_a_file_that_was_not_validated_is_refused(splits):
    content = bytearray(splits["train"].read_bytes())
    content[5000] ^= 1
    splits["train"].write_bytes(content)
    with pytest.raises(
        PipelineError, match=r"train.npz is not the file that was validated as split train: .*dvc repro"
    ):
        require_validated(splits["verdict"], train=splits["train"])


def test_a_validated_file_is_refused_as_another_split(splits):
    """Swapped paths in dvc.yaml would train on the validation split."""
    with pytest.raises(PipelineError, match=r"validation.npz is not the file that was validated as split train"):
        require_validated(splits["verdict"], train=splits["validation"], validation=splits["train"])


def test_a_split_that_does_not_exist_is_reported(splits):
    splits["train"].unlink()
    with pytest.raises(PipelineError, match=r"the split .*train.npz does not exist. `dvc repro prepare` creates it"):
        require_validated(splits["verdict"], train=splits["train"])


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"success": true}'])
def test_a_missing_or_damaged_verdict_is_refused(splits, content):
    splits["verdict"].unlink()
    if content is not None:
        splits["verdict"].write_text(content)
    with pytest.raises(PipelineError, match=r"cannot read the validation result .*validate.json.*dvc repro validate"):
        require_validated(splits["verdict"], train=splits["train"])
