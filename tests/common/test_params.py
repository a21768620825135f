from pathlib import Path

import pytest
import yaml
from projects import ROOT, run, set_params

from pipeline.check_params import check_params, section_classes
from pipeline.common.errors import PipelineError
from pipeline.common.params import named_paths, read_params


def test_the_params_of_the_repository_pass(monkeypatch):
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
        ("train", {"class_weight": "equal"}, "train.class_weight is 'equal', but it should be 'balanced'"),
        ("train", {"shift": 17}, "train.shift is 17, but it should be less than or equal to 16"),
        ("train", {"smoothing": 1}, "train.smoothing is 1, but it should be less than 1"),
        ("download", {"urls": []}, "download.urls is [], but it should have at least 1 item"),
        ("download", {"urls": ["ftp://a/b"]}, "download.urls.0 is 'ftp://a/b', but it should start with http://"),
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
    assert "Edit params.yaml, then run the same command again." in str(refusal.value)


@pytest.mark.parametrize("section", section_classes())
def test_each_missing_key_is_refused_by_name(project, monkeypatch, section):
    path = project / "params.yaml"
    keys = list(yaml.safe_load(path.read_text())[section])
    for key in keys:
        params = yaml.safe_load(path.read_text())
        del params[section][key]
        with pytest.raises(PipelineError, match=rf"{section}\.{key} is missing"):
            section_classes()[section].of_section(section, params[section])


def test_all_errors_are_reported_together_in_the_order_of_the_file(project, monkeypatch):
    set_params(project, train={"epochs": 0, "seed": -1}, evaluate={"pictures": 0})
    monkeypatch.chdir(project)
    with pytest.raises(PipelineError, match=r"(?s)train.epochs.*train.seed.*evaluate.pictures"):
        check_params()


def test_an_empty_section_is_refused(project, monkeypatch):
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
    [("a: [", "is not YAML"), ("just text", "must contain one section per stage"), (None, "does not exist here")],
)
def test_a_broken_params_file_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(PipelineError, match=message):
        read_params(tmp_path / "params.yaml")


def test_a_stage_refuses_a_wrong_value_before_it_starts(project):
    set_params(project, prepare={"seed": "one"})
    done = run(project, "pipeline.prepare")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("prepare: params.yaml has a wrong value:\n  prepare.seed is 'one'")
    assert "Traceback" not in done.stderr


def test_a_missing_section_is_refused_by_its_stage(project):
    (project / "params.yaml").write_text("train: {}\n")
    done = run(project, "pipeline.prepare")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("prepare: params.yaml has no section `prepare`: add it")


def stage(params, first, second):
    """A stage with two paths."""


def test_paths_are_found_by_name_in_any_order():
    expected = {"first": Path("a b"), "second": Path("c=d")}
    assert named_paths(stage, ["first=a b", "second=c=d"]) == expected
    assert named_paths(stage, ["second=c=d", "first=a b"]) == expected


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["first=a"],
        ["first=a", "second=b", "third=c"],
        ["first=a", "frist=b"],
        ["first=a", "first=b"],
        ["first=a", "first=b", "second=c"],
        ["first=a", "second"],
        ["first=a", "b"],
        ["first=a", "second="],
        ["first=a", "second=b", "params=c"],
    ],
)
def test_other_words_are_refused(words):
    with pytest.raises(PipelineError) as refusal:
        named_paths(stage, words)
    assert str(refusal.value) == (
        f"got the arguments {' '.join(words) or '(none)'}, expected first=PATH second=PATH. dvc.yaml and the Makefile "
        "show the whole command."
    )


def page(target, **inputs):
    """A stage with one path and any number of others."""


def test_a_stage_can_accept_further_paths():
    assert named_paths(page, ["a=1", "target=b"]) == {"a": Path("1"), "target": Path("b")}
    for words in (["a=1"], ["target=b", "a"], ["target=b", "a=1", "a=2"], ["target=b", "a="]):
        with pytest.raises(PipelineError, match=r"expected target=PATH NAME=PATH \.\.\.\. dvc.yaml"):
            named_paths(page, words)


def test_a_wrong_command_line_ends_in_one_message(project):
    done = run(project, "pipeline.download", "arhcive=a.tar.gz")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "download: got the arguments arhcive=a.tar.gz, expected archive=PATH. dvc.yaml and the Makefile show the whole "
        "command.\n"
    )


def open_stage(first, **inputs):
    """A stage that accepts further names."""


def test_a_stage_with_open_inputs_accepts_further_names():
    expected = {"first": Path("a"), "other": Path("b"), "third": Path("c")}
    assert named_paths(open_stage, ["other=b", "first=a", "third=c"]) == expected
    assert named_paths(open_stage, ["first=a"]) == {"first": Path("a")}


@pytest.mark.parametrize(
    "words", [[], ["other=b"], ["first=a", "other=b", "other=c"], ["first=a", "b"], ["first=a", "=b"]]
)
def test_a_stage_with_open_inputs_refuses_missing_repeated_and_empty_names(words):
    with pytest.raises(PipelineError, match=r"expected first=PATH NAME=PATH \.\.\.\. dvc\.yaml"):
        named_paths(open_stage, words)
