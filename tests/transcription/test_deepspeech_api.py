"""DeepSpeech's interface on this project's models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import write_model
from tiny_scorer import write_tiny_scorer
from tone_model import silence, tone, tones, write_tone_model

from speech.transcription.deepspeech_api import AudioBuffer, Metadata, Model, Stream, version
from utils import Alphabet, UserError

SAMPLES = np.concatenate([tones("a cat"), silence(0.4), tones(" bat"), silence(0.3)])
# "bat" or "cat", the former somewhat more probable.
UNSURE = np.concatenate([tone("bc").astype(np.int16), silence(0.05), tones("at"), silence(0.2)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deepspeech")
    write_tone_model(folder / "model")
    write_tiny_scorer(folder / "scorer", alpha=5.0)
    return folder


@pytest.fixture
def model(folder: Path) -> Model:
    return Model(folder / "model")


def fed(model: Model, samples: np.ndarray = SAMPLES) -> Stream:
    stream = model.create_stream()
    for at in range(0, len(samples), 320):
        stream.feed_audio_content(samples[at : at + 320])
    return stream


def test_recording_and_its_stream_have_the_same_text(model: Model) -> None:
    assert model.sample_rate() == 16000
    assert model.stt(SAMPLES) == "a cat bat"
    assert fed(model).finish_stream() == "a cat bat"


def test_text_so_far_can_be_decoded_at_any_time(model: Model) -> None:
    stream = model.create_stream()
    assert stream.intermediate_decode() == ""
    assert stream.intermediate_decode_with_metadata().transcripts[0].tokens == []
    texts = []
    for at in range(0, len(SAMPLES), 1600):
        stream.feed_audio_content(SAMPLES[at : at + 1600])
        texts.append(stream.intermediate_decode())
        tokens = stream.intermediate_decode_with_metadata().transcripts[0].tokens
        assert "".join(each.text for each in tokens) == texts[-1]
    assert set(texts) >= {"a", "a c", "a ca", "a cat", "a cat b"}
    assert texts == sorted(texts, key=len)
    assert stream.finish_stream() == "a cat bat"


def test_tokens_are_characters_with_their_times(model: Model) -> None:
    (best,) = model.stt_with_metadata(SAMPLES).transcripts
    assert "".join(each.text for each in best.tokens) == "a cat bat"
    for token, letter in zip(best.tokens, [0, 1, 2, 3, 4, 5, 6, 7, 8], strict=True):
        start = 0.15 * letter + (0.4 if letter > 4 else 0)
        assert token.start_time == pytest.approx(start, abs=0.025)
        assert token.start_time == pytest.approx(token.timestep * 0.01)
    streamed = fed(model).finish_stream_with_metadata(3).transcripts
    assert len(streamed) == 3
    assert streamed[0].tokens == best.tokens
    assert streamed[0].confidence == pytest.approx(best.confidence, abs=1e-3)
    assert streamed[0].confidence > streamed[1].confidence > streamed[2].confidence


def test_scorer_weights_and_hot_words_change_the_text(model: Model, folder: Path) -> None:
    assert "c" in model.stt(UNSURE) and "b" in model.stt(UNSURE)
    before = fed(model, UNSURE)
    model.enable_external_scorer(str(folder / "scorer"))
    assert model.stt(UNSURE) == fed(model, UNSURE).finish_stream() == "cat"
    assert before.finish_stream() not in ("cat", "bat")  # begun without a scorer
    model.set_scorer_alpha_beta(0.0, 0.0)
    assert model.stt(UNSURE) == "bat"
    model.add_hot_word("cat", 20.0)
    assert model.stt(UNSURE) == "cat"
    model.erase_hot_word("cat")
    assert model.stt(UNSURE) == "bat"
    model.add_hot_word("cat", 20.0)
    model.clear_hot_words()
    assert model.stt(UNSURE) == "bat"
    model.disable_external_scorer()
    model.enable_external_scorer(str(folder / "scorer"))  # with its own weights again
    assert model.stt(UNSURE) == "cat"


def test_beam_width_is_the_decoders(model: Model) -> None:
    assert model.beam_width() == 100
    model.set_beam_width(2)
    assert model.beam_width() == 2
    assert len(model.stt_with_metadata(SAMPLES, 50).transcripts) <= 2


def test_streams_run_side_by_side(model: Model) -> None:
    first, second = model.create_stream(), model.create_stream()
    one, other = tones("cat a bat"), tones("tab cab a")
    for at in range(0, len(one), 800):
        first.feed_audio_content(one[at : at + 800])
        second.feed_audio_content(other[at : at + 800])
    assert second.finish_stream() == "tab cab a"
    assert first.finish_stream() == "cat a bat"


ENDS: list[Callable[[Stream], str | Metadata | None]] = [
    Stream.finish_stream,
    Stream.finish_stream_with_metadata,
    Stream.free_stream,
]
USES: list[Callable[[Stream], object]] = [
    *ENDS,
    Stream.intermediate_decode,
    Stream.intermediate_decode_with_metadata,
    lambda stream: stream.feed_audio_content(SAMPLES),
]


@pytest.mark.parametrize("end", ENDS)
def test_finished_stream_refuses_all_calls(model: Model, end: Callable[[Stream], object]) -> None:
    stream = fed(model, SAMPLES[:1600])
    end(stream)
    for use in USES:
        with pytest.raises(UserError, match="a stream that is finished: create another"):
            use(stream)


def test_no_samples_have_an_empty_text(model: Model) -> None:
    assert model.stt(silence(0)) == ""
    assert model.create_stream().finish_stream() == ""
    assert model.stt_with_metadata(silence(0)).transcripts[0].tokens == []
    assert model.create_stream().finish_stream_with_metadata().transcripts[0].tokens == []


AS_SAMPLES: list[Callable[[np.ndarray], AudioBuffer]] = [
    np.ndarray.tolist,
    lambda samples: tuple(samples.tolist()),
    lambda samples: samples.astype(">i2"),
    lambda samples: samples.astype(np.int64),
    lambda samples: samples.astype("<i2").tobytes(),
    lambda samples: bytearray(samples.astype("<i2").tobytes()),
]


@pytest.mark.parametrize("given", AS_SAMPLES)
def test_16_bit_samples_of_any_type_are_accepted(
    model: Model, given: Callable[[np.ndarray], AudioBuffer]
) -> None:
    assert model.stt(given(SAMPLES)) == "a cat bat"
    stream = model.create_stream()
    stream.feed_audio_content(given(SAMPLES[:0]))
    stream.feed_audio_content(given(SAMPLES))
    assert stream.finish_stream() == "a cat bat"


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.zeros(100), r"ndarray of float64 numbers, of shape \[100\]"),
        (np.zeros((100, 2), np.int16), r"ndarray of int16 numbers, of shape \[100, 2\]"),
        (np.zeros(100, np.uint8), "ndarray of uint8 numbers"),
        (np.zeros(0), "ndarray of float64 numbers"),
        ([0.5, 1.0], "list of float64 numbers"),
        ([[0], [0, 1]], "list of object numbers"),
        (b"\0\0\0", "3 bytes, not whole samples"),
        ("abc", "The audio is a str: "),
        (None, "The audio is a NoneType: "),
        ([0, 32768], "has 32768, which doesn't fit into 16 bits"),
        (np.array([-32769, 0]), "has -32769, which doesn't fit into 16 bits"),
    ],
)
def test_audio_that_is_not_16_bit_samples_is_refused(
    model: Model, samples: Any, expected: str
) -> None:
    for accept in (model.stt, model.stt_with_metadata, model.create_stream().feed_audio_content):
        with pytest.raises(UserError, match=f"{expected}.*give int16 numbers of one channel"):
            accept(samples)


@pytest.mark.parametrize("num_results", [0, -1, 1.5, "3"])
def test_invalid_number_of_results_is_refused_and_the_stream_continues(
    model: Model, num_results: Any
) -> None:
    stream = fed(model)
    uses: list[Callable[[], object]] = [
        lambda: model.stt_with_metadata(SAMPLES, num_results),
        lambda: stream.intermediate_decode_with_metadata(num_results),
        lambda: stream.finish_stream_with_metadata(num_results),
    ]
    for use in uses:
        with pytest.raises(UserError, match=f"num_results is {num_results!r}: .* 1 or more"):
            use()
    assert stream.finish_stream() == "a cat bat"


def test_blocks_without_an_output_use_no_memory(model: Model) -> None:
    stream = fed(model, SAMPLES[:8000])
    kept = len(stream._log_probs)
    for _ in range(100):
        stream.feed_audio_content(SAMPLES[:0])
    assert len(stream._log_probs) == kept <= 8000 / 1600


def test_scorer_that_does_not_fit_hot_words_is_refused_and_changes_nothing(
    model: Model, folder: Path
) -> None:
    letters = dict.fromkeys("abct", -1.0)
    characters = write_tiny_scorer(folder / "characters", letters, characters=True)
    model.enable_external_scorer(folder / "scorer")
    model.add_hot_word("cat", 3.0)
    before = model.stt(UNSURE)
    with pytest.raises(UserError, match="give single characters"):
        model.enable_external_scorer(characters)
    assert model.stt(UNSURE) == before
    model.set_scorer_alpha_beta(1.0, 1.0)  # the scorer of words is still enabled
    model.erase_hot_word("cat")
    model.enable_external_scorer(characters)
    model.stt(UNSURE)


def test_scorer_that_hot_words_need_can_not_be_disabled(tmp_path: Path) -> None:
    alphabet = Alphabet(("a", "b"))
    write_model(tmp_path / "model", alphabet=alphabet)
    scorer = tmp_path / "scorer"
    write_tiny_scorer(scorer, {"a": -1.0}, alphabet=alphabet, characters=True)
    model = Model(tmp_path / "model")
    model.enable_external_scorer(scorer)
    model.add_hot_word("b", 3.0)
    with pytest.raises(UserError, match="require an alphabet that contains the space"):
        model.disable_external_scorer()
    model.set_scorer_alpha_beta(1.0, 1.0)
    model.clear_hot_words()
    model.disable_external_scorer()


def test_invalid_settings_are_refused_and_change_nothing(model: Model, folder: Path) -> None:
    without: list[Callable[[], None]] = [
        model.disable_external_scorer,
        lambda: model.set_scorer_alpha_beta(1.0, 1.0),
    ]
    for use in without:
        with pytest.raises(UserError, match="has no scorer: enable_external_scorer"):
            use()
    with pytest.raises(UserError, match="beam width is 0"):
        model.set_beam_width(0)
    with pytest.raises(UserError, match="can't be read"):
        model.enable_external_scorer(str(folder / "none.scorer"))
    model.add_hot_word("cat", 3.0)
    with pytest.raises(UserError, match=r"'cat' is a hot word already, with 3\.0"):
        model.add_hot_word("cat", 4.0)
    with pytest.raises(UserError, match=r"'bat' is not a hot word: give one of \['cat'\]"):
        model.erase_hot_word("bat")
    for word, boost in (("é", 3.0), ("a cat", 3.0), ("bat", 1000.0)):
        with pytest.raises(UserError):
            model.add_hot_word(word, boost)
    wrong: list[tuple[str, Callable[[Any], None], Any]] = [
        ("beam_width is", model.set_beam_width, 10.5),
        ("beam_width is", model.set_beam_width, "500"),
        ("'bat' has", lambda boost: model.add_hot_word("bat", boost), "7.5"),
        ("The hot word", lambda word: model.add_hot_word(word, 7.5), 5),
    ]
    for expected, use_with, value in wrong:
        with pytest.raises(UserError, match=f"{expected} {value!r}"):
            use_with(value)
    assert model.beam_width() == 100
    assert model.stt(SAMPLES) == "a cat bat"
    with pytest.raises(UserError, match="is not a model"):
        Model(str(folder))
    with pytest.raises(UserError, match="model's path is empty: name a model directory"):
        Model("")
    with pytest.raises(UserError, match=r"scorer's path is empty: name a file that build_lm"):
        model.enable_external_scorer("")
    with pytest.raises(UserError, match=r"'CAT' has .*: write it in lower case, cat"):
        model.add_hot_word("CAT", 3.0)


def test_version_is_the_packages() -> None:
    assert version().count(".") == 2
