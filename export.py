"""Checkpoint -> SavedModel and TensorFlow Lite files, and a page about them.

  python export.py --export_dir=export
  python export.py --model_dir=model --export_dir=export --formats=tflite_int8
  python export.py --export_dir=export --test_data=data/test.tfrecords.*   with a table of WERs

The files contain front end and alphabet; speech/export/loading.py reads them.
"""

from absl import flags, logging

import constants
from speech.engines import checkpoints, errors
from speech.evaluation import recognition
from speech.export import forms, model_card
from speech.export.description import Description
from speech.export.rates import Rates
from speech.flags import export as export_flags
from speech.flags import kinds
from speech.flags.checkpoint import checkpoint_from_flags, define_checkpoint_flags
from speech.networks.config import read_config
from speech.shards.shard_set import find_shards
from speech.system import command_line, storage, tensorflow_import
from utils import UserError

FLAGS = flags.FLAGS

FORMATS = (forms.SAVED_MODEL, *forms.LITE_FORMS)


def define_flags() -> None:
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "Model directory of training.py.")
    kinds.define_alias("checkpoint_dir", "model_dir")
    define_checkpoint_flags()
    flags.DEFINE_string("export_dir", constants.EXPORT_DIR, "Folder to write into.")
    kinds.define_choices("formats", list(FORMATS), FORMATS, "Formats to write.")
    flags.DEFINE_string(
        "train_data", None, "Glob of the training shards, for their hours on the page."
    )
    flags.DEFINE_string(
        "test_data", None, "Glob of test shards, for a table of each format's WER on the page."
    )
    export_flags.define_naming_flags()
    command_line.define_logging_flag()


def main() -> None:
    tensorflow_import.quieten(FLAGS.logging)
    model_dir, export_dir = FLAGS.model_dir, FLAGS.export_dir
    if FLAGS.test_data and storage.in_bucket(export_dir):
        raise UserError(
            f"--test_data can't be used with --export_dir={export_dir}: TensorFlow Lite files are "
            "read from a local disk. Export to a local folder, and copy it."
        )
    config = read_config(model_dir)
    training = find_shards(FLAGS.train_data) if FLAGS.train_data else None
    test = recognition.find_set(FLAGS.test_data, config, model_dir) if FLAGS.test_data else None
    with errors.explain_errors(model_dir):
        checkpoint = checkpoint_from_flags(FLAGS).find(model_dir)
        logging.info("%s", checkpoint)
        naming = export_flags.naming_from_flags(FLAGS)
        description = Description(config, checkpoints.steps_of(checkpoint), naming)
        names = list(dict.fromkeys(FLAGS.formats))
        written = forms.write(checkpoint, description, names, export_dir)
        rates: dict[str, Rates] = {}
        if test:
            written, rates = forms.measure(model_dir, checkpoint, written, export_dir, test)
    card = storage.join(export_dir, model_card.CARD_FILE)
    storage.write_text(card, model_card.card(description, written, training, test, rates))
    for form in written:
        found = rates.get(form.name)
        measured = f" WER {found.wer:.2%} CER {found.cer:.2%}" if found else ""
        print(f"{form.name}: {form.bytes / 1e6:.2f} MB{measured}")
    print(f"The model's card: {card}")


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
