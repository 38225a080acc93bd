"""What the HTML pages share."""

from speech.html.page import count, document, heading, sections, table


def test_a_page_may_fetch_and_run_nothing() -> None:
    html = document("<title>", ["<p>body</p>"])
    assert "default-src 'none'" in html and "script-src" not in html
    assert "<title>&lt;title&gt;</title>" in html and '<h1 dir="auto">&lt;title&gt;</h1>' in html


def test_sections_without_content_have_no_link() -> None:
    links, *body = sections([("a", "A", "<p>x</p>"), ("b", "B", "")])
    assert links == '<nav><a href="#a">A</a></nav>'
    assert body == ['<section id="a"><h2>A</h2><p>x</p></section>']


def test_rows_begin_with_their_names() -> None:
    html = table(["", "n"], [["a", "1"]], "bars")
    assert '<th scope="col">n</th>' in html and '<tr><th scope="row">a</th><td>1</td></tr>' in html
    assert "<thead>" not in table([], [["a", "1"]])


def test_numbers_have_their_plural_and_ids_are_escaped() -> None:
    assert [count(0, "error"), count(1, "error"), count(1234, "error")] == [
        "0 errors",
        "1 error",
        "1,234 errors",
    ]
    assert "&lt;b&gt;" in heading("<b>", "")
