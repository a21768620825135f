import pytest
import yaml
from projects import ROOT

from pipeline.common.errors import PipelineError
from pipeline.packing.params_file import as_yaml, write_settings

TEXT = """\
# mine
one: # of two
  name: "old" # a name
  many: # before
    - a # first
    - b
  numbers: [1.0, 2.0] # three
  empty:
# of the next
two: {a: ~, b: "0x1"} # as I like it
"""
SETTINGS = {"one": {"name": "no", "many": ["c"], "numbers": [0.5, 0.25], "empty": 3}}


def test_the_values_of_the_keys_change_and_comments_stay(tmp_path):
    (tmp_path / "p.yaml").write_text(TEXT)
    write_settings(SETTINGS, tmp_path / "p.yaml")
    text = (tmp_path / "p.yaml").read_text()
    assert yaml.safe_load(text) == {"one": SETTINGS["one"], "two": {"a": None, "b": "0x1"}}
    assert all(comment in text for comment in ("# mine", "# of two", "# a name", "# of the next", "# as I like it"))
    assert 'b: "0x1"' in text


def test_params_yaml_itself_keeps_every_line_but_the_changed_ones(tmp_path):
    before = (ROOT / "params.yaml").read_text()
    (tmp_path / "p.yaml").write_text(before)
    write_settings({"validate": {"train_images": 123}, "train": {"batch_size": None}}, tmp_path / "p.yaml")
    changed = [
        new
        for old, new in zip(before.splitlines(), (tmp_path / "p.yaml").read_text().splitlines(), strict=True)
        if old != new
    ]
    assert [line.split("#")[0].strip() for line in changed] == ["train_images: 123"]


def test_a_link_and_permissions_stay(tmp_path):
    (tmp_path / "real.yaml").write_text("one:\n  a: 1\n")
    (tmp_path / "real.yaml").chmod(0o640)
    (tmp_path / "p.yaml").symlink_to("real.yaml")
    write_settings({"one": {"a": 2}}, tmp_path / "p.yaml")
    assert (tmp_path / "p.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text() == "one:\n  a: 2\n"
    assert (tmp_path / "real.yaml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "text", ["two:\n  a: 1\n", "one: 3\n", "one:\n", "one: {a: 1\n", "one:\n  a: 1\none:\n  a: 2\n"]
)
def test_a_file_in_which_the_keys_cannot_be_set_stays(tmp_path, text):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PipelineError, match=r"(?s)p.yaml .*`git checkout p.yaml` restores it"):
        write_settings({"one": {"a": 2}}, tmp_path / "p.yaml")
    assert (tmp_path / "p.yaml").read_text() == text


def test_settings_as_text_are_read_back():
    settings = {"one": {"text": "no", "number": 0.0001, "list": [0.1, 2.0], "none": None, "urls": ["file:///a b"]}}
    assert yaml.safe_load(as_yaml(settings)) == settings
