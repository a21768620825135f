import json
import zipfile

import numpy as np
import pytest
from stores import empty_store

from pipeline.common.errors import PipelineError
from pipeline.models.saving import TrainingRecord
from pipeline.tracking.run_logging import log_settings, run_of_model
from pipeline.tracking.store import connect


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


def test_a_login_in_the_url_of_a_mirror_is_not_logged(tmp_path, monkeypatch):
    """The download stage refuses such a URL; train by hand does not read its section."""
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path / "mlflow.db"))
    sha256, url = "ab" * 32, "https://user:hunter2@host/a.tar.gz?signature=hunter2"
    (tmp_path / "params.yaml").write_text(json.dumps({"download": {"sha256": sha256, "urls": [url]}}))
    connect()
    with mlflow.start_run():
        log_settings({"download.name": "mine"}, sha256, is_cifar10=False)
    content = (tmp_path / "mlflow.db").read_bytes()
    assert b"a.tar.gz" in content
    assert b"hunter2" not in content
