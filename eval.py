"""Checkpoint + shards -> word error rate.

  python eval.py
  python eval.py --model_dir=model --test_data=data/test.tfrecords.* --report_dir=report

The model directory carries front end, alphabet and network; nothing of them is asked for again.
"""

import time
from typing import Any

from absl import flags, logging

import constants
import model
from speech import checkpoints, command_line, dataset, estimator, html_report, report, storage
from speech.config import check_same_front_end, read_config
from speech.decoder import BeamSearchDecoder, BeamSettings, greedy_decode
from speech.normalisation import Statistics
from speech.recognition import recognise
from speech.records import ShardSet, find_shards
from utils import UserError

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "The model that training.py made.")
    flags.DEFINE_string("test_data", constants.TEST_DATA, "Test shards, a glob or gs:// glob.")
    flags.DEFINE_string(
        "checkpoint",
        None,
        "best (on the development data), latest, average, or a path; default: the best, if "
        "training looked at development data, else the latest.",
    )
    flags.DEFINE_string(
        "average_checkpoints",
        None,
        "Take the average of the last checkpoints: their number, as in 5, or a weight for each, "
        "newest first, as in 3,2,1.",
    )
    flags.DEFINE_integer(
        "eval_batch_size", constants.EVAL_BATCH_SIZE, "Over all cores.", lower_bound=1
    )
    flags.DEFINE_integer(
        "beam_width", constants.BEAM_WIDTH, "Prefixes that the beam search keeps.", lower_bound=1
    )
    flags.DEFINE_string(
        "report_dir",
        constants.REPORT_DIR,
        "Where summary.json, utterances.csv and report.html go; empty for none.",
    )
    estimator.define_tpu_flags()
    command_line.define_logging_flag()


def asked_checkpoint() -> str:
    """Path of the checkpoint that the flags ask for."""
    if not FLAGS.average_checkpoints:
        return checkpoints.find_checkpoint(FLAGS.model_dir, FLAGS.checkpoint)
    if FLAGS.checkpoint:
        raise UserError("--checkpoint and --average_checkpoints are two: give one.")
    weights = checkpoints.parse_weights(FLAGS.average_checkpoints)
    return checkpoints.average(FLAGS.model_dir, weights)


def recognised(
    predictor: Any,
    checkpoint: str,
    shards: ShardSet,
    batching: dataset.Batching,
    decoder: BeamSearchDecoder,
    statistics: Statistics | None,
) -> tuple[list[report.Result], list[report.Result]]:
    """A test set in the corpus's order, by beam search and greedily; statistics: the model's."""
    results, greedy = [], []
    references = dataset.transcripts(shards)
    for batch in recognise(predictor, checkpoint, shards, batching, references, statistics):
        hypotheses = decoder.decode_batch(each.log_probs for each in batch)
        for each, hypothesis in zip(batch, hypotheses, strict=True):
            known = each.utterance_id, each.reference
            best_path = greedy_decode(each.log_probs, decoder.alphabet)
            results.append(report.compare(*known, hypothesis, each.loss))
            greedy.append(report.compare(*known, best_path, each.loss))
    return results, greedy


def main() -> None:
    estimator.quieten(FLAGS.logging)
    tpu = estimator.tpu_settings(FLAGS)
    estimator.check_batch_sizes(tpu, eval_batch_size=FLAGS.eval_batch_size)
    estimator.check_paths(tpu, test_data=FLAGS.test_data, model_dir=FLAGS.model_dir)
    config = read_config(FLAGS.model_dir)
    shards = find_shards(FLAGS.test_data)
    settings = shards.index.settings
    check_same_front_end(
        config, settings.front_end, settings.alphabet, FLAGS.test_data, FLAGS.model_dir
    )
    with estimator.explained_errors(FLAGS.model_dir):
        checkpoint = asked_checkpoint()
    device = estimator.find_device(tpu)
    if device.hosts > 1:
        raise UserError(
            f"The TPU {FLAGS.tpu_name} has {device.hosts} hosts, and TPUEstimator recognises on "
            "one host alone: name a TPU with one, or leave out --use_tpu."
        )
    if FLAGS.report_dir:
        storage.make_folder(FLAGS.report_dir)  # told of now, not after minutes of recognition
    logging.info("%s", checkpoint)
    if shards.index.skipped:
        logging.warning(
            "%d of the set's %d utterances were skipped in preparation and are in no rate below.",
            len(shards.index.skipped),
            shards.index.corpus_utterances,
        )
    run = estimator.RunSettings(FLAGS.model_dir, eval_batch_size=FLAGS.eval_batch_size)
    predictor = estimator.build(model.model_fn_builder(config, FLAGS.model_dir), run, device)
    batching = dataset.Batching(FLAGS.eval_batch_size, static=device.is_tpu)
    steps = checkpoints.steps_of(checkpoint)
    decoder = BeamSearchDecoder(config.alphabet, BeamSettings(FLAGS.beam_width))
    started = time.monotonic()
    with estimator.explained_errors(FLAGS.model_dir):
        results, greedy = recognised(
            predictor, checkpoint, shards, batching, decoder, config.statistics
        )
    seconds = time.monotonic() - started
    settings_of_decoder = {"beam_width": FLAGS.beam_width}
    summary = report.summarise(
        results, greedy, seconds, shards.index.audio_seconds, steps, settings_of_decoder
    )
    if FLAGS.report_dir:
        report.write(FLAGS.report_dir, summary, results)
        print(f"Every utterance: {FLAGS.report_dir}/{report.UTTERANCES_FILE}")
        page = html_report.Page(FLAGS.test_data, summary, results)
        print(f"The report: {html_report.write(FLAGS.report_dir, page)}")
    print(f"Greedily: WER {summary.greedy_wer:.2%} CER {summary.greedy_cer:.2%}")
    print(summary.interval_line())
    print(summary.line())


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
