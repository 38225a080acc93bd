"""Utterances and what a network makes of them stay together."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_shards import random_utterances, write_shards

from speech.evaluation.recognition import recognise
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.parsing import transcripts
from utils import UserError

SIZES = [2, 2, 1]  # of the batches


class Predictor:
    """An estimator whose log-probabilities and losses tell an utterance's number."""

    def __init__(self, batches: int, filling: int = 0) -> None:
        self.batches = batches
        self.filling = filling  # rows behind the last utterance, as on a TPU

    def predict(self, *unused: Any, **unused_too: Any) -> Any:
        number = 0
        for size in SIZES[: self.batches]:
            rows = np.arange(number, number + size + (self.filling if size == 1 else 0))
            number += size
            yield {
                "log_probs": np.full([len(rows), 9, 4], rows[:, None, None], np.float32),
                "output_length": rows + 1,
                "ctc_loss": 10.0 * rows,
                "aligned": (rows != 3).astype(np.float32),
            }


@pytest.mark.parametrize("filling", [0, 1])
def test_every_utterance_has_its_own_output(tmp_path: Path, filling: int) -> None:
    shards = write_shards(tmp_path, random_utterances([30] * 5, 4))
    references = transcripts(shards)
    batches = list(
        recognise(Predictor(3, filling), "", shards, Batching(2, filling > 0), references)
    )
    assert [len(batch) for batch in batches] == SIZES
    for number, each in enumerate(chain(*batches)):
        assert (each.utterance_id, each.reference) == references[number]
        assert each.log_probs.shape == (number + 1, 4) and (each.log_probs == number).all()
        assert each.loss == (None if number == 3 else 10.0 * number)


def test_lost_utterance_is_no_result(tmp_path: Path) -> None:
    """Batches that end too early, as no TPUEstimator should give them."""
    shards = write_shards(tmp_path, random_utterances([30] * 5, 4))
    with pytest.raises(AssertionError, match="an utterance was lost"):
        list(recognise(Predictor(2), "", shards, Batching(2, False), transcripts(shards)))


def test_output_that_is_no_number_names_the_utterance(tmp_path: Path) -> None:
    class Broken(Predictor):
        def predict(self, *unused: Any, **unused_too: Any) -> Any:
            for number, batch in enumerate(super().predict()):
                if number == 1:
                    batch["log_probs"][1, 0] = np.nan
                yield batch

    shards = write_shards(tmp_path, random_utterances([30] * 5, 4))
    with pytest.raises(UserError, match="utterance-0003") as error:
        list(recognise(Broken(3), "", shards, Batching(2, False), transcripts(shards)))
    assert shards.pattern in str(error.value)
