"""Error rates of exported forms, against the models' output for the shards' features."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tiny_models import write_model
from tiny_shards import random_utterances, write_shards

from speech.decoding.beam_search import BeamSearchDecoder, greedy_decode
from speech.engines import checkpoints
from speech.evaluation import results
from speech.export import rates as export_rates
from speech.export.tensorflow_models import CheckpointModel
from speech.features.front_end import CORPUS, UTTERANCE
from utils import ENGLISH

Floats = npt.NDArray[np.float32]


class Recorder(CheckpointModel):
    """A checkpoint that keeps the features it is given."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), checkpoints.find_checkpoint(str(folder), None))
        self.given: list[Floats] = []

    def of_features(self, features: Floats) -> Floats:
        self.given.append(features)
        return super().of_features(features)


@pytest.mark.parametrize("normalisation", [CORPUS, UTTERANCE])
def test_models_get_features_as_they_are_stored(normalisation: str, tmp_path: Path) -> None:
    """Also with normalisation=corpus: shards store such features without it."""
    write_model(tmp_path / "model", mel_filters=4, normalisation=normalisation)
    write_model(tmp_path / "other", "conv_gru", mel_filters=4, normalisation=normalisation)
    utterances = random_utterances([60, 40, 50], 4)
    shards = write_shards(tmp_path / "shards", utterances, normalisation=normalisation)
    models = {name: Recorder(tmp_path / name) for name in ("model", "other")}
    bar: list[int] = []
    rates = export_rates.measure(models, shards, bar.append)
    assert bar == [1, 1, 1]
    texts = {}
    for name, model in models.items():
        for given, utterance in zip(model.given, utterances, strict=True):
            np.testing.assert_allclose(given, utterance.features, rtol=0, atol=1e-6)
        log_probs = [model.of_features(each.features) for each in utterances]
        decoder = BeamSearchDecoder(ENGLISH)
        texts[name] = [decoder.decode(each) for each in log_probs]
        greedy = [greedy_decode(each, ENGLISH) for each in log_probs]
        beam_rates, greedy_rates = (
            [
                results.compare(each.utterance_id, each.transcript, text, None)
                for each, text in zip(utterances, found, strict=True)
            ]
            for found in (texts[name], greedy)
        )
        summary = results.summarise(beam_rates, greedy_rates, 1.0, 1.0, 0)
        assert (rates[name].wer, rates[name].cer) == (summary.wer, summary.cer)
        assert rates[name].greedy_cer == summary.greedy_cer
        assert rates[name].utterances == 3 and rates[name].real_time_factor > 0
    assert rates["model"].changed == 0
    differing = sum(one != other for one, other in zip(*texts.values(), strict=True))
    assert rates["other"].changed == differing > 0
