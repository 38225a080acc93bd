"""A corpus is divided into sets by its speakers."""

import logging
import random
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.corpora.splits import SETS, parse_shares, split
from speech.corpora.utterance import Utterance
from utils import UserError


def spoken(speakers: dict[str, int]) -> list[Utterance]:
    return [
        Utterance(f"{speaker}-x/{number}", f"/{speaker}{number}.wav", "a", speaker)
        for speaker, count in speakers.items()
        for number in range(count)
    ]


def counts(sets: dict[str, list[Utterance]]) -> list[int]:
    return [len(sets[name]) for name in SETS]


def speakers_of(utterances: list[Utterance]) -> set[str]:
    return {each.speaker for each in utterances}


SHARES = st.sampled_from([(70, 20, 10), (80, 10, 10), (100, 0, 0), (90, 0, 10), (34, 33, 33)])


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=3, max_size=30), SHARES, st.integers(0, 5))
def test_speakers_are_in_one_set_and_no_set_with_a_share_is_empty(
    sizes: list[int], shares: tuple[int, int, int], seed: int
) -> None:
    utterances = spoken({f"s{number}": size for number, size in enumerate(sizes)})
    sets = split(utterances, shares, seed)
    dealt = [each.utterance_id for each in chain(*sets.values())]
    assert sorted(dealt) == sorted(each.utterance_id for each in utterances)
    voices = [speakers_of(sets[name]) for name in SETS]
    assert sum(map(len, voices)) == len(sizes)
    assert [bool(there) for there in voices] == [share > 0 for share in shares]


def test_sets_have_their_shares_of_the_utterances() -> None:
    many = spoken({f"s{number}": 5 + number % 7 for number in range(200)})
    for name, share in zip(SETS, (70, 20, 10), strict=True):
        assert abs(len(split(many)[name]) - share * len(many) / 100) < 12
    assert counts(split(spoken({f"s{number}": 1 for number in range(10)}))) == [7, 2, 1]


def test_the_largest_speaker_is_in_the_training_set() -> None:
    few = spoken({"big": 1000, **{f"s{number}": 10 for number in range(100)}})
    sets = split(few)
    assert "big" in speakers_of(sets["train"])
    assert counts(sets) == [1400, 400, 200]
    assert counts(split(spoken({"a": 10, "big": 1000, "b": 10}))) == [1000, 10, 10]


def test_only_the_seed_changes_the_sets_not_order_or_path() -> None:
    utterances = spoken({f"s{number}": 3 for number in range(30)})
    shuffled = utterances[:]
    random.Random(1).shuffle(shuffled)
    for name, chosen in split(utterances, random_seed=7).items():
        again = split(shuffled, random_seed=7)[name]
        assert again == [each for each in shuffled if each in chosen]
    assert split(utterances, random_seed=7) != split(utterances, random_seed=8)


def test_a_few_more_speakers_leave_most_where_they_are() -> None:
    before, after = (spoken({f"s{number}": 2 for number in range(count)}) for count in (200, 204))
    moved = [
        each for name in SETS for each in split(before)[name] if each not in split(after)[name]
    ]
    assert len(moved) < 20


def test_unknown_speakers_count_as_one_per_recording() -> None:
    unknown = [Utterance(f"x/{n}", f"/x/{n // 2}.wav", "a", "") for n in range(100)]
    sets = split(unknown)
    assert counts(sets) == [70, 20, 10]
    paths = [{each.audio_path for each in sets[name]} for name in SETS]
    assert sum(map(len, paths)) == 50
    elsewhere = [Utterance(each.utterance_id, f"/y{each.audio_path}", "a", "") for each in unknown]
    assert [each.utterance_id for each in split(elsewhere)["dev"]] == [
        each.utterance_id for each in sets["dev"]
    ]


def test_another_name_of_the_corpus_folder_changes_no_set() -> None:
    def unknown(folder: str) -> list[Utterance]:
        return [Utterance(f"{folder}/wav/{n}", f"/{folder}/{n}.wav", "a", "") for n in range(60)]

    def numbers(sets: dict[str, list[Utterance]]) -> dict[str, list[str]]:
        return {name: [each.utterance_id[-2:] for each in sets[name]] for name in SETS}

    assert numbers(split(unknown("ru"))) == numbers(split(unknown("russian")))
    both = unknown("ru") + unknown("de")
    assert {name: set(those) for name, those in split(both).items()} == {
        name: set(those) for name, those in split(both[::-1]).items()
    }


def test_unknown_speakers_cause_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    known = spoken({f"s{number}": 3 for number in range(4)})
    unknown = [Utterance(f"x/{n}", f"/x/{n}.wav", "a", "") for n in range(5)]
    with caplog.at_level(logging.WARNING, logger="absl"):
        split(known)
        assert not caplog.text
        split(known + unknown)
    assert "The speaker of 5 of 17 utterances is unknown: the same voice may be" in caplog.text


def test_too_few_speakers_are_refused() -> None:
    two = spoken({"a": 50, "b": 50})
    with pytest.raises(UserError, match=r"has 2 speakers, .*train, dev, test.*--train_files"):
        split(two)
    assert counts(split(two, (90, 0, 10))) == [50, 0, 50]
    assert counts(split(two, (100, 0, 0))) == [100, 0, 0]


def test_shares_are_parsed() -> None:
    assert parse_shares("70/20/10") == (70, 20, 10)
    assert parse_shares(" 100 / 0/0") == (100, 0, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("70/30", "--split=70/30 is not three whole numbers: .*--split=70/20/10"),
        ("70/20/1²", "is not three whole numbers"),
        ("0.7/0.2/0.1", "is not three whole numbers"),
        ("-70/160/10", "is not three whole numbers"),
        ("", "--split= is not three whole numbers"),
        ("70/20/20", "--split=70/20/20 adds up to 110: give three percentages"),
        ("0/50/50", "leaves no training set"),
    ],
)
def test_invalid_shares_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_shares(text)
