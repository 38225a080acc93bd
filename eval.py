"""Model + test set -> word error rate.

  python eval.py
  python eval.py --model_dir=model --test_data=data/test.tfrecords.* --report_dir=report
  python eval.py --scorer=lm/kenlm.scorer --logits_cache=logits --compare=report/summary.json
  python eval.py --model=export/model.tflite --test_files=test.csv

The model has front end, alphabet and network, so none of them is a flag.
"""

import contextlib

from absl import flags, logging

import constants
import model
from speech.corpora import recordings
from speech.decoding.beam_search import BeamSearchDecoder
from speech.decoding.scorer import read_matching_scorer
from speech.engines import devices, errors
from speech.engines.engine import RunSettings
from speech.evaluation import corpus_shards, evaluate, results
from speech.evaluation.recogniser import Recogniser, on_device
from speech.export import loading
from speech.export.recogniser import ModelRecogniser
from speech.flags import decoder as decoder_flags
from speech.flags import evaluation as evaluation_flags
from speech.flags import kinds
from speech.flags.checkpoint import checkpoint_from_flags
from speech.flags.device import define_device_flags, device_from_flags
from speech.networks.config import read_config
from speech.system import command_line, tensorflow_import

FLAGS = flags.FLAGS


def define_flags() -> None:
    evaluation_flags.define_model_flags()
    evaluation_flags.define_test_set_flags()
    kinds.define_batch_size("eval_batch_size", constants.EVAL_BATCH_SIZE)
    kinds.define_alias("test_batch_size", "eval_batch_size")
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
    evaluation_flags.check_evaluation_flags(FLAGS)
    path, is_directory = evaluation_flags.model_from_flags(FLAGS)
    corpus = evaluation_flags.corpus_from_flags(FLAGS)
    device = device_from_flags(FLAGS)
    devices.check_batch_sizes(device.tpu, eval_batch_size=FLAGS.eval_batch_size)
    if not corpus:
        for pattern in FLAGS.test_data:
            devices.check_paths(device.tpu, test_data=pattern, model_dir=path)
    beam_settings = decoder_flags.beam_settings_from_flags(FLAGS)
    loaded = None if is_directory else loading.load(path)
    config = loaded.description.config if loaded else read_config(path)
    scorer = read_matching_scorer(FLAGS.scorer, config.alphabet, path, config.phonetic_alphabet)
    decoder = BeamSearchDecoder(config.alphabet, beam_settings, scorer)
    audio = recordings.find_audio(FLAGS.audio) if FLAGS.audio else None
    other = None
    if FLAGS.compare:
        other = evaluate.OtherRun(FLAGS.compare, results.read_results(FLAGS.compare))
    with contextlib.ExitStack() as stack:
        if corpus:
            patterns = stack.enter_context(corpus_shards.prepared(corpus, config))
        else:
            patterns = evaluation_flags.test_data_from_flags(FLAGS)
        test_sets = evaluate.find_test_sets(patterns, config, path, FLAGS.report_dir)
        stack.enter_context(errors.explain_errors(path))
        recogniser: Recogniser
        if loaded:
            recogniser = ModelRecogniser(loaded, path, FLAGS.eval_batch_size)
        else:
            checkpoint = checkpoint_from_flags(FLAGS).find(path)
            logging.info("%s", checkpoint)
            run = RunSettings(path, FLAGS.eval_batch_size)
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
