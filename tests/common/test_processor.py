from pipeline.common import processor
from pipeline.common.processor import machine


def test_the_machine_is_described():
    assert " cores, " in machine()


def test_the_processor_is_named_as_linux_names_it(monkeypatch):
    monkeypatch.setattr(processor, "processor_facts", lambda: "processor : 0\nmodel name\t: Fast 9000\nflags : vnni\n")
    assert " cores, Fast 9000, " in machine()


def test_without_the_facts_of_linux_the_processor_is_named_by_python(monkeypatch):
    monkeypatch.setattr(processor, "processor_facts", lambda: "")
    monkeypatch.setattr(processor.platform, "processor", lambda: "some processor")
    assert " cores, some processor, " in machine()
