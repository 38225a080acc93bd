"""Development set + scorer -> the scorer's alpha and beta.

  python tune_lm.py
  python tune_lm.py --model_dir=model --scorer=lm/kenlm.scorer --dev_data=data/dev.tfrecords.*

The network recognises the development set once; every trial decodes its output with other weights.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator

from absl import flags, logging

import constants
import model
from speech.decoding.beam_search import BeamSettings
from speech.decoding.scorer import LARGEST_GAIN, Scorer, check_alphabet, read_scorer, write_weights
from speech.engines import checkpoints, devices, errors
from speech.evaluation import contour, logits_cache, recogniser, tuning
from speech.evaluation.bootstrap import paired_difference
from speech.evaluation.recognition import Recognition
from speech.evaluation.results import format_interval
from speech.evaluation.tuning import Trial, Weights
from speech.flags import decoder as decoder_flags
from speech.flags.tpu import define_tpu_flags, tpu_from_flags
from speech.networks.config import read_config
from speech.system import command_line, storage
from utils import UserError

FLAGS = flags.FLAGS

TRIALS_FILE = "trials.csv"


def define_flags() -> None:
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "The model that training.py made.")
    flags.DEFINE_string(
        "scorer",
        f"{constants.LM_DIR}/{constants.SCORER_FILE}",
        "The scorer that build_lm.py made; it gets the best weights.",
    )
    flags.DEFINE_string(
        "dev_data", constants.DEV_DATA, "Development shards, a glob or gs:// glob; never test data."
    )
    flags.DEFINE_string("checkpoint", None, "best, latest, average, or a path, as of eval.py.")
    command_line.define_choice(
        "metric",
        None,
        tuning.METRICS,
        "What is to be low; default: wer, and cer with a scorer of characters.",
    )
    command_line.define_integer("n_trials", constants.LM_TRIALS, "At most.", lower_bound=1)
    command_line.define_integer(
        "patience",
        constants.LM_PATIENCE,
        "Trials without a better one after which the search ends.",
        lower_bound=1,
    )
    command_line.define_number(
        "lm_alpha_max", constants.LM_ALPHA_MAX, "Largest alpha that is tried."
    )
    command_line.define_number("lm_beta_max", constants.LM_BETA_MAX, "Largest beta that is tried.")
    decoder_flags.define_search_flags()
    command_line.define_batch_size("eval_batch_size", constants.EVAL_BATCH_SIZE)
    flags.DEFINE_string(
        "logits_cache", "", "Folder where the network's output is kept; empty: nowhere."
    )
    command_line.define_random_seed("Seed of the search.")
    flags.DEFINE_string(
        "output_dir",
        constants.TUNING_DIR,
        f"Where {contour.CONTOUR_FILE} and {TRIALS_FILE} go; empty for none.",
    )
    flags.DEFINE_bool("write", True, "Write the best weights into the scorer.")
    define_tpu_flags()
    command_line.define_logging_flag()


def search_settings() -> tuning.SearchSettings:
    for flag in ("lm_alpha_max", "lm_beta_max"):
        value = getattr(FLAGS, flag)
        if not 0 < value <= LARGEST_GAIN:
            raise UserError(f"--{flag}={value}: give a number above 0, up to {LARGEST_GAIN}.")
    return tuning.SearchSettings(
        FLAGS.n_trials, FLAGS.lm_alpha_max, FLAGS.lm_beta_max, FLAGS.patience, FLAGS.random_seed
    )


def recognised(scorer: Scorer) -> list[Recognition]:
    """The network's output for the development set."""
    tpu = tpu_from_flags(FLAGS)
    devices.check_batch_sizes(tpu, eval_batch_size=FLAGS.eval_batch_size)
    devices.check_paths(tpu, dev_data=FLAGS.dev_data, model_dir=FLAGS.model_dir)
    config = read_config(FLAGS.model_dir)
    check_alphabet(scorer, config.alphabet, FLAGS.model_dir)
    shards = recogniser.find_set(FLAGS.dev_data, config, FLAGS.model_dir)
    with errors.explain_errors(FLAGS.model_dir):
        checkpoint = checkpoints.find_checkpoint(FLAGS.model_dir, FLAGS.checkpoint)
    logging.info("%s", checkpoint)

    def make() -> Iterator[list[Recognition]]:
        network = model.model_fn_builder(config, FLAGS.model_dir)
        return recogniser.on_device(
            network, config, checkpoint, FLAGS.model_dir, FLAGS.eval_batch_size, tpu
        ).recognise(shards)

    return logits_cache.read_or_make(FLAGS.logits_cache, checkpoint, shards, make)


def run_trials(
    trials: list[Trial], objective: tuning.Objective, scorer: Scorer, metric: str
) -> bool:
    """Fills `trials`, the first of them with the scorer's own weights; False: Ctrl-C ended it."""
    first = [
        Weights(scorer.alpha, scorer.beta),
        Weights(constants.LM_ALPHA, constants.LM_BETA),
        Weights(0.0, 0.0),
    ]
    settings = search_settings()
    bar = command_line.progress_bar(FLAGS.n_trials, "trial")
    # Ctrl-C and SIGTERM end the search, not what it has found.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with bar, contextlib.suppress(KeyboardInterrupt):
        for trial in tuning.search(objective, first, settings):
            better = not trials or trial.errors < tuning.best_of(trials).errors
            trials.append(trial)  # kept before it is told of, whenever a signal comes
            bar.update()
            if better:
                line = f"trial {len(trials):>4}  {told(trial, metric)}"
                bar.write(line, file=sys.stderr)
        return True
    return False


def told(trial: Trial, metric: str) -> str:
    weights = trial.weights
    return f"alpha {weights.alpha:.4f}  beta {weights.beta:.4f}  {metric.upper()} {trial.rate:.2%}"


def write_outputs(trials: list[Trial], metric: str) -> None:
    for name, content in {
        TRIALS_FILE: tuning.table(trials, metric).encode(),
        contour.CONTOUR_FILE: contour.draw(trials, metric),
    }.items():
        path = storage.join(FLAGS.output_dir, name)
        storage.write_bytes(path, content)
        print(path)


def print_comparison(old: Trial, best: Trial, metric: str) -> None:
    """The table of old and new."""
    print(f"{'':<8}{'alpha':>9}{'beta':>9}{metric.upper():>9}  95% interval")
    for name, trial in {"before": old, "best": best}.items():
        print(
            f"{name:<8}{trial.weights.alpha:>9.4f}{trial.weights.beta:>9.4f}{trial.rate:>9.2%}"
            f"  {format_interval(trial.interval)}"
        )
    difference = paired_difference(
        [each.total for each in old.utterances],
        [each.total for each in best.utterances],
        [each.length for each in best.utterances],
    )
    print(
        f"Difference {100 * difference.rate:+.2f} points, "
        f"95% interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}, on the data "
        "that chose the weights"
    )


def main() -> None:
    errors.quieten(FLAGS.logging)
    scorer = read_scorer(FLAGS.scorer)
    metric = FLAGS.metric or (tuning.CER if scorer.characters else tuning.WER)
    settings = BeamSettings(
        FLAGS.beam_width,
        FLAGS.cutoff_prob,
        FLAGS.cutoff_top_n,
        unknown_penalty=FLAGS.unknown_penalty,
    )
    search_settings()  # told of now, like the next, not after minutes of recognition
    if FLAGS.output_dir:
        storage.make_folder(FLAGS.output_dir)
    objective = tuning.Objective(recognised(scorer), scorer, settings, metric)
    trials: list[Trial] = []
    finished = run_trials(trials, objective, scorer, metric)
    if not trials:
        raise KeyboardInterrupt
    old, best = trials[0], tuning.best_of(trials)
    if FLAGS.output_dir:
        write_outputs(trials, metric)
    print_comparison(old, best, metric)
    if not finished:
        print(
            f"Stopped after {len(trials)} trials: {FLAGS.scorer} is unchanged; "
            f"its best weights so far are alpha {best.weights.alpha} and beta {best.weights.beta}."
        )
        raise KeyboardInterrupt
    if best is old:
        print(f"No trial of {len(trials)} was better than the weights in {FLAGS.scorer}.")
    elif FLAGS.write:
        write_weights(FLAGS.scorer, best.weights.alpha, best.weights.beta)
        print(f"Written to {FLAGS.scorer} after {len(trials)} trials.")
    else:
        print(f"{FLAGS.scorer} is unchanged (--nowrite).")


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
