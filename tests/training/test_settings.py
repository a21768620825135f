from projects import OWN_VALUES

from pipeline.models.networks import NETWORKS, Augmentation
from pipeline.training.settings import Schedule, TrainParams, augmentation_of, schedule_of, settings_of

OWN = TrainParams(model="fast", epochs=None, batch_size=None, **OWN_VALUES, seed=0)


def test_null_is_the_networks_own_value():
    assert augmentation_of(OWN) == NETWORKS["fast"].augmentation
    assert schedule_of(OWN) == Schedule(NETWORKS["fast"].epochs, NETWORKS["fast"].batch_size, 0.1)


def test_a_value_replaces_the_networks_own_also_where_it_is_zero_or_false():
    params = OWN.model_copy(update={"flip": False, "shift": 0, "cutout": 4, "epochs": 2})
    assert augmentation_of(params) == Augmentation(False, 0, 4, NETWORKS["fast"].augmentation.smoothing)
    found = settings_of(params)
    assert (found["epochs"], found["flip"], found["shift"], found["cutout"], found["smoothing"]) == (
        2,
        False,
        0,
        4,
        0.2,
    )
