from toy_models import colour_model

from pipeline.onnx.session import open_session


def test_the_threads_of_a_session_do_not_spin_after_a_call():
    options = open_session(colour_model().SerializeToString()).get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
