"""The index and its JSON."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shard_indexes import FULL, SETTINGS

from speech.augmentation.waveform import Copies
from speech.features.front_end import FrontEnd
from speech.features.normalisation import Sums
from speech.shards.index import Index, histogram, read_index
from utils import Alphabet, UserError

# --- The index ------------------------------------------------------------------------------------


def test_the_index_comes_back_from_its_json() -> None:
    russian = Alphabet(tuple('абвгдеёж "'))
    for index in (
        FULL,
        Index(SETTINGS, 0, ""),
        replace(FULL, settings=replace(SETTINGS, alphabet=russian, padded=False)),
    ):
        text = index.to_json()
        assert Index.from_json(text, "path") == index
        assert Index.from_json(text, "path").to_json() == text


def test_shards_are_in_order_however_they_were_added() -> None:
    assert [shard.start for shard in FULL.shards] == [0, 10, 20]
    assert [skipped.position for skipped in FULL.skipped] == [3, 19, 21]


def test_totals_are_over_the_shards() -> None:
    assert (FULL.records, FULL.longest_frames, FULL.longest_label) == (27, 110, 15)
    assert FULL.audio_seconds == pytest.approx(37.035)
    assert FULL.frames_histogram == {80: 24, 90: 1, 100: 1, 110: 1}
    assert list(FULL.frames_histogram) == [80, 90, 100, 110]
    assert FULL.complete


def test_a_lost_shard_takes_its_skipped_utterances_along() -> None:
    index = FULL.without_shard(FULL.shards[1])
    assert [shard.start for shard in index.shards] == [0, 20]
    assert [skipped.position for skipped in index.skipped] == [3, 21]
    assert not index.complete
    assert index.with_shard(FULL.shards[1], [FULL.skipped[1]]) == FULL


def test_a_histogram_counts_by_lower_edge_in_order() -> None:
    assert list(histogram([105, 9, 10, 19, 0], 10).items()) == [("0", 2), ("10", 2), ("100", 1)]
    assert histogram([], 10) == {}


# --- A set of shards on disk ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("records", "ten", "shards[1]: records 'ten' is no whole number"),
        ("records", 8, "shards[1]: 8 records and 1 skipped don't fill start 10 to end 20"),
        ("records", True, "shards[1]: records True is no whole number"),
        ("bytes", -1, "shards[1]: bytes -1 is no whole number"),
        ("bytes", 1.5, "shards[1]: bytes 1.5 is no whole number"),
        ("end", 25, "shards[1]: 9 records and 2 skipped don't fill start 10 to end 25"),
        ("end", 31, "shards[1]: start 10 and end 31 must be between 10 and 30"),
        ("start", 9, "shards[1]: start 9 and end 20 must be between 10 and 30"),
        ("file", "x", "shards[1]: file 'x' is no name of start 10"),
        ("file", "train.tfrecords.00000020", "is no name of start 10"),
        ("crc32c", 7, "shards[1]: crc32c 7 is not of the type it had"),
        ("audio_seconds", "1", "shards[1]: audio_seconds '1' is no number"),
        ("frames_histogram", {"x": 9}, "shards[1]: a histogram has 'x', which is no number"),
        ("labels_histogram", {"5": "9"}, "shards[1]: labels_histogram['5'] '9' is no whole number"),
        ("labels_histogram", [], "shards[1]: labels_histogram [] is no object"),
    ],
)
def test_a_shard_that_was_changed_by_hand_is_named_with_its_field(
    field: str, value: object, says: str
) -> None:
    content = json.loads(FULL.to_json())
    content["shards"][1][field] = value
    with pytest.raises(UserError, match="remove it and prepare the shards again") as error:
        Index.from_json(json.dumps(content), "train.index.json")
    assert says in str(error.value)
    assert str(error.value).startswith("train.index.json is not an index of shards (")


@pytest.mark.parametrize(
    ("part", "field", "says"),
    [
        ("settings", "partition_size", "settings: partition_size 'x' is no whole number"),
        ("settings", "front_end", "is not an index of shards"),
        ("settings", "padded", "settings: padded 'x' is not of the type it had"),
        ("corpus", "utterances", "corpus: utterances 'x' is no whole number"),
        ("shards", None, "is not an index of shards"),
        ("skipped", 0, "is not an index of shards"),
    ],
)
def test_what_else_was_changed_by_hand_is_refused(
    part: str, field: str | int | None, says: str
) -> None:
    content = json.loads(FULL.to_json())
    if field is None:
        content[part] = "x"
    else:
        content[part][field] = "x"
    with pytest.raises(UserError) as error:
        Index.from_json(json.dumps(content), "train.index.json")
    assert says in str(error.value)


def test_the_front_end_s_numbers_are_checked_too() -> None:
    content = json.loads(FULL.to_json())
    content["settings"]["front_end"]["pre_emphasis"] = "x"
    with pytest.raises(UserError, match="front_end: pre_emphasis 'x' is no number"):
        Index.from_json(json.dumps(content), "train.index.json")


def test_copies_are_kept_and_an_older_index_has_none() -> None:
    copies = Copies(("reverb[p=0.5]", "speed"), 2, 7, "abc")
    index = replace(FULL, settings=replace(FULL.settings, copies=copies))
    assert Index.from_json(index.to_json(), "") == index
    content = json.loads(FULL.to_json())
    del content["settings"]["copies"]
    assert Index.from_json(json.dumps(content), "") == FULL


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("augment", "speed", "copies: augment 'speed' is no list"),
        ("augment", [1], "copies: augment[0] 1 is not of the type it had"),
        ("augmented_copies", "2", "copies: augmented_copies '2' is no whole number"),
        ("noise_sha256", 5, "copies: noise_sha256 5 is not of the type it had"),
    ],
)
def test_copies_that_were_changed_by_hand_are_refused(field: str, value: object, says: str) -> None:
    content = json.loads(FULL.to_json())
    content["settings"]["copies"][field] = value
    with pytest.raises(UserError) as error:
        Index.from_json(json.dumps(content), "train.index.json")
    assert says in str(error.value)


# --- Sums of the features -------------------------------------------------------------------------


OVER_CORPUS = replace(
    FULL,
    settings=replace(SETTINGS, front_end=FrontEnd(mel_filters=2, normalisation="corpus")),
    shards=tuple(
        replace(shard, sums=Sums(1 + number, (0.1, 1.0 + number), (0.3, 9.0)))
        for number, shard in enumerate(FULL.shards)
    ),
)


def test_an_index_with_sums_comes_back_from_its_json_and_gives_statistics() -> None:
    text = OVER_CORPUS.to_json()
    assert Index.from_json(text, "path") == OVER_CORPUS
    assert Index.from_json(text, "path").to_json() == text
    statistics = OVER_CORPUS.statistics
    assert statistics is not None
    np.testing.assert_allclose(statistics.mean, [0.3 / 6, 1])
    np.testing.assert_allclose(statistics.deviation, np.sqrt([0.9 / 6 - 0.0025, 27 / 6 - 1]))
    assert FULL.statistics is None
    # Of the shards that a pattern names, these alone count.
    alone = replace(OVER_CORPUS, shards=OVER_CORPUS.shards[1:2])
    assert alone.statistics == Sums(2, (0.1, 2.0), (0.3, 9.0)).statistics


@pytest.mark.parametrize(
    ("sums", "says"),
    [
        (None, "shards[1]: sums of 0 bins, not of 2"),
        ({"frames": 5, "values": [1.0], "squares": [1.0]}, "shards[1]: sums of 1 bins, not of 2"),
        ({"frames": 0, "values": [1, 2], "squares": [1, 2]}, "frames 0 is no positive number"),
        ({"frames": 5, "values": [1, 2]}, "squares"),
        ([], "is not an index of shards"),
    ],
)
def test_sums_that_were_changed_by_hand_are_refused(sums: object, says: str) -> None:
    content = json.loads(OVER_CORPUS.to_json())
    content["shards"][1]["sums"] = sums
    with pytest.raises(UserError, match="remove it and prepare the shards again") as error:
        Index.from_json(json.dumps(content), "train.index.json")
    assert says in str(error.value)


def test_sums_that_are_not_needed_are_refused() -> None:
    content = json.loads(FULL.to_json())
    content["shards"][0]["sums"] = {"frames": 5, "values": [1.0], "squares": [1.0]}
    with pytest.raises(UserError, match=r"shards\[0\]: sums of 1 bins, not of 0"):
        Index.from_json(json.dumps(content), "train.index.json")


def test_an_index_of_the_first_version_is_read() -> None:
    content = json.loads(FULL.to_json())
    front_end = content["settings"]["front_end"]
    front_end["bins"] = front_end.pop("mel_filters")
    for key in ("features", "coefficients", "deltas", "normalisation"):
        del front_end[key]
    for shard in content["shards"]:
        del shard["sums"]
    assert Index.from_json(json.dumps(content), "train.index.json") == FULL


def test_every_key_of_the_settings_is_needed(tmp_path: Path) -> None:
    content = json.loads(FULL.to_json())
    for key in content["settings"].keys() - {"copies"}:  # which older indexes don't have
        without = {name: value for name, value in content["settings"].items() if name != key}
        with pytest.raises(UserError, match="is not an index"):
            Index.from_json(json.dumps({**content, "settings": without}), "train.index.json")


def test_a_set_without_index_yet_has_none(tmp_path: Path) -> None:
    assert read_index(str(tmp_path / "train.tfrecords")) is None
