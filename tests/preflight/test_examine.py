"""The pre-flight: every planted defect is found, and nothing in what is good."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from planted_corpus import (
    LABELS_A_SECOND,
    SETTINGS,
    Corpus,
    clean_corpus,
    planted_corpus,
    voice,
    words,
)

from speech.audio.reader import read_audio
from speech.corpora.formats.librispeech import find_utterances
from speech.corpora.utterance import Utterance
from speech.preflight.examine import examine
from speech.preflight.findings import Finding, Findings, Kind
from speech.preflight.utterance import examine_utterance
from utils import ENGLISH, Alphabet, UserError


def found_in(corpus: Corpus, workers: int = 1) -> Findings:
    return examine(corpus.sets, corpus.settings_of, workers)


def kinds_of(found: Findings) -> set[tuple[str, str, str, str]]:
    return {
        (each.set, each.utterance.utterance_id, each.kind, each.severity) for each in found.findings
    }


def finding(found: Findings, utterance_id: str, kind: Kind) -> Finding:
    return next(e for e in found.of_kind(kind) if e.utterance.utterance_id == utterance_id)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return planted_corpus(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def found(planted: Corpus) -> Findings:
    return found_in(planted)


# --- A folder with every defect -------------------------------------------------------------------


def test_every_planted_defect_is_found_and_nothing_else(planted: Corpus, found: Findings) -> None:
    assert kinds_of(found) == planted.planted
    assert {kind for _, _, kind, _ in planted.planted} == set(Kind)


def test_errors_and_warnings_are_counted(planted: Corpus, found: Findings) -> None:
    severities = [severity for *_, severity in planted.planted]
    assert found.errors == severities.count("error")
    assert found.warnings == severities.count("warning")
    assert found.utterances == sum(map(len, planted.sets.values()))


def test_several_processes_find_the_same_in_the_same_order(
    planted: Corpus, found: Findings
) -> None:
    several = found_in(planted, workers=2)
    assert several.findings == found.findings
    for one, other in zip(several.sets, found.sets, strict=True):
        np.testing.assert_array_equal(one.seconds, other.seconds)
        np.testing.assert_array_equal(one.rates, other.rates)


def test_the_worst_of_a_kind_comes_first(found: Findings) -> None:
    clipped = [each.utterance.utterance_id for each in found.of_kind(Kind.CLIPPING)]
    assert sorted(clipped) == ["clipped", "turned-down"]
    shares = [each.badness for each in found.of_kind(Kind.CLIPPING)]
    assert shares == sorted(shares, reverse=True)
    assert [tuple(Kind).index(each.kind) for each in found.findings] == sorted(
        tuple(Kind).index(each.kind) for each in found.findings
    )


@pytest.mark.parametrize(
    ("utterance_id", "kind", "detail"),
    [
        ("gone", Kind.MISSING, "gone.wav is missing"),
        ("no-audio", Kind.MISSING, "a transcript without audio"),
        ("grown", Kind.WRONG_SIZE, "47958 bytes are stated, the file has "),
        ("shorter", Kind.WRONG_SIZE, "4.80 s are stated, the file has "),
        ("cut-wav", Kind.WRONG_SIZE, "cut short: the wav's header promises "),
        ("zeros", Kind.SILENCE, "digital silence, in 2.0 s"),
        ("hiss", Kind.SILENCE, "the loudest 0.1 s have -79 dBFS, in 2.0 s"),
        ("late", Kind.SILENT_EDGE, "s before the speech, of 6.0 s"),
        ("early", Kind.SILENT_EDGE, "s after the speech, of 6.0 s"),
        ("offset", Kind.OFFSET, "the samples' mean is +10.0% of full scale, not 0"),
        ("snippet", Kind.TOO_SHORT, "0.080 s of audio"),
        ("hasty", Kind.SPEECH_RATE, "the transcript is too long for the audio"),
        ("slow", Kind.SPEECH_RATE, "the transcript is too short for the audio"),
        ("long", Kind.TOO_LONG, "3999 frames, at most 1729"),
        ("twin-again", Kind.DUPLICATE, "also in train: twin (train.csv:"),
        ("leaked", Kind.LEAKED_AUDIO, "also in train: train-00 (train.csv:2)"),
        ("said", Kind.LEAKED_TRANSCRIPT, "1 in train, 1 in dev"),
    ],
)
def test_details_have_the_numbers(
    found: Findings, utterance_id: str, kind: Kind, detail: str
) -> None:
    assert detail in finding(found, utterance_id, kind).detail


def test_all_unknown_characters_are_counted_the_most_frequent_first(found: Findings) -> None:
    unknown = finding(found, "unknown", Kind.UNKNOWN_CHARACTERS)
    assert unknown.characters == "\u00e924\u00ef\u0634"
    assert unknown.detail == (
        "'\u00e9' (U+00E9, LATIN SMALL LETTER E WITH ACUTE) 2 times, '2' (U+0032, DIGIT TWO), "
        "'4' (U+0034, DIGIT FOUR), and 2 more"
    )
    assert found.unknown_characters() == [(each, 1) for each in "24\u00e9\u00ef\u0634"]


def test_silent_recordings_are_no_duplicates_of_each_other(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for name in ("one", "two"):
        corpus.add(name, np.zeros(16000))
    assert {each.kind for each in found_in(corpus).findings} == {Kind.SILENCE}


# --- What is good ---------------------------------------------------------------------------------


def test_a_clean_corpus_has_no_findings(tmp_path: Path) -> None:
    found = found_in(clean_corpus(tmp_path))
    assert found.findings == ()
    assert (found.errors, found.warnings, found.utterances) == (0, 0, 32)
    assert [(each.name, each.utterances, each.speakers) for each in found.sets] == [
        ("train", 24, 1),
        ("dev", 4, 1),
        ("test", 4, 1),
    ]
    lengths = found.sets[0].seconds
    assert len(lengths) == 24 and found.sets[0].hours == pytest.approx(lengths.sum() / 3600)


def test_genuine_speech_has_no_errors_and_no_false_alarms(librispeech_mini: str) -> None:
    sets = {
        name: find_utterances([os.path.join(librispeech_mini, name)])[:40]
        for name in ("train", "dev", "test")
    }
    settings = replace(SETTINGS, max_sequence_length=3600, max_label_length=600)
    found = examine(sets, dict.fromkeys(sets, settings), 2)
    assert found.errors == 0
    # Its readers are in all three sets.
    assert {each.kind for each in found.findings} == {Kind.SHARED_SPEAKER}


def test_swapped_genuine_transcripts_are_found(librispeech_mini: str) -> None:
    utterances = find_utterances([os.path.join(librispeech_mini, "dev")])
    by_length = sorted(utterances, key=lambda each: each.audio_bytes or 0)
    shortest, longest = by_length[0], by_length[-1]
    swapped = {shortest.utterance_id: longest.transcript, longest.utterance_id: shortest.transcript}
    sets = {
        "dev": [
            replace(each, transcript=swapped.get(each.utterance_id, each.transcript))
            for each in utterances
        ]
    }
    settings = replace(SETTINGS, max_sequence_length=3600, max_label_length=600)
    found = examine(sets, {"dev": settings}, 2)
    odd = {e.utterance.utterance_id: e.detail for e in found.of_kind(Kind.SPEECH_RATE)}
    assert odd.keys() == swapped.keys()
    assert odd[shortest.utterance_id].endswith("too long for the audio")
    assert odd[longest.utterance_id].endswith("too short for the audio")


# --- Texts and sets -------------------------------------------------------------------------------


def test_same_text_of_other_audio_in_one_set_is_normal(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for name in ("one", "two"):
        corpus.add(name, voice(name, 1), "turn on the light")
    assert found_in(corpus).findings == ()


def test_a_text_in_many_utterances_of_three_sets_is_one_finding(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for set_name, takes in (("train", 3), ("dev", 2), ("test", 1)):
        for take in range(takes):
            name = f"{set_name}{take}"
            corpus.add(name, voice(name, 1), "turn on the light", set_name)
    (only,) = found_in(corpus).findings
    assert (only.set, only.kind) == ("dev", Kind.LEAKED_TRANSCRIPT)
    assert only.detail == "3 in train, 2 in dev, 1 in test"


def test_case_and_spaces_do_not_distinguish_transcripts(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.add("one", voice("a", 1), "turn on")
    corpus.add("two", voice("a", 1), " turn  on ")
    assert {each.kind for each in found_in(corpus).findings} == {Kind.DUPLICATE}


@pytest.mark.parametrize(
    ("texts", "odd"),
    [
        # The first one says nothing, or is wrong; equally many: the first counts.
        (
            (None, "yes", "no"),
            {"2": "train: 1 (train.csv:3) has the same audio and the transcript "},
        ),
        (("no", "yes", "yes"), {"0": "train: 1 (train.csv:3) and 1 more have the same audio "}),
        (("a", "b", "c"), dict.fromkeys("12", "train: 0 (train.csv:2) has the same audio ")),
        ((None, "yes", "Yes"), {}),
        ((None, None, "no"), {}),
    ],
)
def test_a_transcript_that_differs_from_most_of_the_same_audio_is_found(
    tmp_path: Path, texts: tuple[str | None, ...], odd: dict[str, str]
) -> None:
    corpus = Corpus(tmp_path)
    for number, text in enumerate(texts):
        corpus.add(f"{number}", voice("same", 1), text)
    contradictions = found_in(corpus).of_kind(Kind.CONTRADICTION)
    assert [each.utterance.utterance_id for each in contradictions] == list(odd)
    for each in contradictions:
        assert each.detail.startswith(odd[each.utterance.utterance_id])


def test_a_recording_may_be_too_long_for_a_shard_and_for_the_corpus(tmp_path: Path) -> None:
    corpus = clean_corpus(tmp_path)
    corpus.add("monologue", voice("monologue", 94))
    kinds = {each.kind for each in found_in(corpus).findings}
    assert {Kind.TOO_LONG, Kind.EXTREME_LENGTH} <= kinds
    shorter = clean_corpus(tmp_path)
    shorter.add("speech", voice("speech", 17))  # 1699 of 1729 frames
    kinds = {each.kind for each in found_in(shorter).findings}
    assert Kind.EXTREME_LENGTH in kinds and Kind.TOO_LONG not in kinds


@dataclass(frozen=True)
class CountedAlphabet(Alphabet):
    """Counts how often it is sent to another process."""

    sent: ClassVar[list[str]] = []

    def __getstate__(self) -> dict[str, object]:
        self.sent.append("once more")
        return dict(vars(self))


def test_the_alphabet_is_sent_to_each_process_once(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(5):
        corpus.add(f"{number}")
    settings = replace(SETTINGS, alphabet=CountedAlphabet(ENGLISH.characters))
    assert examine(corpus.sets, dict.fromkeys(corpus.sets, settings), 2).findings == ()
    assert len(CountedAlphabet.sent) == 2


def test_unknown_speakers_are_not_the_same(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for set_name in ("train", "test"):
        corpus.add(set_name, set_name=set_name, speaker="")
    found = found_in(corpus)
    assert found.findings == () and [each.speakers for each in found.sets] == [0, 0, 0]


def test_each_set_has_its_own_limits_and_alphabet(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.add("short", voice("short", 1), "one two three")
    corpus.add("long", voice("long", 3), words("long", 42), "test")
    narrow = replace(SETTINGS, max_sequence_length=200, alphabet=Alphabet(tuple("abc")))
    found = examine(
        {"train": corpus.sets["train"], "test": corpus.sets["test"]},
        {"train": SETTINGS, "test": narrow},
        1,
    )
    kinds = {(each.set, each.kind) for each in found.findings}
    assert kinds == {("test", Kind.TOO_LONG), ("test", Kind.UNKNOWN_CHARACTERS)}


def test_letters_with_combining_accents_are_those_of_the_alphabet(tmp_path: Path) -> None:
    utterance = Corpus(tmp_path).add("accent", voice("accent", 1), "cafe\u0301 au lait")
    french = replace(SETTINGS, alphabet=Alphabet((*ENGLISH.characters, "\u00e9")))
    examined = examine_utterance(utterance, french)
    assert examined.flaws == () and examined.labels == len("cafe au lait")


# --- Speech rate ----------------------------------------------------------------------------------


def test_a_fast_speaker_is_measured_by_their_own_pace(tmp_path: Path) -> None:
    def corpus_of(speakers: Callable[[int], str]) -> Corpus:
        corpus = Corpus(tmp_path)
        for number in range(60):
            rate = LABELS_A_SECOND * (2 if number % 3 == 0 else 1)
            text = words(f"{number}", 2 * rate)
            corpus.add(f"{number}", voice(f"{number}", 2), text, speaker=speakers(number))
        return corpus

    known = corpus_of(lambda number: "fast" if number % 3 == 0 else "usual")
    assert found_in(known).findings == ()
    unknown = corpus_of(lambda number: "")
    assert {each.kind for each in found_in(unknown).findings} == {Kind.SPEECH_RATE}


def test_few_utterances_are_only_checked_for_impossible_rates(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.add("usual", voice("usual", 3), words("usual", 45))
    corpus.add("fast", voice("fast", 3), words("fast", 90))
    corpus.add("faster", voice("faster", 3), words("faster", 120))
    corpus.add("slower", voice("slower", 3), "a")
    odd = {e.utterance.utterance_id: e.detail for e in found_in(corpus).findings}
    assert odd.keys() == {"faster", "slower"}
    assert "too long" in odd["faster"] and "too short" in odd["slower"]


def test_silence_around_speech_does_not_change_its_rate(tmp_path: Path) -> None:
    edge = 1e-3 * np.random.default_rng(0).normal(size=24000)
    samples = np.concatenate([edge, voice("edges", 2), edge])
    utterance = Corpus(tmp_path).add("edges", samples, words("edges", 28))
    examined = examine_utterance(utterance, SETTINGS)
    assert examined.seconds == pytest.approx(5.0)
    assert 1.7 < examined.speech_seconds < 2.05


# --- Files ----------------------------------------------------------------------------------------


def test_segments_of_one_file_are_examined_separately(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    samples = np.concatenate([voice("first", 2), np.zeros(32000), voice("third", 2)])
    whole = corpus.add("whole", samples, words("whole", 28))
    stretch = replace(whole, seconds=2.0)
    good = examine_utterance(stretch, SETTINGS)
    assert good.flaws == () and good.seconds == 2.0
    silent = examine_utterance(replace(stretch, start_seconds=2.0), SETTINGS)
    assert [flaw.kind for flaw in silent.flaws] == [Kind.SILENCE]
    after_end = examine_utterance(replace(stretch, start_seconds=9.0), SETTINGS)
    assert [flaw.kind for flaw in after_end.flaws] == [Kind.UNREADABLE]


def test_a_wav_of_unknown_length_is_not_cut_short(tmp_path: Path) -> None:
    utterance = Corpus(tmp_path).add("piped")
    path = tmp_path / "piped.wav"
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff\xff\xff\xff" + content[8:])
    assert examine_utterance(utterance, SETTINGS).flaws == ()


class DeadlyUtterance(Utterance):
    """One whose recording ends the process that reads it, as a fault in a C library does."""

    def __getattribute__(self, name: str) -> Any:
        # The last that is asked before the recording is read.
        if name == "start_seconds" and multiprocessing.parent_process():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getattribute__(name)


def deadly(path: str, *stretch: object) -> np.ndarray:
    """Reads in the main process, but for such a recording."""
    if "deadly" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_audio(path, *stretch)  # type: ignore[arg-type]


ROOT = Path(__file__).parents[2]

DEADLY_RUN = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from planted_corpus import Corpus
from test_examine import DeadlyUtterance, deadly, found_in
from speech.preflight import page
from speech.preflight.findings import Kind

page.read_audio = deadly
corpus = Corpus(Path(sys.argv[1]))
for name in ("a", "deadly-b", "c", "deadly-d"):
    corpus.add(name)
# Found by other rules, too: the page reads it for none of them.
corpus.add("deadly-e", stated_bytes=9)
corpus.sets["train"] = [
    DeadlyUtterance(**vars(each)) if "deadly" in each.utterance_id else each
    for each in corpus.sets["train"]
]
found = found_in(corpus, int(sys.argv[2]))
for each in found.of_kind(Kind.UNREADABLE):
    print(each.utterance.utterance_id, each.detail.split(": ")[1])
print(page.render(found, corpus.settings_of).count("<article"))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_recording_that_kills_its_reader_is_found_and_the_others_are_read(
    tmp_path: Path, workers: int
) -> None:
    paths = [str(ROOT), str(ROOT / "tests/support"), os.path.dirname(__file__)]
    script = tmp_path / "run.py"
    script.write_text(DEADLY_RUN.format(paths=paths))
    run = subprocess.run(
        [sys.executable, script, tmp_path, str(workers)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.splitlines() == [
        *(
            f"{name} signal 9 ended the reading process"
            for name in ("deadly-b", "deadly-d", "deadly-e")
        ),
        "3",
    ], run.stderr


def test_an_unreachable_bucket_is_no_finding(tmp_path: Path) -> None:
    utterance = replace(Corpus(tmp_path).add("far"), audio_path="gs://", audio_bytes=None)
    with pytest.raises(UserError, match="gs://"):
        examine({"train": [utterance]}, {"train": SETTINGS}, 1)
