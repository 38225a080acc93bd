"""What the HTML pages share: the document around a page, tables, and pieces of text.

A page's policy forbids browsers to fetch or run anything.
"""

from collections.abc import Sequence
from html import escape

from speech.html.style import STYLE


def document(title: str, body: Sequence[str]) -> str:
    """A whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; media-src data:; img-src data:\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f'<body><h1 dir="auto">{escape(title)}</h1>\n' + "\n".join(body) + "\n</body></html>\n"
    )


def sections(shown: Sequence[tuple[str, str, str]]) -> list[str]:
    """Links to the sections, and these.

    Args:
        shown: (id, title, HTML) of each; one without HTML is left out.
    """
    shown = [section for section in shown if section[2]]
    links = " ".join(f'<a href="#{name}">{title}</a>' for name, title, _ in shown)
    body = [f'<section id="{name}"><h2>{title}</h2>{html}</section>' for name, title, html in shown]
    return [f"<nav>{links}</nav>", *body]


def table(names: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table of HTML, whose rows' first cells are their names."""
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    head = f"<thead><tr>{head}</tr></thead>" if names else ""
    return f'<div class="scrolled"><table class="{kind}">{head}<tbody>{body}</tbody></table></div>'


def heading(utterance_id: str, told: str) -> str:
    """Above an utterance; `told` is HTML."""
    return f"<header><b><bdi>{escape(utterance_id)}</bdi></b> <span>{told}</span></header>"


def count(number: int, of: str) -> str:
    """1 error, 2 errors."""
    return f"{number:,} {of}{'' if number == 1 else 's'}"
