from xml.etree import ElementTree

from markupsafe import Markup

from pipeline.evidence.learning_curves import draw_curves

ROWS = [
    {
        "epoch": str(epoch),
        "accuracy": "0.5",
        "loss": "1.0",
        "validation_accuracy": str(epoch / 10),
        "validation_loss": "2",
    }
    for epoch in (1, 2, 3)
]


def test_curves_are_one_svg_element_with_both_metrics_on_both_splits():
    svg = draw_curves(ROWS)
    assert isinstance(svg, Markup)
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    comments = [text.strip() for text in str(svg).replace("-->", "<!--").split("<!--")]
    assert {"accuracy", "loss", "epoch", "training", "validation"} <= set(comments)  # matplotlib draws text as paths


def test_equal_curves_give_equal_text_and_other_curves_another():
    assert draw_curves(ROWS) == draw_curves(ROWS)
    assert draw_curves(ROWS) != draw_curves(ROWS[:2])
