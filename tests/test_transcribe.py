"""The door transcribe.py, as people run it, with a tiny model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from doors import ROOT, assert_error, assert_refused, environment_of_door, run_door
from tiny_models import noise, write_model

import transcribe
from speech import exported
from speech.transcriber import Transcriber


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
    heard = Transcriber(exported.load(str(model))).hear(noise(samples))
    return " ".join(word.text for word in heard.transcript.words)


def test_text_goes_to_standard_output_and_times_are_told_as_deepspeech_does(
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


def test_a_folder_is_heard_to_its_end_though_a_file_is_no_audio(
    model: Path, recordings: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.wav").write_text("no sound")
    output = tmp_path / "new" / "output"
    result = run_door(
        "transcribe.py",
        f"--model={model}",
        f"--audio={recordings}",
        f"--audio={tmp_path / 'bad.wav'}",
        f"--output_dir={output}",
        "--formats=txt,srt,vtt,json",
    )
    assert result.returncode == 1
    assert f"error: {tmp_path / 'bad.wav'} " in result.stderr
    assert "1 of 3 recordings couldn't be heard" in result.stderr.splitlines()[-1]
    texts = {"one": text_of(model, 16000), "two": text_of(model, 24000)}
    paths = {"one": recordings / "one.wav", "two": recordings / "two.flac"}
    assert result.stdout == "".join(f"{paths[name]}\t{texts[name]}\n" for name in texts)
    made = {each.name for each in output.iterdir()}
    assert made == {
        f"{name}.{ending}" for name in texts for ending in ("txt", "srt", "vtt", "json")
    }
    assert (output / "one.txt").read_text() == texts["one"] + "\n"
    assert (output / "one.srt").read_text().startswith("1\n00:00:00,")
    assert (output / "two.vtt").read_text().startswith("WEBVTT\n")
    content = json.loads((output / "two.json").read_text())
    assert (content["text"], content["seconds"]) == (texts["two"], 1.5)


def test_standard_input_gives_deepspeechs_json(model: Path) -> None:
    result = subprocess.run(
        [
            *(sys.executable, str(ROOT / "transcribe.py"), f"--model={model}", "--audio=-"),
            *("--json", "--candidate_transcripts=2", "--beam_width=8"),
        ],
        input=noise(16000).tobytes(),
        env=environment_of_door({}),
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    one, other = json.loads(result.stdout)["transcripts"]
    assert one["confidence"] >= other["confidence"]
    assert set(one["words"][0]) == {"word", "start_time", "duration"}


def test_what_is_no_audio_ends_with_its_reason(model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp3").write_bytes(b"")
    result = run_door("transcribe.py", f"--model={model}", f"--audio={tmp_path / 'bad.mp3'}")
    assert_error(result, f"{tmp_path / 'bad.mp3'} can't be read as audio")
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "No audio is named"),
        (["--audio=nowhere.wav"], "nowhere.wav isn't there"),
        (["--audio=-", "--microphone"], "can't be heard together"),
        (["--audio=-", "--formats=doc"], "--formats=doc: choose among txt, srt, vtt, json"),
        (["--audio=-", "--model=nowhere"], "nowhere is no model"),
        (["--audio=-", "--lm_alpha=1"], "give --scorer too"),
    ],
)
def test_what_can_not_be_meant_is_told(flags: list[str], told: str) -> None:
    assert_refused(transcribe, *flags, parts=[told])


def test_two_recordings_of_one_name_are_refused(recordings: Path, tmp_path: Path) -> None:
    other = tmp_path / "one.flac"
    soundfile.write(other, noise(16000), 16000)
    given = [f"--audio={other}", f"--audio={recordings / 'one.wav'}"]
    told = [str(other), str(recordings / "one.wav"), "both be written as one"]
    assert_refused(transcribe, *given, f"--output_dir={tmp_path / 'out'}", parts=told)
    assert not (tmp_path / "out").exists()
