"""The pre-flight's page, read by a parser: complete, escaped, without external files."""

import base64
import io
import re
from html import unescape
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
from parsed_html import ATTACK, Parsed
from planted_corpus import SETTINGS, Corpus, clean_corpus, planted_corpus, voice

from speech.preflight import page
from speech.preflight.examine import examine
from speech.preflight.findings import Findings, Kind
from speech.preflight.page import render
from speech.preflight.terminal import ADVICE

ARABIC = "\u0627\u0650\u0628\u0639\u062b \u0644\u064a"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return planted_corpus(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def found(planted: Corpus) -> Findings:
    return examine(planted.sets, planted.settings_of, 1)


@pytest.fixture(scope="module")
def html(planted: Corpus, found: Findings) -> str:
    return render(found, planted.settings_of)


def page_of(corpus: Corpus) -> str:
    sets = {"train": corpus.sets["train"]}
    return render(examine(sets, {"train": SETTINGS}, 1), {"train": SETTINGS})


def player_seconds(html: str) -> list[float]:
    players = Parsed(html).all("audio")
    contents = [base64.b64decode(each["src"].split(",")[1]) for each in players]
    return [soundfile.info(io.BytesIO(content)).duration for content in contents]


def test_elements_are_closed_and_every_kind_has_its_section_and_advice(
    html: str, found: Findings
) -> None:
    parsed = Parsed(html)
    sections = {section["id"] for section in parsed.all("section")}
    assert {link["href"] for link in parsed.all("a")} == {f"#{name}" for name in sections}
    assert len(sections) == 2 + len(tuple(Kind))
    for kind in tuple(Kind):
        assert ADVICE[kind] in parsed.words
        assert kind[1:] in parsed.words
    assert f"Found {found.errors} errors and {found.warnings} warnings" in parsed.words


def test_headings_follow_each_other(html: str) -> None:
    levels = [int(level) for level in re.findall(r"<h([1-6])", html)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_nothing_comes_from_elsewhere(html: str) -> None:
    parsed = Parsed(html)
    assert "default-src 'none'" in parsed.all("meta")[1]["content"]
    assert not parsed.all("script") and not parsed.all("img") and not parsed.all("style", src="")
    for _, attributes in parsed.elements:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))


def test_every_finding_among_the_worst_has_an_article_with_its_detail(
    html: str, found: Findings
) -> None:
    parsed = Parsed(html)
    assert len(parsed.all("article")) == len(found.findings)
    for each in found.findings:
        assert " ".join(each.detail.split()) in parsed.words
        assert each.utterance.where in parsed.words


def test_recordings_are_played_once_and_at_most_20_seconds(html: str, found: Findings) -> None:
    playable = {
        each.utterance.utterance_id
        for each in found.findings
        if each.kind not in (Kind.MISSING, Kind.UNREADABLE, Kind.EMPTY)
    }
    seconds = player_seconds(html)
    assert len(seconds) == len(playable)
    assert max(seconds) == 20.0 and "The first 20 s." in html
    assert "Its audio is further up." in html  # of those with several findings


def test_players_stop_where_the_page_is_large_enough(planted: Corpus, found: Findings) -> None:
    with mock.patch.object(page, "PLAYERS_BYTES", 200_000):
        html = render(found, planted.settings_of)
    inside = sum(
        len(base64.b64decode(each["src"].split(",")[1])) for each in Parsed(html).all("audio")
    )
    assert 100_000 < inside <= 200_000
    assert "No player: the page holds enough." in html


def test_waveforms_show_what_is_cut_and_where_nothing_is_said(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    quiet = np.zeros(3 * 16000)
    clipped = np.clip(5 * voice("clipped", 3), -1, 1)
    corpus.add("both", np.concatenate([quiet, clipped]))
    html = page_of(corpus)
    assert 'class="cut"' in html
    (shaded, *_) = re.findall(r'class="silent" x="0.0" width="([\d.]+)"', html)
    assert float(shaded) == pytest.approx(150, abs=8)  # of 300
    corpus = Corpus(tmp_path)
    corpus.add("quiet", np.zeros(16000))
    assert 'class="cut"' not in page_of(corpus) and 'class="silent"' not in page_of(corpus)


def test_only_the_worst_are_on_the_page(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(11):
        corpus.add(f"{number}", voice(f"{number}", 1) + 0.1)
    html = page_of(corpus)
    assert "The worst 8 of 11." in html
    assert len(Parsed(html).all("article")) == 8


def test_what_the_corpus_says_is_escaped(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.add("attack", voice("attack", 3), ATTACK, speaker=ATTACK, place=ATTACK)
    sets = {ATTACK: corpus.sets["train"], "other": corpus.sets["train"]}
    settings = dict.fromkeys(sets, SETTINGS)
    html = render(examine(sets, settings, 1), settings)
    parsed = Parsed(html)
    assert "<script>" not in html and not parsed.all("img")
    assert parsed.words.count("http://example.com/x.png") >= 4
    transcripts = re.findall(r'<p class="transcript" dir="auto">(.*?)</p>', html)
    assert {re.sub("<.*?>", "", each).count("&lt;script&gt;") for each in transcripts} == {1}


def test_unknown_characters_are_marked_with_the_letters_they_belong_to(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.add("arabic", voice("arabic", 1), f"a {ARABIC} b\u00a042")
    html = page_of(corpus)
    (transcript,) = set(re.findall(r'<p class="transcript" dir="auto">(.*?)</p>', html))
    marked = re.findall(r'<mark title="(.*?)">(.*?)</mark>', unescape(transcript))
    words = [text for _, text in marked]
    assert words == [*ARABIC.split(), "<bdi>U+00A0</bdi>42"]
    assert marked[0][0].startswith("'\u0627' (U+0627, ARABIC LETTER ALEF); ")
    assert "'\u25cc\u0650' (U+0650, ARABIC KASRA) 1" in Parsed(html).words


def test_a_clean_corpus_has_its_numbers_and_no_findings(tmp_path: Path) -> None:
    corpus = clean_corpus(tmp_path)
    found = examine(corpus.sets, corpus.settings_of, 1)
    path = page.write(str(tmp_path / "report"), found, corpus.settings_of)
    assert path == str(tmp_path / "report" / "check.html")
    parsed = Parsed(Path(path).read_text("utf-8"))
    assert "Found nothing wrong in 32 utterances." in parsed.words
    assert not parsed.all("article") and not parsed.all("audio")
    assert len(parsed.all("svg")) == 2 * 3  # lengths and rates of each set
    assert f"train 24 {found.sets[0].hours:.2f} 1 " in parsed.words


def test_sets_in_which_nothing_can_be_read_have_a_page(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.add("gone", audio_path=str(tmp_path / "no.wav"), audio_bytes=None)
    parsed = Parsed(page_of(corpus))
    assert not parsed.all("svg") and not parsed.all("section", id="numbers")
    assert len(parsed.all("article")) == 1
