import pytest
import yaml
from projects import ROOT
from ray.tune.search.sample import Categorical, Float, Integer, LogUniform

from pipeline.common.errors import PipelineError
from pipeline.tuning.settings import TuneParams, epochs_of, search_space, train_params

SECTION = yaml.safe_load((ROOT / "params.yaml").read_text())["tune"]


def of(**changes):
    return TuneParams.of_section("tune", SECTION | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "resnet"}, "model has the value 'resnet': Value error, should be one of basic, fast"),
        ({"trials": 0}, "tune.trials is 0, but it should be greater than 0"),
        ({"epochs": {"choices": []}}, "tune.epochs.choices is [], but it should have at least 1 item"),
        ({"epochs": {"choices": [3, 0]}}, "epochs has the value 0: Input should be greater than 0"),
        (
            {"epochs": {"lowest": 3, "highest": 3}},
            "tune.epochs is {'lowest': 3, 'highest': 3}, but it should have choices",
        ),
        ({"epochs": {"lowest": 3}}, "should have choices, or lowest and a larger highest"),
        ({"epochs": {"lowest": 2, "highest": 4, "choices": [1]}}, "should have either choices or lowest and highest"),
        ({"shift": {"lowest": 0, "highest": 4, "log": True}}, "should have a lowest above 0 for a logarithmic scale"),
        ({"shift": {"lowest": 0, "highest": 17}}, "shift has the value 17: Input should be less than or equal to 16"),
        ({"flip": {"choices": [1]}}, "flip has the value 1: Input should be a valid boolean"),
        ({"batch_size": {"choices": [250.0]}}, "batch_size has the value 250.0: Input should be a valid integer"),
        ({"learning_rate": 0.1}, "tune.learning_rate is 0.1, but it should be a section with keys"),
        ({"storage": "folder"}, "tune.storage is 'folder', but it should be null, the absolute path of a folder"),
        ({"first_check": 1.1}, "tune.first_check is 1.1, but it should be less than or equal to 1"),
    ],
)
def test_a_wrong_value_is_refused_by_name(changes, message):
    with pytest.raises(PipelineError) as refusal:
        of(**changes)
    assert message in str(refusal.value)


def test_the_space_has_the_kinds_of_values_that_train_takes():
    space = search_space(of(flip={"choices": [True, False]}))
    assert list(space) == ["epochs", "batch_size", "learning_rate", "flip", "shift", "cutout", "smoothing"]
    kinds = {"shift": Integer, "learning_rate": Float, "smoothing": Float}
    assert all(isinstance(domain, kinds.get(name, Categorical)) for name, domain in space.items())
    assert isinstance(space["learning_rate"].get_sampler(), LogUniform)
    assert {space["shift"].sample() for _ in range(200)} == {1, 2, 3, 4}  # both ends


def test_what_is_not_searched_is_the_networks_own():
    params = of(learning_rate=None, epochs=None, class_weight="balanced", seed=7)
    found = train_params(params, {"shift": 2})
    assert (found.shift, found.learning_rate, found.class_weight, found.seed) == (2, None, "balanced", 7)
    assert "learning_rate" not in search_space(params)
    assert epochs_of(params, {"shift": 2}) == 7
    assert epochs_of(of(), {"epochs": 5}) == 5
