import pytest

from pipeline.common.errors import PipelineError
from pipeline.demo import demo


def test_a_folder_that_is_no_demo_is_not_deleted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    (tmp_path / "work/thesis.txt").touch()
    with pytest.raises(PipelineError, match="work exists and is not an earlier demo"):
        demo(tmp_path / "work")
    assert (tmp_path / "work/thesis.txt").exists()
