"""Pages of HTML in one file, from the templates in this folder."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def new_environment() -> Environment:
    """Templates escape all values except `Markup`; a missing value is an error."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, /, **values: object) -> str:
    """The page of a template; equal values give equal text."""
    return new_environment().get_template(f"{template}.html.jinja").render(values).strip() + "\n"
