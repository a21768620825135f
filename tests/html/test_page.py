import re
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from pipeline.html.page import new_environment
from pipeline.validation.expectations import Outcome

HOSTILE = """<script>alert("x")</script>&"'><b onload=x>"""
VOID = {"meta", "img", "br", "link"}


class Parser(HTMLParser):
    """Elements and text of a page, and the elements that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def render(content, title="title", **values):
    """A page with this content, a template that calls the macros of page.html.jinja."""
    text = '{% import "page.html.jinja" as html %}{% call html.page(title) %}' + content + "{% endcall %}"
    return new_environment().from_string(text).render(values, title=title).strip()


FULL = """{{ html.navigation({text: text}, {text: 1}) }}
{% call html.section(text, {text: text}) %}
<p>{{ text }}</p>
{{ html.status(true, text) }}
{{ html.facts({text: text}) }}
{{ html.checks(outcomes) }}
{{ html.table([{"key": text}], {"key": text}) }}
{{ html.svg(svg, text, 300) }}
{{ html.png("UE5H", text, 300) }}
{% endcall %}"""


def full_page(text):
    """A page that shows `text` in every place."""
    outcomes = [Outcome(success, text, text, text, text, text) for success in (True, False)]
    return render(FULL, text, text=text, outcomes=outcomes, svg=Markup("<svg><path d='M0 0'/></svg>"))


def test_every_value_is_escaped_wherever_it_is_shown():
    plain, hostile = (Parser(full_page(text)) for text in ("plain", HOSTILE))
    assert hostile.open == plain.open == []
    assert [(tag, set(attributes)) for tag, attributes in hostile.elements] == [
        (tag, set(attributes)) for tag, attributes in plain.elements
    ]
    swapped = [text.replace("plain", HOSTILE) for text in plain.texts]
    assert "".join(swapped) == "".join(hostile.texts)
    assert "".join(plain.texts).count("plain") == 20
    for tag, name, value in (("img", "alt", HOSTILE), ("tr", "title", HOSTILE), ("a", "href", "#" + HOSTILE)):
        assert value in [attributes.get(name) for attributes in hostile.named(tag)]


def test_a_page_is_one_file_without_scripts_and_external_resources():
    text = full_page("plain")
    assert text.startswith("<!doctype html>\n")
    assert not re.findall(r"<script|<link|<iframe|@import|url\(|https?:", text)
    page = Parser(text)
    assert len(page.named("style")) == 1
    assert page.named("img")[0]["src"] == "data:image/png;base64,UE5H"
    assert page.named("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named("meta")


def test_only_markup_is_trusted():
    svg = "<svg onload='x'></svg>"
    for given, elements in ((Markup(svg), 1), (svg, 0)):
        page = Parser(render('{{ html.svg(image, "caption", 300) }}', image=given))
        assert len(page.named("svg")) == elements


def test_images_have_alternative_texts():
    page = Parser(full_page("a caption"))
    assert [attributes["alt"] for attributes in page.named("img")] == ["a caption"]
    assert [attributes["aria-label"] for attributes in page.named("div") if "role" in attributes] == ["a caption"]


def test_sections_are_linked_in_order():
    sections = "{% for name in names %}{% call html.section(name, names) %}{% endcall %}{% endfor %}"
    names = {name: name.title() for name in ("two", "one")}
    page = Parser(render("{{ html.navigation(names) }}" + sections, names=names))
    assert [attributes["href"] for attributes in page.named("a")] == ["#two", "#one"]
    assert [attributes["id"] for attributes in page.named("section")] == ["two", "one"]
    assert "h2" in dict(page.elements)


def test_failed_checks_are_highlighted_in_the_given_order():
    outcomes = [Outcome(success, "statement", "1", "2", "kind", "") for success in (False, True, False)]
    rows = Parser(render("{{ html.checks(outcomes) }}", outcomes=outcomes)).named("tr")
    assert [row["class"] for row in rows[1:]] == ["failed", "met", "failed"]


def test_equal_pages_give_equal_text():
    assert full_page("plain") == full_page("plain")


def test_parts_that_a_page_does_not_have_leave_no_trace():
    tags = {tag for tag, _ in Parser(render("{{ html.navigation({}) }}")).elements}
    assert not tags & {"table", "figure", "img"}


def test_a_missing_cell_is_an_error():
    with pytest.raises(UndefinedError):
        render('{{ html.table([{"a": 1}], {"b": "B"}) }}')
