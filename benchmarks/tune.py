"""Measures trials per minute in the search for alpha and beta, against recomputing the network.

  python benchmarks/tune.py --model_dir=model --scorer=lm/kenlm.scorer

All rows are measured in turn, in every round of one run, on the same development set.

  a trial       a trial of tune_lm.py: the next pair of weights, decoding the set, counting errors;
                the mean of several, since the weights change how long a search takes
  recomputing   the network's pass over the set and then the same trial, as in Mozilla DeepSpeech's
                lm_optimizer.py: with the model, with this project's default network, and with that
                of DeepSpeech (these two untrained: training doesn't change their time)

The real lm_optimizer.py would take longer: it also recomputes the features and restores the
checkpoint; this recomputation reads shards.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import constants

# isort: split
# After constants, which sets TensorFlow's environment.
from dataclasses import replace
from typing import Any

from absl import flags, logging

import model
from speech.decoding.beam_search import BeamSettings
from speech.decoding.scorer import check_alphabet, read_scorer
from speech.engines import checkpoints, devices
from speech.engines.engine import RunSettings
from speech.evaluation import recognition
from speech.evaluation.recogniser import Recogniser, on_device
from speech.flags import kinds
from speech.networks.config import ModelConfig, NetworkConfig, read_config
from speech.shards.shard_set import ShardSet
from speech.system import command_line, tensorflow_import
from speech.tuning import search
from speech.tuning.trials import Weights

FLAGS = flags.FLAGS

# Name of a network -> its project.
UNTRAINED = {"deep_speech_1": "the default", "deep_speech_lstm": "DeepSpeech's"}


def define_flags() -> None:
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "Model directory.")
    flags.DEFINE_string("dev_data", constants.DEV_DATA, "Shards of the development set.")
    flags.DEFINE_string("scorer", f"{constants.LM_DIR}/{constants.SCORER_FILE}", "Language model.")
    kinds.define_integer(
        "beam_width", constants.BEAM_WIDTH, "Prefixes that the beam keeps.", lower_bound=1
    )
    kinds.define_integer("eval_batch_size", 8, "Utterances per batch.", lower_bound=1)
    kinds.define_integer("trials", 20, "Of a round, of which the mean counts.", lower_bound=1)
    kinds.define_integer(
        "rounds", 3, "Number of rounds; the table shows their medians.", lower_bound=1
    )
    command_line.define_logging_flag()


def ready(config: ModelConfig, checkpoint: Any, model_dir: str) -> Recogniser:
    run = RunSettings(model_dir, FLAGS.eval_batch_size)
    return on_device(devices.DeviceSettings(), config, checkpoint, run, model.model_fn_builder)


def seconds_of_pass(network: Recogniser, shards: ShardSet) -> float:
    start = time.perf_counter()
    assert len(network.outputs_of(shards)) == shards.index.records
    return time.perf_counter() - start


def seconds_of_trial(objective: search.Objective, seed: int) -> float:
    """Returns the mean time of the first trials of a search."""
    settings = search.SearchSettings(
        trials=FLAGS.trials,
        alpha_max=constants.LM_ALPHA_MAX,
        beta_max=constants.LM_BETA_MAX,
        early_stopping=FLAGS.trials,
        random_seed=seed,
    )
    start = time.perf_counter()
    made = sum(1 for _ in search.search(objective, [], settings))
    return (time.perf_counter() - start) / made


def row(name: str, seconds: float, alone: float) -> str:
    return f"{name:<44}{seconds:>9.2f}{60 / seconds:>13.1f}{seconds / alone:>9.1f}x"


def main() -> None:
    tensorflow_import.quieten(FLAGS.logging)
    config = read_config(FLAGS.model_dir)
    scorer = read_scorer(FLAGS.scorer)
    check_alphabet(scorer, config.alphabet, FLAGS.model_dir, config.phonetic_alphabet)
    shards = recognition.find_set(FLAGS.dev_data, config, FLAGS.model_dir)
    checkpoint = checkpoints.find_checkpoint(FLAGS.model_dir, None)
    with tempfile.TemporaryDirectory() as folder:
        own = ready(config, checkpoint, FLAGS.model_dir)
        networks = {f"{config.network.name}, the model's": own}
        for name, whose in UNTRAINED.items():
            network = NetworkConfig.of(config.network.bins, config.network.labels, name)
            # Without a checkpoint the estimator initialises the variables.
            untrained = ready(replace(config, network=network), None, f"{folder}/{name}")
            networks[f"{name}, {whose}"] = untrained
        objective = search.Objective(
            own.outputs_of(shards), scorer, BeamSettings(FLAGS.beam_width), search.WER
        )
        objective.trial(Weights(1.0, 1.0))  # compiles the search
        rounds = []
        for number in range(FLAGS.rounds):
            logging.info("Round %d of %d", number + 1, FLAGS.rounds)
            trial = seconds_of_trial(objective, number)
            passes = [seconds_of_pass(network, shards) for network in networks.values()]
            rounds.append([trial, *(seconds + trial for seconds in passes)])
    alone, *recomputed = (statistics.median(each) for each in zip(*rounds, strict=True))
    print(
        f"{shards.index.records} utterances, {shards.index.audio_seconds / 60:.1f} minutes, beam "
        f"{FLAGS.beam_width}, {FLAGS.rounds} rounds\n"
        f"{'':<44}{'seconds':>9}{'trials/min':>13}{'ratio':>10}"
    )
    print(row("a trial on the kept output", alone, alone))
    for name, seconds in zip(networks, recomputed, strict=True):
        print(row(f"recomputing {name}", seconds, alone))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
