"""examples/spoken_corpus.py: the corpus it writes, and what it does if one exists."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from scripts import load_script

pytest.importorskip("espeakng_loader")

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "spoken_corpus.py"
COUNTS = {"train": 12, "dev": 4, "test": 4}

# Runs the script as the command line would, after a line of code of the test's own.
AFTER = "import runpy, sys; {code}; runpy.run_path(sys.argv[0], run_name='__main__')"

# Ctrl-C while the 15th utterance is written: train is whole, dev is not.
INTERRUPT = (
    "import itertools, os, signal, soundfile; write = soundfile.write; count = itertools.count(1); "
    "soundfile.write = lambda *args, **kwargs: "
    "os.kill(os.getpid(), signal.SIGINT) if next(count) == 15 else write(*args, **kwargs)"
)


def run(
    corpus_dir: Path, *more_flags: str, code_before: str = "pass"
) -> "subprocess.CompletedProcess[str]":
    """Runs the script in another process, since eSpeak NG repeats itself only there."""
    set_arguments = f"sys.argv = sys.argv[1:]; {code_before}"
    return subprocess.run(
        [sys.executable, "-c", AFTER.format(code=set_arguments), str(SCRIPT)]
        + [f"--corpus_dir={corpus_dir}", "--random_seed=1"]
        + [f"--{split}_utterances={count}" for split, count in COUNTS.items()]
        + list(more_flags),
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{SCRIPT.parent}"},
        check=False,
        capture_output=True,
        text=True,
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`: path -> bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def transcripts(split_dir: Path) -> dict[str, str]:
    """The transcripts of a split: utterance id -> text."""
    lines = [
        line.split(" ", 1)
        for path in sorted(split_dir.glob("*/*/*.trans.txt"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return dict(lines)


def timbre(samples: np.ndarray) -> np.ndarray:
    """The mean spectrum of [samples] in 32 bands, dB around their mean: [32]."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(float), 512)[::256]
    power = np.abs(np.fft.rfft(frames * np.hanning(512), axis=1)[:, 1:]) ** 2
    bands = 10 * np.log10(power.mean(axis=0).reshape(32, 8).mean(axis=1))
    return bands - bands.mean()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 12, 4 and 4 utterances that tests must not change."""
    corpus_dir = tmp_path_factory.mktemp("spoken") / "demo" / "corpus"
    outcome = run(corpus_dir)
    assert outcome.returncode == 0, outcome.stderr
    return corpus_dir


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """Imports the script as a module, with the modules in its folder."""
    sys.path.insert(0, str(SCRIPT.parent))
    yield load_script(SCRIPT)
    sys.path.remove(str(SCRIPT.parent))


@pytest.mark.parametrize("split", COUNTS)
def test_a_split_has_the_layout_of_librispeech(corpus: Path, split: str) -> None:
    spoken = transcripts(corpus / split)
    audio = {path.stem: path for path in (corpus / split).glob("*/*/*.flac")}
    assert len(spoken) == COUNTS[split]
    assert set(audio) == set(spoken)
    for utterance_id, path in audio.items():
        speaker, chapter, number = utterance_id.split("-")
        assert path.parent == corpus / split / speaker / chapter
        assert (path.parent / f"{speaker}-{chapter}.trans.txt").is_file()
        assert speaker.isdigit() and chapter.isdigit() and re.fullmatch("[0-9]{4}", number)


def test_the_transcripts_are_capitals_spaces_and_apostrophes(corpus: Path) -> None:
    for split in COUNTS:
        for text in transcripts(corpus / split).values():
            assert re.fullmatch("[A-Z']+( [A-Z']+)+", text)


def test_no_chapter_is_in_two_splits(corpus: Path) -> None:
    chapters = [path.name for split in COUNTS for path in (corpus / split).glob("*/*")]
    assert len(chapters) == len(set(chapters))


def test_the_audio_is_audible_unclipped_16_khz_mono_16_bit(corpus: Path) -> None:
    for path in corpus.rglob("*.flac"):
        about = soundfile.info(path)
        assert (about.samplerate, about.channels, about.subtype) == (16000, 1, "PCM_16")
        assert 1.5 < about.duration < 5.0
        samples, _ = soundfile.read(path)
        assert np.sqrt(np.mean(samples**2)) > 0.01
        assert np.abs(samples).max() < 0.99


def test_the_splits_share_speakers_but_no_sentence(script: ModuleType) -> None:
    plan = script.plan_corpus(script.Settings(2000, 100, 200, random_seed=1))
    sentences = [utterance.sentence for split in plan.values() for utterance in split]
    assert len(sentences) == len(set(sentences)) == 2300
    for utterances in plan.values():
        assert {utterance.speaker for utterance in utterances} == set(script.VOICES)


def test_another_seed_plans_other_sentences(script: ModuleType) -> None:
    first, second = (script.plan_corpus(script.Settings(12, 4, 4, seed)) for seed in (1, 2))
    assert first != second


def test_the_grammar_makes_thousands_of_different_sentences(script: ModuleType) -> None:
    sentences = script.all_sentences()
    assert len(sentences) == len(set(sentences)) > 8000


def test_the_same_flags_write_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    # By default eSpeak NG seeds its noise with the time in seconds.
    time.sleep(1.1)
    assert run(tmp_path / "again").returncode == 0
    assert contents(tmp_path / "again") == contents(corpus)


def test_a_rerun_reports_that_the_corpus_exists_and_keeps_it(corpus: Path) -> None:
    written = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    outcome = run(corpus)
    assert outcome.returncode == 0
    assert "exists already" in outcome.stdout
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == written


def test_a_rerun_with_other_flags_is_refused(corpus: Path) -> None:
    before = contents(corpus)
    outcome = run(corpus, "--random_seed=2")
    assert outcome.returncode == 1
    assert "other flags" in outcome.stderr and "--corpus_dir" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert contents(corpus) == before


def test_a_folder_with_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    outcome = run(tmp_path)
    assert outcome.returncode == 1
    assert "isn't a corpus" in outcome.stderr and "Traceback" not in outcome.stderr
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_an_interrupted_run_leaves_no_corpus_and_a_rerun_completes_it(
    corpus: Path, tmp_path: Path
) -> None:
    interrupted = run(tmp_path / "corpus", code_before=INTERRUPT)
    assert interrupted.returncode == -signal.SIGINT
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.unfinished"]
    assert len(list(tmp_path.rglob("*.flac"))) == 14
    assert run(tmp_path / "corpus").returncode == 0
    assert contents(tmp_path / "corpus") == contents(corpus)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_more_utterances_than_sentences_are_refused(tmp_path: Path) -> None:
    outcome = run(tmp_path / "corpus", "--train_utterances=9000")
    assert outcome.returncode == 1
    assert "9008" in outcome.stderr and "fewer" in outcome.stderr
    assert not list(tmp_path.iterdir())


def test_without_espeak_the_message_names_the_extra(tmp_path: Path) -> None:
    outcome = run(tmp_path / "corpus", code_before="sys.modules['espeakng_loader'] = None")
    assert outcome.returncode == 1
    assert 'pip install -e ".[demo]"' in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not list(tmp_path.iterdir())


def test_every_speaker_sounds_different(script: ModuleType) -> None:
    synthesizer = script.Synthesizer()
    sentence = "don't turn on the radio in the children's room at seven o'clock"

    def speak(voice: str) -> np.ndarray:
        return timbre(script.to_corpus_rate(synthesizer.speak(sentence, voice, 160, 50)))

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.sqrt(np.mean((one - other) ** 2)))

    once = {voice: speak(voice) for voice in script.VOICES.values()}
    assert len(once) == len(script.VOICES) >= 14
    # dB. One voice stays within 0.3 of itself; the closest two are more than 1 apart.
    assert max(distance(sound, speak(voice)) for voice, sound in once.items()) < 0.6
    assert min(distance(*pair) for pair in itertools.combinations(once.values(), 2)) > 0.8


@pytest.mark.parametrize("voice", ["klingon", "en-us+nobody", "en-gb"])
def test_a_voice_unknown_to_espeak_is_refused(script: ModuleType, voice: str) -> None:
    with pytest.raises(script.UserError, match=re.escape(voice)):
        script.Synthesizer().speak("turn on the lamp", voice, 160, 50)
