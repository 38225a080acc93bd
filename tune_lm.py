"""Development set + scorer -> the scorer's alpha and beta.

  python tune_lm.py
  python tune_lm.py --model_dir=model --scorer=lm/kenlm.scorer --dev_data=data/dev.tfrecords.*

The network recognises the development set once; every trial decodes its output with other weights.
"""

from absl import flags, logging

import constants
import model
from speech.decoding.scorer import check_alphabet, read_scorer, require_uncompressed
from speech.engines import checkpoints, devices, errors
from speech.engines.engine import RunSettings
from speech.evaluation import logits_cache, recognition
from speech.evaluation.recogniser import on_device
from speech.flags import decoder as decoder_flags
from speech.flags import kinds
from speech.flags.device import define_device_flags, device_from_flags
from speech.networks.config import read_config
from speech.system import command_line, storage, tensorflow_import
from speech.tuning import contour, search, trials

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "Directory of the trained model.")
    kinds.define_alias("checkpoint_dir", "model_dir")
    flags.DEFINE_string(
        "scorer",
        f"{constants.LM_DIR}/{constants.SCORER_FILE}",
        "Scorer of build_lm.py or of DeepSpeech, into which the best weights are written.",
    )
    kinds.define_alias("scorer_path", "scorer")
    flags.DEFINE_string(
        "dev_data", constants.DEV_DATA, "Development shards, a glob or gs:// glob; never test data."
    )
    flags.DEFINE_string(
        "checkpoint", None, "Checkpoint to use: best, latest, average, or a path; see eval.py."
    )
    kinds.define_choice(
        "metric",
        None,
        search.METRICS,
        "Error rate to minimise; default: wer, and cer with a scorer of characters.",
    )
    kinds.define_integer(
        "n_trials", constants.LM_TRIALS, "Maximum number of trials.", lower_bound=1
    )
    kinds.define_integer(
        "patience",
        constants.LM_PATIENCE,
        "Number of trials without a better one after which the search ends.",
        lower_bound=1,
    )
    kinds.define_number("lm_alpha_max", constants.LM_ALPHA_MAX, "Largest alpha to try.")
    kinds.define_number("lm_beta_max", constants.LM_BETA_MAX, "Largest beta to try.")
    decoder_flags.define_search_flags()
    kinds.define_batch_size("eval_batch_size", constants.EVAL_BATCH_SIZE)
    flags.DEFINE_string(
        "logits_cache",
        "",
        "Folder of the network's stored outputs, for repeated calls; empty: none are stored.",
    )
    kinds.define_random_seed("Random seed of the search.")
    flags.DEFINE_string(
        "output_dir",
        constants.TUNING_DIR,
        f"Folder of {contour.CONTOUR_FILE} and {trials.TRIALS_FILE}; empty: they aren't written.",
    )
    flags.DEFINE_bool("write", True, "Storage of the best weights in the scorer.")
    define_device_flags()
    command_line.define_logging_flag()


def main() -> None:
    tensorflow_import.quieten(FLAGS.logging)
    config = read_config(FLAGS.model_dir)
    scorer = read_scorer(FLAGS.scorer, config.alphabet)
    if FLAGS.write:
        require_uncompressed(FLAGS.scorer)
    check_alphabet(scorer, config.alphabet, FLAGS.model_dir, config.phonetic_alphabet)
    metric = FLAGS.metric or (search.CER if scorer.characters else search.WER)
    beam_settings = decoder_flags.search_settings_from_flags(FLAGS)
    search_settings = search.SearchSettings(
        FLAGS.n_trials, FLAGS.lm_alpha_max, FLAGS.lm_beta_max, FLAGS.patience, FLAGS.random_seed
    )
    if FLAGS.output_dir:
        storage.make_folder(FLAGS.output_dir)  # an error now, not after minutes of recognition
    device = device_from_flags(FLAGS)
    devices.check_batch_sizes(device.tpu, eval_batch_size=FLAGS.eval_batch_size)
    devices.check_paths(device.tpu, dev_data=FLAGS.dev_data, model_dir=FLAGS.model_dir)
    shards = recognition.find_set(FLAGS.dev_data, config, FLAGS.model_dir)
    with errors.explain_errors(FLAGS.model_dir):
        checkpoint = checkpoints.find_checkpoint(FLAGS.model_dir, FLAGS.checkpoint)
    logging.info("%s", checkpoint)

    if FLAGS.logits_cache:
        storage.make_folder(FLAGS.logits_cache)
    outputs = logits_cache.read(FLAGS.logits_cache, checkpoint, shards)
    if outputs is None:
        run = RunSettings(FLAGS.model_dir, FLAGS.eval_batch_size)
        recogniser = on_device(device, config, checkpoint, run, model.model_fn_builder)
        outputs = recogniser.outputs_of(shards)
        logits_cache.write(FLAGS.logits_cache, checkpoint, shards, outputs)
    objective = search.Objective(outputs, scorer, beam_settings, metric)
    search.tune(objective, scorer, search_settings, FLAGS.output_dir, FLAGS.write)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
