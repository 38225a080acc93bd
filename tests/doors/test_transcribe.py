"""The door transcribe.py with a tiny model."""

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from doors import assert_refused, run_door, run_here
from tiny_models import noise, write_model

import transcribe
from speech.export import loading
from speech.transcription.transcriber import Transcriber


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transcribe") / "model"
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for name, samples in (("one.wav", 16000), ("two.flac", 24000)):
        soundfile.write(folder / name, noise(samples), 16000)
    return folder


def text_of(model: Path, samples: int) -> str:
    segment = Transcriber(loading.load(str(model))).transcribe(noise(samples))
    return " ".join(word.text for word in segment.transcript.words)


def test_text_goes_to_standard_output_and_durations_to_standard_error(
    model: Path, recordings: Path
) -> None:
    result = run_door("transcribe.py", f"--model={model}", f"--audio={recordings / 'one.wav'}")
    assert (result.returncode, result.stdout) == (0, text_of(model, 16000) + "\n"), result.stderr
    lines = result.stderr.splitlines()
    assert lines[0] == f"Loading model from {model}"
    assert lines[1].startswith("Loaded model in ") and lines[1].endswith("s.")
    assert lines[2] == "Running inference."
    assert lines[3].startswith("Inference took ") and lines[3].endswith("s for 1.000s audio file.")
    assert len(lines) == 4


def test_folder_is_transcribed_although_one_file_is_not_audio(
    model: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.wav").write_text("no sound")
    output = tmp_path / "new" / "output"
    assert_refused(
        transcribe,
        f"--model={model}",
        f"--audio={recordings}",
        f"--audio={tmp_path / 'bad.wav'}",
        f"--output_dir={output}",
        "--formats=txt,srt,vtt,json",
        parts=["1 of 3 recordings couldn't be transcribed", str(tmp_path / "bad.wav")],
    )
    printed = capsys.readouterr()
    assert f"error: {tmp_path / 'bad.wav'} " in printed.err
    texts = {"one": text_of(model, 16000), "two": text_of(model, 24000)}
    paths = {"one": recordings / "one.wav", "two": recordings / "two.flac"}
    assert printed.out == "".join(f"{paths[name]}\t{texts[name]}\n" for name in texts)
    made = sorted(each.name for each in output.iterdir())
    assert made == [f"{name}.{each}" for name in texts for each in ("json", "srt", "txt", "vtt")]
    assert (output / "one.txt").read_text() == texts["one"] + "\n"
    assert (output / "one.srt").read_text().startswith("1\n00:00:00,")
    assert (output / "two.vtt").read_text().startswith("WEBVTT\n")
    content = json.loads((output / "two.json").read_text())
    assert (content["text"], content["seconds"]) == (texts["two"], 1.5)


def test_standard_input_is_printed_as_deepspeechs_json(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(noise(16000).tobytes())))
    flags = ("--json", "--candidate_transcripts=2", "--beam_width=8")
    run_here(transcribe, f"--model={model}", "--audio=-", *flags)
    one, other = json.loads(capsys.readouterr().out)["transcripts"]
    assert one["confidence"] >= other["confidence"]
    assert set(one["words"][0]) == {"word", "start_time", "duration"}


def test_stream_prints_partial_transcripts(
    model: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(transcribe, f"--model={model}", f"--audio={recordings / 'two.flac'}", "--stream=1600")
    printed = capsys.readouterr()
    partials = re.findall(r"^(\d\.\d\d)s (.+)$", printed.err, re.MULTILINE)
    assert partials and [float(seconds) for seconds, _ in partials] == sorted(
        float(seconds) for seconds, _ in partials
    )
    assert printed.out.strip()


def test_file_that_is_not_audio_is_refused_with_the_reason(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp3").write_bytes(b"")
    expected = f"{tmp_path / 'bad.mp3'} can't be read as audio"
    assert_refused(
        transcribe, f"--model={model}", f"--audio={tmp_path / 'bad.mp3'}", parts=[expected]
    )


def test_a_wav_that_is_cut_short_is_transcribed_and_named(
    model: Path, recordings: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes((recordings / "one.wav").read_bytes()[: 44 + 2 * 12000])
    result = run_door("transcribe.py", f"--model={model}", f"--audio={cut}")
    assert (result.returncode, result.stdout) == (0, text_of(model, 12000) + "\n")
    assert (
        f"{cut} is cut short: the wav's header promises 32044 bytes, the file has 24044. What is "
        "there was transcribed"
    ) in result.stderr


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "No audio is named"),
        (["--audio=nowhere.wav"], "nowhere.wav doesn't exist"),
        (["--audio=-", "--microphone"], "can't be combined"),
        (
            ["--audio=-", "--formats=doc"],
            "--formats=doc: value should be some of <txt|srt|vtt|json>",
        ),
        (["--audio=-", "--model=nowhere"], "nowhere is not a model"),
        (["--audio=-", "--model=nowhere", "--lm_alpha=1"], "give --scorer too"),
        (["--audio=-", "--formats=srt"], "give --output_dir too"),
    ],
)
def test_invalid_flags_are_refused(flags: list[str], expected: str) -> None:
    assert_refused(transcribe, *flags, parts=[expected])


def test_recordings_with_the_same_name_are_refused(recordings: Path, tmp_path: Path) -> None:
    other = tmp_path / "one.flac"
    soundfile.write(other, noise(16000), 16000)
    given = [f"--audio={other}", f"--audio={recordings / 'one.wav'}"]
    expected = [str(other), str(recordings / "one.wav"), "both be written as one"]
    assert_refused(transcribe, *given, f"--output_dir={tmp_path / 'out'}", parts=expected)
    assert not (tmp_path / "out").exists()


def test_transcript_beside_its_recording_is_not_overwritten(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", noise(16000), 16000)
    (tmp_path / "one.txt").write_text("a transcript")
    given = [f"--audio={tmp_path}", f"--output_dir={tmp_path}"]
    expected = [f"{tmp_path / 'one.txt'} exists", "may be its transcript"]
    assert_refused(transcribe, *given, parts=expected)
    assert (tmp_path / "one.txt").read_text() == "a transcript"


def test_recording_without_words_is_printed_as_an_empty_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(5 * 16000, np.int16), 16000)
    run_here(transcribe, f"--model={model}", f"--audio={tmp_path / 'silence.wav'}")
    assert capsys.readouterr().out == "\n"


def test_closed_standard_input_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    expected = ["standard input is closed"]
    assert_refused(transcribe, f"--model={model}", "--audio=-", parts=expected)
