"""The HTML report, read by a parser: complete, escaped, without external files."""

import base64
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from parsed_html import ATTACK, Parsed

from speech.corpora.recordings import find_audio
from speech.evaluation import report_page
from speech.evaluation.comparison import compare_runs
from speech.evaluation.report_page import Page, render, write_index
from speech.evaluation.results import Result, Summary, compare, summarise
from speech.evaluation.sweeps import BeamPoint, WeightPoint

WriteSplit = Callable[[Path, dict[str, str]], None]

ARABIC = "ابعث لي رسالة"


def results_of(*pairs: tuple[str, str]) -> list[Result]:
    return [compare(f"{84 + i % 2}-1-{i:04d}", *pair, 1.5) for i, pair in enumerate(pairs)]


RESULTS = results_of(
    ("the cat sat on the mat", "a cat sat on mat"),
    ("she had your dark suit", "she had your dark suit in"),
    ("a < b & c", ATTACK),
    (ARABIC, "ابعث رسالة"),
    ("one two three", "one two three"),
    ("four", "for"),
)
OTHERS = results_of(
    *((each.reference, "the cat sat on the") for each in RESULTS[:1]),
    *((each.reference, each.hypothesis) for each in RESULTS[1:]),
)
SUMMARY = summarise(RESULTS, OTHERS, 2.0, 60.0, 12345, {"beam_width": 100, "scorer": None})


def page_of(results: list[Result], summary: Summary) -> Page:
    return Page("test-clean", summary, results)


def full_page(title: str = "test-clean") -> Page:
    """With every section."""
    return Page(
        title,
        SUMMARY,
        RESULTS,
        lambda utterance_id: b"fLaC" + utterance_id.encode(),
        [BeamPoint(1, 0.3), BeamPoint(100, 0.2)],
        [WeightPoint(0.5, 1.0, 0.25), WeightPoint(1.0, 1.0, 0.2)],
        (1.0, 1.0),
        compare_runs(RESULTS, OTHERS, "other/summary.json"),
    )


# --- The file -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page",
    [
        full_page(),
        page_of(RESULTS, SUMMARY),
        page_of([], summarise([], [], 0.0, 0.0, 0)),
        page_of(RESULTS[4:5], summarise(RESULTS[4:5], RESULTS[4:5], 1.0, 1.0, 1)),
        page_of(results_of(("", "")), summarise([], [], 0.0, 0.0, 0)),
    ],
)
def test_elements_are_closed_in_their_order_and_links_lead_somewhere(page: Page) -> None:
    parsed = Parsed(render(page))
    sections = {section["id"] for section in parsed.all("section")}
    links = {link["href"] for link in parsed.all("a")}
    assert links == {f"#{section}" for section in sections}
    assert {"summary", "lengths", "words", "letters", "utterances"} <= sections


def test_nothing_comes_from_the_network_and_nothing_runs() -> None:
    html = render(full_page(ATTACK))
    parsed = Parsed(html)
    assert not {"script", "img", "iframe", "object", "embed"} & {tag for tag, _ in parsed.elements}
    for tag, attributes in parsed.elements:
        for name, value in attributes.items():
            if name in ("src", "href"):
                assert value.startswith(("#", "data:")), f"{tag} {name}={value[:50]}"
            assert not name.startswith("on")
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)[0]
    assert "url(" not in style and "@import" not in style
    (policy,) = parsed.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none';")
    assert "script-src" not in policy["content"]


def test_texts_are_escaped_and_come_back_as_they_were() -> None:
    parsed = Parsed(render(full_page(ATTACK)))
    for word in ATTACK.split():
        assert word in parsed.text
    assert parsed.words.count(ATTACK) == 2  # title and heading


def test_every_text_has_its_own_direction() -> None:
    parsed = Parsed(render(page_of(RESULTS, SUMMARY)))
    alignments = parsed.all("p", **{"class": "alignment"})
    assert len(alignments) == len(RESULTS)
    directions = [alignment["dir"] for alignment in alignments]
    assert directions.count("rtl") == 1 and directions.count("ltr") == len(RESULTS) - 1


@pytest.mark.parametrize(
    ("reference", "hypothesis", "direction"),
    [
        (ARABIC, "the " + ARABIC, "rtl"),  # an inserted word doesn't change it
        (f"file_12.csv {ARABIC}", "", "rtl"),
        ("please call محمد now", ARABIC, "ltr"),
        ("محمد ok", "", "rtl"),
        ("ok محمد", "", "ltr"),
        ("", ARABIC, "rtl"),
        ("1 2", "3", "ltr"),
        ("", "", "ltr"),
    ],
)
def test_direction_is_that_of_most_words(reference: str, hypothesis: str, direction: str) -> None:
    html = render(page_of(results_of((reference, hypothesis)), SUMMARY))
    (alignment,) = Parsed(html).all("p", **{"class": "alignment"})
    assert alignment["dir"] == direction


def test_words_of_a_right_to_left_text_are_in_their_order() -> None:
    html = render(page_of(results_of(("فتح file.csv الباب", "فتح c++ الباب")), SUMMARY))
    found = re.findall(r'<p class="alignment" dir="rtl">(.*?)</p>', html)[0]
    assert re.sub(r"(<.*?>|\s)+", " ", found).split() == (
        ["فتح", "فتح", "file.csv", "c++", "الباب", "الباب"]
    )


def test_a_mark_alone_stands_on_a_circle() -> None:
    parsed = Parsed(render(page_of(results_of(("فُتح", "فَتح")), SUMMARY)))
    assert "\u25cc\u064f \u2192 \u25cc\u064e 1" in parsed.words


def test_both_schemes_and_narrow_screens_are_styled() -> None:
    parsed = Parsed(render(page_of(RESULTS, SUMMARY)))
    assert parsed.all("meta", name="viewport", content="width=device-width, initial-scale=1")
    assert parsed.all("meta", name="color-scheme", content="light dark")
    html = render(page_of(RESULTS, SUMMARY))
    assert "@media (prefers-color-scheme: dark)" in html and "@media (max-width:" in html


def test_report_is_written_beside_the_summary(tmp_path: Path) -> None:
    path = report_page.write(str(tmp_path / "report"), full_page())
    assert path == str(tmp_path / "report" / "report.html")
    assert (tmp_path / "report" / "report.html").read_text("utf-8") == render(full_page())


# --- Numbers --------------------------------------------------------------------------------------


def test_summary_has_the_summarys_numbers() -> None:
    words = Parsed(render(page_of(RESULTS, SUMMARY))).words
    for name, rate, (low, high), greedy in (
        ("WER", SUMMARY.wer, SUMMARY.wer_interval, SUMMARY.greedy_wer),
        ("CER", SUMMARY.cer, SUMMARY.cer_interval, SUMMARY.greedy_cer),
    ):
        assert f"{name} {rate:.2%} {low:.2%} to {high:.2%} {greedy:.2%}" in words
    count = SUMMARY.substitutions
    assert f"words substituted {count} ({count / SUMMARY.words:.2%})" in words
    assert f"words left out {SUMMARY.deletions} (" in words
    assert f"words put in {SUMMARY.insertions} (" in words
    assert f"utterances 6 words {SUMMARY.words} " in words
    assert "loss, mean 1.50 nats" in words
    assert "step 12,345" in words
    assert "cosine" not in words  # it is no accuracy, and is only in summary.json
    assert "decoder: beam_width 100 decoder: scorer none" in words


def test_groups_have_a_bar_and_their_rates() -> None:
    parsed = Parsed(render(page_of(RESULTS, SUMMARY)))
    assert len(parsed.all("svg", **{"class": "bar"})) == 2 + 2  # lengths and speakers
    whole = sum(result.words.total for result in RESULTS[::2])
    length = sum(result.words.length for result in RESULTS[::2])
    assert f"84 {whole / length:.2%}" in parsed.words


def test_many_speakers_are_cut_to_the_worst() -> None:
    results = [compare(f"{i}-1-1", "a b", "a b" if i < 7 else "a", 1.0) for i in range(45)]
    parsed = Parsed(render(page_of(results, SUMMARY)))
    assert "The other 5 have lower rates." in parsed.words
    assert len(parsed.all("svg", **{"class": "bar"})) == 1 + report_page.SPEAKERS


def test_ids_without_speakers_have_no_such_section() -> None:
    results = [compare("a", "b", "b", 1.0)]
    assert not Parsed(render(page_of(results, SUMMARY))).all("section", id="speakers")


def test_confusions_are_listed_with_their_counts() -> None:
    results = results_of(*[("the cat ran", "a cat ran up")] * 3, ("ice cream", "icecream"))
    words = Parsed(render(page_of(results, SUMMARY))).words
    assert "the \u2192 a 3" in words
    assert "up 3" in words
    assert "\u2423 1" in words  # the space that was lost


# --- Utterances -----------------------------------------------------------------------------------


def alignment_of(reference: str, hypothesis: str) -> list[tuple[str, str, str]]:
    """(kind, above, below) of every word of an utterance alone in its report."""
    html = render(page_of(results_of((reference, hypothesis)), SUMMARY))
    found = re.findall(r'<p class="alignment" dir="ltr">(.*?)</p>', html)[0]
    pattern = r'<span class="(\w+)"><span>(.*?)</span><span>(.*?)</span></span>'
    return re.findall(pattern, found)


def test_reference_is_above_the_hypothesis_word_by_word() -> None:
    assert alignment_of("the old cat sat on", "the cat sat an quickly") == [
        ("equal", "the", "the"),
        ("delete", "old", "\u2013"),
        ("equal", "cat", "cat"),
        ("equal", "sat", "sat"),
        ("substitute", "on", "an"),
        ("insert", "\u2013", "quickly"),
    ]


def test_kinds_of_errors_differ_by_marks_and_not_by_colour_alone() -> None:
    html = render(page_of(RESULTS, SUMMARY))
    marks = [
        re.search(rf'\.{kind}::before {{ content: "(.*?)"', html)
        for kind in ("substitute", "delete", "insert")
    ]
    assert len({mark[1] for mark in marks if mark}) == 3


def test_recordings_are_inside_and_copies_are_marked(
    tmp_path: Path, write_split: WriteSplit
) -> None:
    write_split(tmp_path, {"84-1-0000": "A", "84-1-0001": "B"})
    results = [
        compare("84-1-0000", "a", "a", 1.0),
        compare("84-1-0001#2", "b", "c", 1.0),
        compare("84-1-0002", "b", "c d", 1.0),
    ]
    page = Page("test", SUMMARY, results, find_audio([str(tmp_path)]))
    parsed = Parsed(render(page))
    players = parsed.all("audio")
    contents = {base64.b64decode(player["src"].split(",")[1]) for player in players}
    assert contents == {path.read_bytes() for path in tmp_path.rglob("*.flac")}
    assert all("controls" in player for player in players) and len(players) == 2
    assert parsed.words.count("before augmentation") == 1


def test_without_recordings_there_are_no_players() -> None:
    assert not Parsed(render(page_of(RESULTS, SUMMARY))).all("audio")


# --- Comparison and sweeps ------------------------------------------------------------------------


def test_comparison_has_its_numbers_and_what_changed() -> None:
    page = full_page()
    parsed = Parsed(render(page))
    found = page.comparison
    assert found is not None
    assert "There: other/summary.json . Of 6 utterances 1 were recognised differently." in (
        parsed.words
    )
    difference = found.wer
    assert (
        f"WER {found.wer_before:.2%} {SUMMARY.wer:.2%} {100 * difference.rate:+.2f} "
        f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f} {difference.p_value:.3f}"
    ) in parsed.words
    assert "84-1-0000 1 error more there: WER 16.7%: 1 error in 6 words" in parsed.words
    assert "here: WER 33.3%: 2 errors in 6 words" in parsed.words


def test_comparison_and_sweeps_are_left_out_where_there_are_none() -> None:
    sections = {each["id"] for each in Parsed(render(page_of(RESULTS, SUMMARY))).all("section")}
    assert not sections & {"comparison", "sweeps"}


def test_sweeps_are_drawn() -> None:
    parsed = Parsed(render(full_page()))
    labels = [svg["aria-label"] for svg in parsed.all("svg", role="img")]
    assert labels == ["WER over beam width", "WER over alpha and beta"]
    assert "beam width WER 1 30.00% 100 20.00%" in parsed.words
    assert "framed: nearest to alpha 1, beta 1" in parsed.words
    assert len(parsed.all("rect", **{"class": "chosen"})) == 1


# --- The index ------------------------------------------------------------------------------------


def test_index_lists_the_sets_with_links_to_their_reports(tmp_path: Path) -> None:
    path = write_index(
        str(tmp_path),
        [("test-clean", "test-clean/report.html", SUMMARY), (ATTACK, "b.html", SUMMARY)],
    )
    assert path == str(tmp_path / "index.html")
    parsed = Parsed(Path(path).read_text("utf-8"))
    assert [link["href"] for link in parsed.all("a")] == ["test-clean/report.html", "b.html"]
    low, high = SUMMARY.wer_interval
    assert f"test-clean {SUMMARY.wer:.2%} {low:.2%} to {high:.2%}" in parsed.words
    assert ATTACK in parsed.words
