"""Checkpoint -> SavedModel and TensorFlow Lite files, and a page about them.

  python export.py --export_dir=export
  python export.py --model_dir=model --export_dir=export --formats=tflite_int8
  python export.py --export_dir=export --test_data=data/test.tfrecords.*   with a table of WERs

What is written carries front end and alphabet; speech/export/loading.py reads it.
"""

import glob

from absl import flags, logging

import constants
from speech.engines import checkpoints, tpu_estimator
from speech.evaluation import recognition
from speech.export import loading, model_card, saved_model, tflite
from speech.export import rates as export_rates
from speech.export.acoustic_graph import restored
from speech.export.description import Description, Naming
from speech.export.model_card import Form
from speech.networks.config import read_config
from speech.shards.shard_set import ShardSet, find_shards
from speech.system import command_line, storage
from utils import UserError

FLAGS = flags.FLAGS

CHECKPOINT, SAVED_MODEL = "checkpoint", "saved_model"

# TensorFlow Lite's forms -> file and precision.
LITE_FORMS = {
    "tflite": ("model.tflite", tflite.FLOAT32),
    "tflite_float16": ("model-float16.tflite", tflite.FLOAT16),
    "tflite_int8": ("model-int8.tflite", tflite.INT8),
}
FORMATS = (SAVED_MODEL, *LITE_FORMS)


def define_flags() -> None:
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "The model that training.py made.")
    checkpoints.define_checkpoint_flags()
    flags.DEFINE_string("export_dir", constants.EXPORT_DIR, "The folder to write into.")
    command_line.define_choices("formats", list(FORMATS), FORMATS, "Formats to write.")
    flags.DEFINE_string(
        "train_data", None, "Shards it was trained on, a glob: the page tells how many hours."
    )
    flags.DEFINE_string(
        "test_data", None, "Test shards, a glob: the page gets a table of each format's WER."
    )
    for name, meaning in (
        ("model_name", "What the model is called."),
        ("model_version", "Its version, as in 1.0.0."),
        ("author_id", "Who made it."),
        ("language", "The language it hears, as in en-US."),
        ("license", "Under which it may be used, as in Apache-2.0."),
        ("description", "A sentence about it."),
    ):
        flags.DEFINE_string(f"export_{name}", "", f"{meaning} Stands in the page and the files.")
    command_line.define_logging_flag()


def asked_naming() -> Naming:
    return Naming(
        FLAGS.export_model_name,
        FLAGS.export_model_version,
        FLAGS.export_author_id,
        FLAGS.export_language,
        FLAGS.export_license,
        FLAGS.export_description,
    )


def write_forms(checkpoint: str, description: Description, formats: list[str]) -> list[Form]:
    """Writes what is asked for into --export_dir."""
    graph = restored(description.config, checkpoint)
    storage.make_folder(FLAGS.export_dir)
    forms = []
    for name in formats:
        if name == SAVED_MODEL:
            path = SAVED_MODEL
            whole = storage.join(FLAGS.export_dir, path)
            saved_model.save(graph, description, whole)
            size = sum(each or 0 for _, each in storage.files_below(whole))
        else:
            path, precision = LITE_FORMS[name]
            content = tflite.convert(graph, description, precision)
            storage.write_bytes(storage.join(FLAGS.export_dir, path), content)
            size = len(content)
        logging.info("%s: %.2f MB", storage.join(FLAGS.export_dir, path), size / 1e6)
        forms.append(Form(name, path, size))
    return forms


def measured(
    checkpoint: str, forms: list[Form], test: ShardSet
) -> tuple[list[Form], dict[str, export_rates.Rates]]:
    """The forms with the checkpoint in front of them, and the rates of all."""
    size = sum(storage.sizes(f"{glob.escape(checkpoint)}.data-*").values())
    models = {CHECKPOINT: loading.load(FLAGS.model_dir, checkpoint)}
    for form in forms:
        models[form.name] = loading.load(storage.join(FLAGS.export_dir, form.path))
    with command_line.progress_bar(test.index.records, " utterances") as bar:
        rates = export_rates.measure(models, test, bar.update)
    return [Form(CHECKPOINT, "", size), *forms], rates


def main() -> None:
    tpu_estimator.quieten(FLAGS.logging)
    formats = list(dict.fromkeys(FLAGS.formats))
    if FLAGS.test_data and storage.in_bucket(FLAGS.export_dir):
        raise UserError(
            f"--test_data can't be with --export_dir={FLAGS.export_dir}: TensorFlow Lite files are "
            "read from this machine's disk. Export to a folder here, and copy it."
        )
    config = read_config(FLAGS.model_dir)
    training = find_shards(FLAGS.train_data) if FLAGS.train_data else None
    test = None
    if FLAGS.test_data:
        test = recognition.find_set(FLAGS.test_data, config, FLAGS.model_dir)
    with tpu_estimator.explained_errors(FLAGS.model_dir):
        checkpoint = checkpoints.asked_checkpoint(
            FLAGS.model_dir, FLAGS.checkpoint, FLAGS.average_checkpoints
        )
        logging.info("%s", checkpoint)
        description = Description(config, checkpoints.steps_of(checkpoint), asked_naming())
        forms = write_forms(checkpoint, description, formats)
        rates: dict[str, export_rates.Rates] = {}
        if test:
            forms, rates = measured(checkpoint, forms, test)
    page = model_card.card(description, forms, training, test, rates)
    path = storage.join(FLAGS.export_dir, model_card.CARD_FILE)
    storage.write_text(path, page)
    for form in forms:
        own = rates.get(form.name)
        heard = f" WER {own.wer:.2%} CER {own.cer:.2%}" if own else ""
        print(f"{form.name}: {form.bytes / 1e6:.2f} MB{heard}")
    print(f"The model's card: {path}")


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
