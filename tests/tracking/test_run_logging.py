import json
import zipfile

import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.models.saving import TrainingRecord
from pipeline.tracking.run_logging import run_of_model


def test_a_model_of_other_splits_than_the_validated_ones_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    record = TrainingRecord({}, {"archive_sha256": "archive 1", "splits_sha256": "splits 1"}, {}, [])
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        file.writestr("metadata.json", json.dumps({"training": record._asdict()}))
    validated = {"archive_sha256": "archive 1", "splits_sha256": "splits 2"}
    with pytest.raises(PipelineError) as refusal:
        run_of_model(tmp_path / "m.keras", validated, np.zeros((1, 32, 32, 3), np.uint8))
    assert str(refusal.value) == (
        f"{tmp_path}/m.keras was trained on other splits than those that were validated: its data is {record.data}, "
        f"validated is {validated}. `dvc repro` trains on the current splits."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["m.keras"]  # no store
