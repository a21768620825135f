import json
import subprocess

import yaml

from pipeline.tracking.lineage import code_tags, data_settings, stage_tags


def test_code_tags_name_commit_experiment_and_libraries(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("one")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "-q"], ["add", "a.txt"], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setenv("DVC_EXP_NAME", "bold-idea")
    tags = code_tags()
    assert (tags["git_commit"], tags["git_dirty"], tags["dvc_exp_name"]) == (commit, "false", "bold-idea")
    assert tags["library.keras"].startswith("3.")
    (tmp_path / "a.txt").write_text("two")
    assert code_tags()["git_dirty"] == "true"


def test_outside_a_git_repository_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert not [name for name in code_tags() if name.startswith("git")]


def test_only_the_given_stages_are_tagged(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert stage_tags("prepare") == {}
    locked = {
        "prepare": {"cmd": "x", "outs": [{"path": "a.npz", "md5": "12"}]},
        "train": {"outs": [{"path": "m", "md5": "34"}]},
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": locked}))
    assert stage_tags("download", "prepare") == {"dvc.prepare": json.dumps({"a.npz": "12"})}


def test_settings_of_the_data_have_no_url(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sections = {
        "download": {"name": "n", "sha256": "ab", "urls": ["file:///home/me/a.tar.gz"], "attempts": 3},
        "prepare": {"validation_images": 5000, "seed": 0},
        "validate": {"tolerance": 0.01},
        "train": {"epochs": None},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections))
    assert data_settings() == {
        "download.name": "n",
        "download.sha256": "ab",
        "prepare.validation_images": 5000,
        "prepare.seed": 0,
        "validate.tolerance": 0.01,
    }


def test_an_empty_lock_file_gives_no_tags(tmp_path, monkeypatch):
    """DVC leaves one if it is killed while it writes it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.lock").write_text("")
    assert stage_tags("prepare") == {}
