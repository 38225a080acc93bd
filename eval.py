"""Checkpoint + shards -> word error rate.

  python eval.py
  python eval.py --model_dir=model --test_data=data/test.tfrecords.* --report_dir=report
  python eval.py --scorer=lm/kenlm.scorer --logits_cache=logits --compare=report/summary.json

The model directory has front end, alphabet and network, so none of them is a flag.
"""

from absl import flags, logging

import constants
import model
from speech.corpora import recordings
from speech.decoding.beam_search import BeamSearchDecoder
from speech.decoding.scorer import read_matching_scorer
from speech.engines import devices, errors
from speech.engines.engine import RunSettings
from speech.evaluation import evaluate, results
from speech.evaluation.recogniser import on_device
from speech.flags import decoder as decoder_flags
from speech.flags import kinds
from speech.flags.checkpoint import checkpoint_from_flags, define_checkpoint_flags
from speech.flags.device import define_device_flags, device_from_flags
from speech.networks.config import read_config
from speech.system import command_line, tensorflow_import
from utils import UserError

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "Directory of the trained model.")
    kinds.define_paths(
        "test_data",
        constants.TEST_DATA,
        "Test shards: globs or gs:// globs, separated by commas.",
    )
    define_checkpoint_flags()
    kinds.define_batch_size("eval_batch_size", constants.EVAL_BATCH_SIZE)
    flags.DEFINE_string(
        "report_dir",
        constants.REPORT_DIR,
        "Folder of report.html, summary.json and utterances.csv, in a folder for each of several "
        "sets; empty: no report.",
    )
    kinds.define_paths(
        "audio", [], "Folders of the recordings, which the report plays; separated by commas."
    )
    flags.DEFINE_string(
        "compare", None, "summary.json of another evaluation of the same set, to compare with."
    )
    flags.DEFINE_bool(
        "sweep", False, "Report of the WER over beam widths, and with a scorer over alpha and beta."
    )
    flags.DEFINE_string(
        "logits_cache",
        "",
        "Folder of the network's stored outputs, for repeated calls; empty: none are stored.",
    )
    decoder_flags.define_decoder_flags()
    define_device_flags()
    command_line.define_logging_flag()


def main() -> None:
    tensorflow_import.quieten(FLAGS.logging)
    device = device_from_flags(FLAGS)
    devices.check_batch_sizes(device.tpu, eval_batch_size=FLAGS.eval_batch_size)
    for pattern in FLAGS.test_data:
        devices.check_paths(device.tpu, test_data=pattern, model_dir=FLAGS.model_dir)
    if FLAGS.compare and len(FLAGS.test_data) > 1:
        raise UserError("--compare compares one set: give --test_data one, the other's.")
    beam_settings = decoder_flags.beam_settings_from_flags(FLAGS)
    config = read_config(FLAGS.model_dir)
    scorer = read_matching_scorer(FLAGS.scorer, config.alphabet, FLAGS.model_dir)
    decoder = BeamSearchDecoder(config.alphabet, beam_settings, scorer)
    test_sets = evaluate.find_test_sets(FLAGS.test_data, config, FLAGS.model_dir, FLAGS.report_dir)
    audio = recordings.find_audio(FLAGS.audio) if FLAGS.audio else None
    other = None
    if FLAGS.compare:
        other = evaluate.OtherRun(FLAGS.compare, results.read_results(FLAGS.compare))
    with errors.explain_errors(FLAGS.model_dir):
        checkpoint = checkpoint_from_flags(FLAGS).find(FLAGS.model_dir)
        logging.info("%s", checkpoint)
        run = RunSettings(FLAGS.model_dir, FLAGS.eval_batch_size)
        recogniser = on_device(device, config, checkpoint, run, model.model_fn_builder)
        evaluate.evaluate_sets(
            test_sets,
            recogniser,
            evaluate.Decoding(beam_settings, scorer, decoder),
            evaluate.EvaluationSettings(
                FLAGS.report_dir, FLAGS.logits_cache, FLAGS.sweep, other, audio
            ),
        )


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
