"""Subtitles and JSON, read back by strict parsers."""

import html
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.decoding.alignment import TimedWord
from speech.transcription.subtitles import (
    CUE_PAUSE_SECONDS,
    LINE_CHARACTERS,
    Cue,
    Transcript,
    cues,
    deepspeech_json,
    join_words,
    plain_text,
    recording_json,
    srt,
    webvtt,
)


def spoken(
    text: str, start: float = 0.0, seconds: float = 0.3, gap: float = 0.1
) -> list[TimedWord]:
    """Returns the text's words, all with the same duration and gap."""
    words = text.split(" ")
    return [TimedWord(word, start + i * (seconds + gap), seconds) for i, word in enumerate(words)]


def milliseconds(stamp: str) -> int:
    hours, minutes, seconds, thousandths = map(int, re.split("[:.,]", stamp))
    assert minutes < 60 and seconds < 60
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths


def parsed_cue(stamps: str, lines: list[str], point: str) -> Cue:
    time = rf"(\d\d+:\d\d:\d\d{point}\d\d\d)"
    found = re.fullmatch(f"{time} --> {time}", stamps)
    assert found is not None
    assert lines and all(lines)
    return Cue(milliseconds(found[1]), milliseconds(found[2]), tuple(lines))


def parsed_srt(text: str) -> list[Cue]:
    if not text:
        return []
    assert text.endswith("\n\n")
    made = []
    for i, block in enumerate(text[:-2].split("\n\n"), start=1):
        number, stamps, *lines = block.split("\n")
        assert number == str(i) and "-->" not in "".join(lines)
        made.append(parsed_cue(stamps, lines, ","))
    return made


def parsed_webvtt(text: str) -> list[Cue]:
    head, rest = text[:8], text[8:]
    assert head == "WEBVTT\n\n"
    made = []
    for block in rest[:-2].split("\n\n") if rest else []:
        stamps, *lines = block.split("\n")
        for line in lines:
            assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", line)
        made.append(parsed_cue(stamps, [html.unescape(line) for line in lines], r"\."))
    return made


def check(made: list[Cue]) -> None:
    """Checks what holds for all subtitles."""
    before = 0
    for cue in made:
        assert before <= cue.start < cue.end <= cue.start + 7000
        assert 1 <= len(cue.lines) <= 2
        assert all(0 < len(line) <= LINE_CHARACTERS for line in cue.lines)
        before = cue.end


def test_srt_has_the_format_of_players() -> None:
    words = [TimedWord("hello", 1.0, 0.4), TimedWord("world", 1.5, 0.9)]
    words += [TimedWord("bye", 3661.25, 1.1235)]
    assert srt(words) == (
        "1\n00:00:01,000 --> 00:00:02,400\nhello world\n\n2\n01:01:01,250 --> 01:01:02,374\nbye\n\n"
    )
    assert srt([]) == ""


def test_webvtt_is_escaped() -> None:
    assert webvtt([TimedWord("<b>", 0.0, 1.5), TimedWord("&amp;", 1.5, 0.5)]) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n&lt;b&gt; &amp;amp;\n\n"
    )
    assert webvtt([]) == "WEBVTT\n\n"


def test_cue_ends_at_a_pause() -> None:
    words = [*spoken("one two"), *spoken("three", start=0.71 + CUE_PAUSE_SECONDS)]
    assert [cue.lines for cue in cues(words)] == [("one two",), ("three",)]
    assert (
        len(cues([*spoken("one two"), *spoken("three", start=0.7 + CUE_PAUSE_SECONDS - 0.1)])) == 1
    )


def test_lines_have_similar_lengths() -> None:
    (cue,) = cues(spoken("the quick brown fox jumps over the lazy dog again", gap=0.0))
    assert cue.lines == ("the quick brown fox jumps", "over the lazy dog again")


def test_long_text_is_split_at_the_longest_gap_of_its_later_half() -> None:
    text = "a word and more of it that goes on and on until no line can hold what there is to say"
    words = spoken(text, seconds=0.2, gap=0.05)
    moved = [*words[:13], *(TimedWord(w.text, w.start + 0.3, w.duration) for w in words[13:])]
    first, second = cues(moved)
    assert " ".join(first.lines) == " ".join(text.split()[:13])
    assert " ".join(second.lines) == " ".join(text.split()[13:])


def test_short_cue_stays_a_second_unless_the_next_one_starts() -> None:
    words = [TimedWord("a", 0.0, 0.1), TimedWord("b", 0.8, 0.1), TimedWord("c", 5.0, 0.1)]
    assert [(cue.start, cue.end) for cue in cues(words)] == [(0, 800), (800, 1800), (5000, 6000)]


def test_word_of_a_minute_is_shown_for_seven_seconds() -> None:
    assert cues([TimedWord("ah", 1.0, 60.0)]) == [Cue(1000, 8000, ("ah",))]


def test_word_longer_than_a_line_is_split_in_text_and_time() -> None:
    made = cues([TimedWord("a" * 100, 0.0, 4.0)])
    check(made)
    assert "".join(line for cue in made for line in cue.lines) == "a" * 100


def test_words_without_duration_have_cues_with_a_duration() -> None:
    made = cues([TimedWord("�" * 40, 1.0, 0.0) for _ in range(6)])
    check(made)
    assert len(made) == 3


def test_chinese_japanese_and_alphabets_without_a_space_are_joined_without_spaces() -> None:
    assert join_words(spoken("你 好 world 再 见")) == "你好 world 再见"
    assert join_words(spoken("ก ข ค"), separator="") == "กขค"
    assert cues(spoken("ก ข ค"), separator="")[0].lines == ("กขค",)


def test_right_to_left_text_is_in_the_order_it_is_read() -> None:
    text = "מה שלומך היום السلام علیکم می\u200cخواهم"  # noqa: RUF001 - not what looks like it
    (made,) = parsed_srt(srt(spoken(text, gap=0.0)))
    assert " ".join(made.lines) == text


def test_plain_text_has_a_line_for_words_without_a_pause() -> None:
    words = [*spoken("one two"), *spoken("three four", start=5)]
    assert plain_text(words) == "one two\nthree four\n"
    assert plain_text([]) == ""


TEXTS = st.text(st.sampled_from("abc<>&-\n\r\t\x00\u2028\u200fשב好.;1\u0301 "), max_size=60)
WORDS = st.lists(
    st.tuples(TEXTS, st.floats(0, 2), st.sampled_from([0.0, 0.0004, 0.3, 3.0, 9.0])), max_size=30
)


@settings(deadline=None, max_examples=60)
@given(WORDS, st.sampled_from([" ", ""]))
def test_all_words_are_in_readable_cues(
    spoken_words: list[tuple[str, float, float]], separator: str
) -> None:
    words, time = [], 0.0
    for text, gap, duration in spoken_words:
        words.append(TimedWord(text, time + gap, duration))
        time += gap + duration
    made = cues(words, separator)
    check(made)
    assert parsed_webvtt(webvtt(words, separator)) == made
    assert parsed_srt(srt(words, separator)) == [
        Cue(cue.start, cue.end, tuple(line.replace("-->", "→") for line in cue.lines))
        for cue in made
    ]

    def letters(text: str) -> str:
        return re.sub(r"[\s\x00]", "", text)

    assert letters("".join(line for cue in made for line in cue.lines)) == letters(
        "".join(word.text for word in words)
    )


def test_json_is_the_json_of_deepspeech() -> None:
    words = (TimedWord("hi", 0.123456, 0.2), TimedWord("you", 0.4, 0.30000001))
    text = deepspeech_json([Transcript(words, -12.5), Transcript((), -20.0)])
    assert json.loads(text) == {
        "transcripts": [
            {
                "confidence": -12.5,
                "words": [
                    {"word": "hi", "start_time": 0.1235, "duration": 0.2},
                    {"word": "you", "start_time": 0.4, "duration": 0.3},
                ],
            },
            {"confidence": -20.0, "words": []},
        ]
    }
    assert text.startswith('{\n  "transcripts": [\n    {\n      "confidence": -12.5,\n')


def test_json_of_a_recording_has_its_text_and_segments() -> None:
    segments = [
        Transcript(tuple(spoken("guten tag")), -1.0),
        Transcript((TimedWord("grüße", 20.5, 0.5),), -2.0),
    ]
    text = recording_json("ä\udcff.wav", 21.3, segments)
    assert "grüße" in text and text.encode()
    content = json.loads(text)
    assert content["audio"] == "ä\\udcff.wav"
    assert content["seconds"] == 21.3 and content["text"] == "guten tag grüße"
    assert [each["text"] for each in content["segments"]] == ["guten tag", "grüße"]
    assert content["segments"][1] == {
        "text": "grüße",
        "confidence": -2.0,
        "words": [{"word": "grüße", "start_time": 20.5, "duration": 0.5}],
    }


def test_numbers_that_are_not_finite_are_refused() -> None:
    for number in (float("nan"), float("-inf")):
        with pytest.raises(ValueError, match="JSON"):
            deepspeech_json([Transcript((), number)])
