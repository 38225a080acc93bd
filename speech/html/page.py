"""Renders HTML pages from Jinja templates, with every value escaped.

A page is a template that extends page.html.jinja, whose policy forbids browsers to fetch or run
anything. parts.html.jinja has the macros that pages share.
"""

import functools
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).parent / "templates"


def render(folder: Path, name: str, **values: Any) -> str:
    """Renders a page.

    Args:
        folder: of the page's templates.
        name: of the template.
        values: its variables; what is of markupsafe.Markup, such as charts, isn't escaped.
    """
    return _environment(folder).get_template(name).render(values)


@functools.cache
def _environment(folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["count"] = count
    environment.filters["percent"] = percent
    environment.filters["thousands"] = thousands
    return environment


def count(number: int, noun: str) -> str:
    """Formats a number of things: 1 error, 2 errors."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(rate: float, digits: int = 2) -> str:
    """Formats a rate: 0.5 is 50.00%."""
    return f"{rate:.{digits}%}"


def thousands(number: int) -> str:
    """Formats a whole number with a comma after the thousands: 1,234."""
    return f"{number:,}"
