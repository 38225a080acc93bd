"""The door import_deepspeech.py, and transcribe.py with what it imports, against real clients."""

import json
from pathlib import Path

import pytest
from doors import run_door

# Client and model of client_transcripts.json -> our import of it; all with beams of 100.
CLIENTS = {
    "deepspeech tiny64/output_graph.pb beam 100": "tiny64/output_graph.pb",
    "deepspeech tiny64/output_graph.pbmm beam 100": "tiny64/output_graph.pbmm",
    "deepspeech tiny64_layer_norm/output_graph.pb beam 100": "tiny64_layer_norm",
}


@pytest.mark.parametrize("client", CLIENTS)
def test_transcripts_are_those_of_the_real_client(
    client: str, genuine: str, tmp_path: Path
) -> None:
    expected = json.loads(Path(f"{genuine}/client_transcripts.json").read_text())[client]
    result = run_door(
        "import_deepspeech.py",
        f"{genuine}/{CLIENTS[client]}",
        f"--alphabet={genuine}/alphabet.txt",
        f"--model_dir={tmp_path}/model",
    )
    assert result.returncode == 0, result.stderr
    assert "deep_speech_lstm, 64 units, 28 characters, 16000 Hz" in result.stdout
    assert "layer_5/weights" in result.stderr and "dense_3/kernel" in result.stderr
    transcribed = run_door(
        "transcribe.py",
        f"--model={tmp_path}/model",
        *(f"--audio={genuine}/wavs/{name}" for name in expected),
        *("--json", "--candidate_transcripts=1", "--beam_width=100"),
    )
    assert transcribed.returncode == 0, transcribed.stderr
    printed = json.loads("[" + transcribed.stdout.replace("\n}\n{\n", "\n},\n{\n") + "]")
    for (name, wanted), found in zip(expected.items(), printed, strict=True):
        best = found["transcripts"][0]
        text = " ".join(word["word"] for word in best["words"])
        if name == "LDC93S1.wav":  # which the model was trained on
            assert text == wanted["text"]
            assert best["confidence"] == pytest.approx(wanted["confidence"], abs=3e-4)
        # In what is foreign to the model many paths share the probability. Ours loses fewer.
        assert best["confidence"] >= wanted["confidence"] - 3e-4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "MODEL is missing"),
        (["a.pb", "b.pb"], "'b.pb' is not a flag"),
        (["absent.pb"], "absent.pb can't be read"),
    ],
)
def test_usage_errors_are_explained(given: list[str], message: str) -> None:
    result = run_door("import_deepspeech.py", *given)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and message in result.stderr
