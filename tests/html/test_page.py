"""Pages rendered from templates that the tests write."""

import configparser
from pathlib import Path

import jinja2
import pytest
from parsed_html import ATTACK, Parsed

from speech.html import charts, page

ROOT = Path(__file__).parents[2]
PARTS = '{% from "parts.html.jinja" import heading, sections, table %}'


def rendered(folder: Path, body: str, title: str = "title", **values: object) -> str:
    """A page with this template as its body."""
    (folder / "test.html.jinja").write_text(
        f'{{% extends "page.html.jinja" %}}{PARTS}{{% block body %}}{body}{{% endblock %}}'
    )
    return page.render(folder, "test.html.jinja", title=title, **values)


def test_a_page_may_fetch_and_run_nothing(tmp_path: Path) -> None:
    html = rendered(tmp_path, "<p>body</p>", "<title>")
    assert html.startswith("<!DOCTYPE html>")
    assert "default-src 'none'" in html and "script-src" not in html
    assert "<title>&lt;title&gt;</title>" in html and '<h1 dir="auto">&lt;title&gt;</h1>' in html


def test_values_are_escaped_and_charts_are_not(tmp_path: Path) -> None:
    chart = charts.interval_bar(0.2, None, 0.5)
    html = rendered(
        tmp_path, "<p title='{{ text }}'>{{ text }}</p>{{ chart }}", "", text=ATTACK, chart=chart
    )
    parsed = Parsed(html)
    assert parsed.all("p") == [{"title": ATTACK}] and ATTACK in parsed.text
    assert not parsed.all("script") and not parsed.all("img")
    assert len(parsed.all("svg")) == 1


def test_missing_value_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="nothing"):
        rendered(tmp_path, "{{ nothing }}")


def test_style_sheet_is_in_the_page_as_it_is(tmp_path: Path) -> None:
    style = (page.TEMPLATES / "style.css").read_text()
    assert style in rendered(tmp_path, "") and '.insert::before { content: "+"; }' in style


def test_sections_without_content_have_no_link(tmp_path: Path) -> None:
    body = '{% set x %}<p>x</p>{% endset %}{{ sections([("a", "A", x), ("b", "B", "")]) }}'
    html = "".join(rendered(tmp_path, body).splitlines())
    assert '<nav><a href="#a">A</a></nav><section id="a"><h2>A</h2><p>x</p></section>' in html


def test_columns_of_a_table_may_have_names(tmp_path: Path) -> None:
    row = '<tr><th scope="row">a</th><td>1</td></tr>'
    body = f'{{% call table(["", "n"], "bars") %}}{row}{{% endcall %}}'
    html = rendered(tmp_path, body)
    assert '<th scope="col">n</th>' in html and row in html and '<table class="bars">' in html
    assert "<thead>" not in rendered(tmp_path, f"{{% call table([]) %}}{row}{{% endcall %}}")


def test_ids_are_escaped_in_headings(tmp_path: Path) -> None:
    html = rendered(tmp_path, '{% call heading("<b>") %}<i>1 error</i>{% endcall %}')
    assert "<bdi>&lt;b&gt;</bdi></b> <span><i>1 error</i></span>" in html


def test_numbers_are_formatted() -> None:
    assert [page.count(0, "error"), page.count(1, "error"), page.count(1234, "error")] == [
        "0 errors",
        "1 error",
        "1,234 errors",
    ]
    assert (page.percent(0.12345), page.percent(0.5, 1)) == ("12.35%", "50.0%")
    assert page.thousands(1234567) == "1,234,567"


def test_templates_are_in_the_installed_package() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    shipped = settings["options.package_data"]
    templates = [path for path in (ROOT / "speech").rglob("templates/*") if path.is_file()]
    assert len(templates) >= 6
    for path in templates:
        package = ".".join(path.relative_to(ROOT).parts[:2])
        assert any(path.match(pattern) for pattern in shipped[package].split(", ")), path
