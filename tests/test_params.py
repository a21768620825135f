import pytest
import yaml
from conftest import ROOT, run, set_params

from pipeline.check_params import SECTIONS, check_params
from pipeline.errors import PipelineError
from pipeline.params import read_params


def test_the_projects_own_params_pass(monkeypatch):
    monkeypatch.chdir(ROOT)
    check_params()


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("train", {"epoch": 3}, "train.epoch is unknown"),
        ("train", {"epochs": -1}, "train.epochs is -1, but it should be greater than 0"),
        (
            "train",
            {"epochs": "3"},
            "train.epochs is '3', but it should be a valid integer: write it as 3, without quotes\n",
        ),
        ("train", {"epochs": 3.5}, "train.epochs is 3.5, but it should be a valid integer"),
        ("train", {"epochs": True}, "train.epochs is True, but it should be a valid integer"),
        (
            "train",
            {"learning_rate": "1e-3"},
            "train.learning_rate is '1e-3', but it should be a valid number: write it as 0.001, without quotes\n",
        ),
        ("train", {"learning_rate": "1e-7"}, "write it as 0.0000001, without quotes\n"),
        ("train", {"learning_rate": "fast"}, "train.learning_rate is 'fast', but it should be a valid number\n"),
        ("train", {"learning_rate": 0}, "train.learning_rate is 0, but it should be greater than 0"),
        ("train", {"learning_rate": float("nan")}, "train.learning_rate is nan, but it should be"),
        ("train", {"learning_rate": float("inf")}, "train.learning_rate is inf, but it should be"),
        ("train", {"model": "resnet"}, "train.model is 'resnet', but it should be one of basic"),
        ("download", {"urls": []}, "download.urls is [], but it should have at least 1 item"),
        ("download", {"urls": ["ftp://a/b"]}, "download.urls.0 is 'ftp://a/b', but it should begin with http://"),
        ("download", {"sha256": "abc"}, "download.sha256 is 'abc', but it should match pattern"),
        (
            "validate",
            {"channel_means": [0.5, 0.5]},
            "validate.channel_means is [0.5, 0.5], but it should have at least 3 items",
        ),
        ("export", {"opset": 99}, "export.opset is 99, but it should be less than or equal to 18"),
        ("evaluate", {"pictures": 0}, "evaluate.pictures is 0, but it should be greater than 0"),
    ],
)
def test_a_wrong_value_is_refused_by_name(project, monkeypatch, section, change, message):
    set_params(project, **{section: change})
    monkeypatch.chdir(project)
    with pytest.raises(PipelineError) as refusal:
        check_params()
    assert message in str(refusal.value)
    assert "dvc repro" in str(refusal.value)


@pytest.mark.parametrize("section", SECTIONS)
def test_each_missing_key_is_refused_by_name(project, monkeypatch, section):
    path = project / "params.yaml"
    keys = list(yaml.safe_load(path.read_text())[section])
    for key in keys:
        params = yaml.safe_load(path.read_text())
        del params[section][key]
        with pytest.raises(PipelineError, match=rf"{section}\.{key} is missing"):
            SECTIONS[section].of_section(section, params[section])


def test_every_mistake_is_told_at_once(project, monkeypatch):
    set_params(project, train={"epochs": 0, "seed": -1}, evaluate={"pictures": 0})
    monkeypatch.chdir(project)
    with pytest.raises(PipelineError, match=r"(?s)train.epochs.*train.seed.*evaluate.pictures"):
        check_params()


def test_an_empty_section_is_told(project, monkeypatch):
    path = project / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"export": None}))
    monkeypatch.chdir(project)
    with pytest.raises(PipelineError, match="export is None, but it should be a section with keys"):
        check_params()


def test_an_unknown_section_is_refused(project, monkeypatch):
    (project / "params.yaml").write_text((project / "params.yaml").read_text() + "\ntrian: {epochs: 3}\n")
    monkeypatch.chdir(project)
    with pytest.raises(PipelineError, match="section `trian` is unknown"):
        check_params()


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not YAML"), ("just text", "must hold one section per stage"), (None, "there is no")],
)
def test_a_broken_params_file_is_told_apart(tmp_path, text, message):
    if text is not None:
        (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(PipelineError, match=message):
        read_params(tmp_path / "params.yaml")


def test_a_stage_refuses_a_wrong_value_before_it_works(project):
    set_params(project, prepare={"seed": "one"})
    done = run(project, "pipeline.prepare", "no.tar.gz", "a", "b", "c", "d")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("prepare: params.yaml has a wrong value:\n  prepare.seed is 'one'")
    assert "Traceback" not in done.stderr
