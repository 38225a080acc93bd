"""Checkpoint + shards -> word error rate.

  python eval.py
  python eval.py --model_dir=model --test_data=data/test.tfrecords.* --report_dir=report

The model directory carries front end, alphabet and network; nothing of them is asked for again.
"""

import time
from collections.abc import Iterator
from typing import Any

from absl import flags, logging

import constants
import model
from speech import command_line, dataset, estimator, report, storage
from speech.config import check_same_front_end, read_config
from speech.decoder import BeamSearchDecoder
from speech.normalisation import Statistics
from speech.records import ShardSet, find_shards
from utils import UserError

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "The model that training.py made.")
    flags.DEFINE_string("test_data", constants.TEST_DATA, "Test shards, a glob or gs:// glob.")
    flags.DEFINE_integer(
        "eval_batch_size", constants.EVAL_BATCH_SIZE, "Over all cores.", lower_bound=1
    )
    flags.DEFINE_integer(
        "beam_width", constants.BEAM_WIDTH, "Prefixes that the beam search keeps.", lower_bound=1
    )
    flags.DEFINE_string(
        "report_dir",
        constants.REPORT_DIR,
        "Where summary.json and utterances.csv go; empty for none.",
    )
    estimator.define_tpu_flags()
    command_line.define_logging_flag()


def recognise(
    predictor: Any,
    checkpoint: str,
    shards: ShardSet,
    batching: dataset.Batching,
    decoder: BeamSearchDecoder,
    statistics: Statistics | None,
) -> Iterator[report.Result]:
    """Recognises a test set batch by batch, in the corpus's order.

    Args:
        statistics: the model's.
    """
    references = iter(dataset.transcripts(shards))
    batches = predictor.predict(
        dataset.evaluation_input_fn(shards, batching, for_prediction=True, statistics=statistics),
        checkpoint_path=checkpoint,
        yield_single_examples=False,
    )
    for batch in batches:
        # A TPU's last batch is filled up: zip ends with the references.
        lengths = batch["output_length"]
        hypotheses = decoder.decode_batch(
            log_probs[:length]
            for log_probs, length in zip(batch["log_probs"], lengths, strict=True)
        )
        for hypothesis, loss, aligned, (utterance_id, reference) in zip(
            hypotheses, batch["ctc_loss"], batch["aligned"], references, strict=False
        ):
            yield report.compare(
                utterance_id, reference, hypothesis, float(loss) if aligned else None
            )


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
    checkpoint = estimator.latest_checkpoint(FLAGS.model_dir)
    if not checkpoint:
        raise UserError(
            f"{FLAGS.model_dir} holds no checkpoint yet: python training.py "
            f"--model_dir={FLAGS.model_dir}"
        )
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
    steps = estimator.steps_of(checkpoint)
    decoder = BeamSearchDecoder(config.alphabet, FLAGS.beam_width)
    started = time.monotonic()
    with estimator.explained_errors(FLAGS.model_dir):
        results = list(
            recognise(predictor, checkpoint, shards, batching, decoder, config.statistics)
        )
    assert len(results) == shards.index.records, "an utterance was lost on the way"
    summary = report.summarise(
        results, time.monotonic() - started, shards.index.audio_seconds, steps
    )
    if FLAGS.report_dir:
        report.write(FLAGS.report_dir, summary, results)
        print(f"Every utterance: {FLAGS.report_dir}/{report.UTTERANCES_FILE}")
    print(summary.line())


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
