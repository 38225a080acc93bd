"""JSON lines, Baidu's and NeMo's manifests are read as utterances."""

import json
from pathlib import Path

import pytest
from sounds import write_sound

from speech.corpora.formats import json_lines
from speech.corpora.formats.reading import Reading
from speech.corpora.utterance import Utterance
from utils import UserError


def manifest(tmp_path: Path, text: str) -> str:
    path = tmp_path / "ru" / "train.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def listed(tmp_path: Path, text: str, audio_root: str | None = None) -> list[Utterance]:
    return json_lines.read(manifest(tmp_path, text), Reading(audio_root))


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(UserError) as error:
        listed(tmp_path, text)
    return str(error.value)


def test_baidus_lines_state_the_length_of_files(tmp_path: Path) -> None:
    wav = write_sound(tmp_path / "ru/wav/x.wav")
    line = json.dumps({"key": "wav/x.wav", "duration": 1, "text": "да\u2028"}, ensure_ascii=False)
    (found,) = listed(tmp_path, f"\n{line}\r\n")
    assert found == Utterance(
        "ru/wav/x",
        str(wav),
        "да\u2028",
        "",
        wav.stat().st_size,
        stated_seconds=1.0,
        place=f"{tmp_path}/ru/train.json:2",
    )


def test_nemos_offset_makes_a_segment(tmp_path: Path) -> None:
    line = '{"audio_filepath": "x.wav", "text": "a", "speaker": 7, "duration": 2.5, "offset": %s}\n'
    offset, start, none = listed(tmp_path, line % "12.5" + line % "0" + line % "null")
    assert offset.utterance_id == "7-ru/x@12.5" and offset.speaker == "7"
    assert (offset.start_seconds, offset.seconds, offset.stated_seconds) == (12.5, 2.5, None)
    assert start.utterance_id == "7-ru/x@0"
    assert (start.start_seconds, start.seconds, start.stated_seconds) == (0.0, 2.5, None)
    assert none.utterance_id == "7-ru/x"
    assert (none.start_seconds, none.seconds, none.stated_seconds) == (0.0, None, 2.5)
    (rest,) = listed(tmp_path, '{"audio_filepath": "x.wav", "text": "a", "offset": 3}')
    assert (rest.start_seconds, rest.seconds) == (3.0, None)


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_with_the_lines_of_its_objects(tmp_path: Path, indent: int | None) -> None:
    objects = [{"key": f"{name}.wav", "text": "a [b] {c}"} for name in "xyz"]
    found = listed(tmp_path, "\n" + json.dumps(objects, indent=indent) + "\n")
    assert [each.utterance_id for each in found] == ["ru/x", "ru/y", "ru/z"]
    lines = [int(each.place.rpartition(":")[2]) for each in found]
    assert lines == ([2, 2, 2] if indent is None else [3, 7, 11])
    assert listed(tmp_path, "[ ]") == []


def test_paths_start_at_the_audio_root_if_there_is_one(tmp_path: Path) -> None:
    (found,) = listed(tmp_path, '{"key": "x.wav", "text": ""}', str(tmp_path / "en"))
    assert found.audio_path == str(tmp_path / "en/x.wav")
    assert (found.transcript, found.stated_seconds) == (None, None)


@pytest.mark.parametrize(
    ("line", "expected_message"),
    [
        ('{"key": "x.wav"}', "no text"),
        ('{"text": "a"}', "neither audio_filepath nor key, the path of the audio"),
        ('{"key": " ", "text": "a"}', "' ' is not a path"),
        ('{"key": 7, "text": "a"}', "7 is not a path"),
        ('{"key": "a\\u0000", "text": "a"}', "'a\\x00' is not a path"),
        ('{"key": "x.wav", "text": ["a"]}', "text is ['a'], not a text"),
        (
            '{"key": "x.wav", "text": "a", "duration": "2s"}',
            "duration is '2s', not a number of seconds",
        ),
        ('{"key": "x.wav", "text": "a", "offset": -1}', "offset is -1, not a number of seconds"),
        (
            '{"key": "x.wav", "text": "a", "offset": true}',
            "offset is True, not a number of seconds",
        ),
        (
            '{"key": "x.wav", "text": "a", "duration": NaN}',
            "duration is nan, not a number of seconds",
        ),
        (
            '{"key": "x.wav", "text": "a", "duration": Infinity}',
            "duration is inf, not a number of seconds",
        ),
        ('{"key": "x.wav", "text": "\\ud800"}', "'\\ud800' has half a character"),
        ("{'key': 1}", "not JSON (Expecting property name enclosed in double quotes)"),
        ("7", "not a JSON object, {...}"),
        ("[" * 100_000, "not JSON (maximum recursion depth exceeded"),
    ],
)
def test_bad_lines_are_refused(tmp_path: Path, line: str, expected_message: str) -> None:
    good = '{"key": "x.wav", "text": "a"}'
    assert f"line 2: {expected_message}" in refusal(tmp_path, f"{good}\n{line}\n{good}\n")


def test_all_bad_lines_are_in_one_error(tmp_path: Path) -> None:
    message = refusal(tmp_path, '{"key": "x.wav"}\n' * 12)
    assert "line 1: no text; line 2: no text" in message
    assert message.endswith("line 10: no text; and 2 more. Correct or remove them.")


@pytest.mark.parametrize(
    ("text", "expected_message"),
    [
        ('[\n{"key": "x.wav", "text": "a"}\n{"key"', "line 2: neither , nor ] after the object"),
        ('[\n{"key": "x.wav", "text": "a"},\n{"key"}]', "line 3: not JSON (Expecting ':'"),
        ('[\n{"key": "x.wav", "text": "a"}', "line 2: neither , nor ] after the object"),
        ('[{"key": "x.wav", "text": "a"},\n]', "line 2: not JSON (Expecting value)"),
        ('[{"key": "x.wav", "text": "a"}\n]\n[]', "line 2: text after the last ]"),
        ("[", "line 1: not JSON (Expecting value)"),
        ("[7]", "line 1: not a JSON object, {...}"),
    ],
)
def test_broken_arrays_are_refused(tmp_path: Path, text: str, expected_message: str) -> None:
    assert expected_message in refusal(tmp_path, text)
