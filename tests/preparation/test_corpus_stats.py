"""Statistics of a corpus and of what limits discard, against what preparation does."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from speech.corpora.formats.librispeech import find_utterances
from speech.corpora.utterance import Utterance
from speech.features.front_end import FrontEnd
from speech.preparation import corpus_stats
from speech.preparation import utterance as reasons
from speech.preparation.corpus_stats import Lengths, Recommendation, measure, recommend
from speech.preparation.write_shards import prepare
from speech.shards.index import ShardSettings
from utils import ENGLISH, UserError

WriteSplit = Callable[[Path, dict[str, str]], None]

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = ShardSettings(
    front_end=FrontEnd(),
    alphabet=ENGLISH,
    partition_size=100,
    max_sequence_length=1000,
    max_label_length=100,
    padded=True,
    stride=2,
)


def lengths_of(frames: list[int], labels: list[int] | None = None) -> Lengths:
    """Usable utterances of these frames, each of 10 ms."""
    return Lengths(
        seconds=np.array(frames) / 100,
        frames=np.array(frames),
        labels=np.array(labels or [10] * len(frames)),
        speakers=("1",) * len(frames),
        unusable={},
    )


# Ten utterances, 55 seconds, among them one of 10 seconds.
TEN = lengths_of([100, 200, 300, 400, 500, 600, 700, 800, 900, 1000], list(range(10, 101, 10)))


# --- Lengths --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, write_split: WriteSplit) -> list[Utterance]:
    """Twelve utterances: one unusable in each way that a header and a transcript tell."""
    folder = tmp_path_factory.mktemp("speech")
    transcripts = {1: "NAÏVE", 7: "AAAAAAAAAAAAAAAAAAAAAA"}
    write_split(folder, {f"{1 + i // 6}-1-{i:04d}": transcripts.get(i, "IT") for i in range(12)})
    utterances = find_utterances([str(folder)])
    audio = [str(utterance.audio_path) for utterance in utterances]
    Path(audio[5]).write_text("not a flac")
    noise = np.random.default_rng(0).normal(size=(30001, 2)) * 0.1
    soundfile.write(audio[9], noise, 44100)
    soundfile.write(audio[10], noise[:, 0], 8000)
    no_samples = str(folder / "empty.wav")
    soundfile.write(no_samples, noise[:0], 16000)
    utterances[3] = replace(utterances[3], audio_path=None)
    utterances[4] = replace(utterances[4], transcript=None)
    utterances[8] = replace(utterances[8], audio_path=no_samples)
    return utterances


def test_lengths_and_reasons_are_those_of_preparation(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    index = prepare(corpus, str(tmp_path / "t"), SETTINGS, 0, workers=1, strict=False)
    lengths = measure(corpus, SETTINGS)
    assert lengths.unusable == Counter(skipped.reason for skipped in index.skipped)
    assert sorted(lengths.unusable) == sorted(
        [
            *(reasons.UNKNOWN_CHARACTER, reasons.NO_AUDIO, reasons.NO_TRANSCRIPT),
            *(reasons.UNREADABLE, reasons.UNALIGNABLE, reasons.EMPTY),
        ]
    )
    assert (lengths.usable, lengths.utterances) == (index.records, 12) == (6, 12)
    assert lengths.hours * 3600 == pytest.approx(index.audio_seconds, abs=1e-3)
    assert (lengths.frames.max(), lengths.labels.max()) == (375, 2)
    assert (index.longest_frames, index.longest_label) == (375, 2)


def test_the_limits_in_force_leave_nothing_out(corpus: list[Utterance]) -> None:
    limited = measure(corpus, replace(SETTINGS, max_sequence_length=1, max_label_length=1))
    np.testing.assert_array_equal(limited.frames, measure(corpus, SETTINGS).frames)


def test_real_speech_is_as_long_as_preparation_finds_it(
    librispeech_mini: str, tmp_path: Path
) -> None:
    utterances = find_utterances([f"{librispeech_mini}/test"])[:12]
    settings = replace(SETTINGS, max_sequence_length=3600, max_label_length=600)
    index = prepare(utterances, str(tmp_path / "t"), settings, 0, workers=1, strict=True)
    lengths = measure(utterances, settings)
    assert (lengths.usable, lengths.frames.max(), lengths.labels.max()) == (
        *(12, index.longest_frames, index.longest_label),
    )
    assert lengths.hours * 3600 == pytest.approx(index.audio_seconds, abs=1e-3)


def test_a_file_cut_short_after_its_header_counts_as_usable(
    tmp_path: Path, write_split: WriteSplit
) -> None:
    write_split(tmp_path, {"1-1-0000": "IT"})
    utterances = find_utterances([str(tmp_path)])
    whole = measure(utterances, SETTINGS)
    path = Path(str(utterances[0].audio_path))
    path.write_bytes(path.read_bytes()[:3000])
    cut = measure(utterances, SETTINGS)
    assert reasons.prepare_utterance(utterances[0], SETTINGS).reason == reasons.UNREADABLE
    assert (cut.usable, cut.frames[0]) == (1, whole.frames[0])


def test_hours_are_summed_by_speaker_the_shortest_first(corpus: list[Utterance]) -> None:
    lengths = measure(corpus, SETTINGS)
    hours = lengths.hours_by_speaker
    assert list(hours) == ["1", "2"]  # 2 has the long recordings
    assert sum(hours.values()) == pytest.approx(lengths.hours)
    long = 30001 / 44100 + 30001 / 8000  # and two of 0.2 to 0.4 seconds
    assert long + 0.4 <= hours["2"] * 3600 <= long + 0.8


# --- Limits ---------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.01, 0.1, 0.5]),
)
def test_the_recommended_frames_are_the_smallest_sufficient_multiple(
    frames: list[int], stride: int, share: float
) -> None:
    found = recommend(lengths_of(frames), replace(SETTINGS, stride=stride), share)
    allowed = share * sum(frames) + 1e-6
    assert found.max_sequence_length == next(
        limit
        for limit in range(stride, 65, stride)
        if sum(each for each in frames if each > limit) <= allowed
    )


def test_labels_are_limited_by_their_hours_and_not_rounded() -> None:
    # The longest transcript is that of a short recording.
    lengths = lengths_of([100, 5000, 5000], [33, 21, 20])
    assert recommend(lengths, SETTINGS, 0.01).max_label_length == 21
    assert recommend(lengths, SETTINGS, 0.0).max_label_length == 33
    assert recommend(lengths, SETTINGS, 0.6).max_label_length == 20


def test_choices_rise_and_have_notes() -> None:
    recommended = Recommendation(900, 100, 0.2)
    choices = corpus_stats.frames_choices(
        TEN, replace(SETTINGS, max_sequence_length=450), recommended
    )
    assert {choice.limit: choice.notes for choice in choices} == {
        450: ("present setting",),
        900: ("recommended",),
        1000: ("90% to 100%",),
    }
    assert [choice.limit for choice in choices] == [450, 900, 1000]


def test_percentiles_are_rounded_up_to_the_stride() -> None:
    settings = replace(SETTINGS, stride=3)
    choices = corpus_stats.frames_choices(
        lengths_of([100, 200]), settings, recommend(TEN, settings, 0)
    )
    assert 201 in {choice.limit for choice in choices}


def test_a_choice_discards_what_is_longer_and_pads_the_rest() -> None:
    settings = replace(SETTINGS, max_sequence_length=450, max_label_length=70)
    recommended = Recommendation(1000, 100, 0.0)
    frames, _ = corpus_stats.frames_choices(TEN, settings, recommended)
    assert (frames.discarded, frames.limit) == (6, 450)
    assert frames.discarded_hours * 3600 == pytest.approx(6 + 7 + 8 + 9 + 10 + 5)
    assert frames.padding == pytest.approx(1 - 1000 / (4 * 450))
    labels, _ = corpus_stats.labels_choices(TEN, settings, recommended)
    assert (labels.discarded, labels.limit) == (3, 70)
    assert labels.discarded_hours * 3600 == pytest.approx(8 + 9 + 10)
    assert labels.padding == pytest.approx(1 - 280 / (7 * 70))


def test_a_limit_below_all_lengths_leaves_an_empty_set() -> None:
    settings = replace(SETTINGS, max_sequence_length=5)
    choice = corpus_stats.frames_choices(TEN, settings, recommend(TEN, settings, 0))[0]
    assert (choice.limit, choice.discarded, choice.padded_bytes) == (5, 10, 0)


def test_sizes_are_those_of_the_shards(
    tmp_path: Path, corpus: list[Utterance], write_split: WriteSplit
) -> None:
    settings = replace(SETTINGS, max_sequence_length=400)
    lengths = measure(corpus, settings)
    choices = corpus_stats.frames_choices(lengths, settings, recommend(lengths, settings, 0))
    (choice,) = (choice for choice in choices if choice.limit == 400)
    for padded, expected in [(True, choice.padded_bytes), (False, choice.unpadded_bytes)]:
        index = prepare(
            *(corpus, str(tmp_path / f"{padded}"), replace(settings, padded=padded)),
            *(0, 1, False),
        )
        assert expected == pytest.approx(index.bytes, rel=2e-3)


# --- In words -------------------------------------------------------------------------------------


def test_a_histogram_in_text_has_a_row_for_every_bar_empty_ones_too() -> None:
    text = corpus_stats.text_histogram("frames", np.array([100] * 100 + [150, 1650]))
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["frames", "utterances"]
    assert rows[1] == ["100", "101", "#" * 50]
    assert rows[2] == ["200", "0"]
    assert rows[-1] == ["1600", "1", "#"]
    assert len(rows) == 1 + 16


@given(st.lists(st.integers(0, 100_000), min_size=1), st.integers(5, 50))
def test_bars_are_as_narrow_as_their_number_allows(sizes: list[int], most: int) -> None:
    width = corpus_stats.bar_width(np.array(sizes), most)

    def bars(width: int) -> int:
        return max(sizes) // width - min(sizes) // width + 1

    assert bars(width) <= most
    assert str(width).rstrip("0") in {"1", "2", "5"}
    narrower = {"1": width // 2, "2": width // 2, "5": width * 2 // 5}[str(width)[0]]
    assert width == 1 or bars(narrower) > most


def test_the_report_has_counts_lengths_choices_and_ends_with_the_flags(
    corpus: list[Utterance],
) -> None:
    lengths = measure(corpus, SETTINGS)
    recommended = recommend(lengths, SETTINGS, 0.01)
    text = corpus_stats.report("data/t", lengths, SETTINGS, recommended)
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["data/t"]
    assert ["utterances", "6", "of", "12", "usable"] in rows
    assert ["no", "transcript", "1"] in rows and ["unreadable", "audio", "1"] in rows
    assert ["speakers", "2,", "of", "0.00", "h", "(1)", "to", "0.00", "h", "(2)"] in rows
    assert [row[0] for row in rows if row[-2:] == ["present", "setting"]] == ["1000", "100"]
    assert "at most 1% of the hours (together 0 utterances, 0.00%)" in text
    assert rows[-1] == ["--max_sequence_length=376", "--max_label_length=2"]
    assert max(map(len, text.splitlines())) <= 110


def test_what_both_recommended_limits_discard_is_counted_once() -> None:
    lengths = lengths_of([100, 100, 100, 5000], [10, 50, 10, 50])
    text = corpus_stats.report("t", lengths, SETTINGS, Recommendation(200, 20, 0.99))
    assert "together 2 utterances, 96.23%" in text


def test_the_rule_of_an_evaluation_set_is_to_keep_everything() -> None:
    text = corpus_stats.report("t", TEN, SETTINGS, recommend(TEN, SETTINGS, 0.0))
    assert "the smallest that discard nothing" in text
    assert text.endswith("\n--max_sequence_length=1000 --max_label_length=100")


def test_one_speaker_is_named_without_a_range() -> None:
    assert "  speakers         1 (1)\n" in corpus_stats.overview("t", TEN)


def test_an_overview_of_nothing_usable_has_the_reasons(corpus: list[Utterance]) -> None:
    text = corpus_stats.overview("t", measure(corpus[3:5], SETTINGS))
    assert [line.split() for line in text.splitlines()] == [
        *(["t"], ["utterances", "0", "of", "2", "usable"]),
        *(["no", "audio", "1"], ["no", "transcript", "1"]),
    ]


# --- As a picture ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("present", "lines"), [(1100, [800, 1100]), (9000, [800])])
def test_the_figure_has_every_utterance_and_the_limits_that_fit(
    present: int, lines: list[int]
) -> None:
    settings = replace(SETTINGS, max_sequence_length=present)
    figure = corpus_stats.figure("data/t", TEN, settings, Recommendation(800, 90, 0.3))
    assert figure.get_suptitle() == "data/t: 10 utterances, 0.02 hours"
    of_frames, of_labels = figure.axes
    for axes in (of_frames, of_labels):
        heights = [patch.get_height() for patch in axes.patches]  # type: ignore[attr-defined]
        assert sum(heights) == 10
    positions = [np.asarray(line.get_xdata()) for line in of_frames.lines]
    drawn = [position[0] for position in positions if len(position)]
    assert drawn == lines
    assert of_frames.get_xlim()[1] >= max(lines)
    legend = of_frames.get_legend()
    assert legend is not None
    recommended, other = (text.get_text() for text in legend.get_texts())
    assert recommended == "recommended: 800, discards 34.55% of the hours"
    assert other.startswith(f"present setting: {present}, discards 0.00% of the hours")
    assert ("off the right edge" in other) == (len(lines) == 1)


def test_the_upper_axis_shows_seconds() -> None:
    figure = corpus_stats.figure("t", TEN, SETTINGS, Recommendation(800, 90, 0.3))
    figure.canvas.draw()
    of_frames = figure.axes[0]
    (seconds,) = of_frames.child_axes
    assert seconds.get_xlabel() == "seconds"
    assert seconds.get_xlim() == pytest.approx(np.array(of_frames.get_xlim()) / 100)


def test_the_figure_is_a_png_in_a_new_folder(tmp_path: Path) -> None:
    path = corpus_stats.figure_path(str(tmp_path / "new"), "data/train.tfrecords")
    assert path == str(tmp_path / "new/train.tfrecords.lengths.png")
    corpus_stats.draw(path, "$a_$", lengths_of([7]), SETTINGS, Recommendation(8, 10, 0.0))
    assert Path(path).read_bytes().startswith(b"\x89PNG")


def test_a_figure_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.lengths.png"
    path.mkdir()
    refusal = r"t\.lengths\.png can't be written: Is a directory\..*DEEP_SPEECH_REPORT_DIR"
    with pytest.raises(UserError, match=refusal):
        corpus_stats.draw(str(path), "t", TEN, SETTINGS, Recommendation(800, 90, 0.3))


def test_a_figure_in_a_bucket_is_refused() -> None:
    with pytest.raises(UserError, match=r"gs://b/t\.lengths\.png.*DEEP_SPEECH_REPORT_DIR"):
        corpus_stats.draw("gs://b/t.lengths.png", "t", TEN, SETTINGS, Recommendation(8, 9, 0.3))


def test_matplotlib_is_imported_only_to_draw_and_pyplot_never() -> None:
    code = f"""
import sys
sys.path[:0] = {str(Path(__file__).parent)!r}, {str(ROOT / "tests/support")!r}
from test_corpus_stats import SETTINGS, TEN, Recommendation, corpus_stats
assert "matplotlib" not in sys.modules
corpus_stats.figure("t", TEN, SETTINGS, Recommendation(800, 90, 0.3))
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules and "tensorflow" not in sys.modules
"""
    outcome = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr


def test_a_folder_that_can_not_be_made_is_an_error_with_a_remedy(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file" / "t.lengths.png")
    with pytest.raises(UserError, match=r"file can't be made: .*DEEP_SPEECH_REPORT_DIR"):
        corpus_stats.draw(path, "t", TEN, SETTINGS, Recommendation(800, 90, 0.3))
