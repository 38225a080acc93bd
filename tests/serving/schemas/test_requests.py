"""Options of requests."""

import pytest

from speech.decoding.beam_search import BeamSettings
from speech.serving.errors import RequestError
from speech.serving.schemas import requests


def test_later_sources_have_priority() -> None:
    options = requests.read({"beam_width": "7", "model": "a"}, {"model": "b", "details": "true"})
    assert (options.beam_width, options.model, options.details, options.candidates) == (
        7,
        "b",
        True,
        1,
    )


def test_empty_fields_are_ignored_except_the_scorer() -> None:
    options = requests.read({"beam_width": "", "model": "", "scorer": ""})
    assert (options.beam_width, options.model, options.scorer) == (None, None, "")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"beam_width": "0"}, "beam_width is '0': input should be greater than or equal to 1."),
        ({"beam_width": "1e9"}, "beam_width is '1e9'"),
        ({"lm_alpha": "nan"}, "lm_alpha is 'nan': input should be a finite number."),
        ({"lm_beta": float("inf")}, "lm_beta is Infinity"),
        ({"candidates": 11}, "candidates is 11: input should be less than or equal to 10."),
        ({"colour": "x"}, "colour is not an option: give some of model, scorer,"),
        ({"a\0b": "x"}, r"'a\x00b' is not an option"),
        ({"model": 7}, "model is 7: input should be a valid string."),
        ({"details": "x" * 999}, f"details is '{'x' * 80}...'"),
        ({"x" * 999: "x"}, f"{'x' * 80}... is not an option"),
    ],
)
def test_invalid_options_are_refused(given: dict[str, object], expected: str) -> None:
    with pytest.raises(RequestError) as raised:
        requests.read(given)
    assert raised.value.status == 400 and raised.value.message.startswith(expected)


def test_settings_are_the_servers_except_for_the_options() -> None:
    defaults = BeamSettings(beam_width=9, unknown_penalty=3)
    options = requests.read({"lm_alpha": "2", "hot_words": "cat:7.5, dog:-3,"})
    settings = requests.settings_of(options, defaults, with_scorer=True)
    assert (settings.beam_width, settings.alpha, settings.beta) == (9, 2, None)
    assert (settings.unknown_penalty, settings.hot_words) == (3, (("cat", 7.5), ("dog", -3.0)))
    with pytest.raises(RequestError, match="weight a language model: name a scorer"):
        requests.settings_of(options, defaults, with_scorer=False)


@pytest.mark.parametrize("text", ["cat", "cat:x", ":7", "cat:nan", "cat:1e999"])
def test_hot_words_without_weights_are_refused(text: str) -> None:
    options = requests.read({"hot_words": text})
    with pytest.raises(RequestError, match="give words with a number each"):
        requests.settings_of(options, BeamSettings(), with_scorer=False)


def test_too_many_hot_words_are_refused() -> None:
    options = requests.read({"hot_words": "a:1," * 101})
    with pytest.raises(RequestError, match="There are 101 hot words: give at most 100"):
        requests.settings_of(options, BeamSettings(), with_scorer=False)
