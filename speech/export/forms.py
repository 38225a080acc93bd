"""Writes the forms of a model that are chosen, with sizes, and measures their error rates."""

import glob

from absl import logging

from speech.export import loading, rates, saved_model, tflite
from speech.export.acoustic_graph import restore
from speech.export.description import Description
from speech.export.model_card import Form
from speech.export.rates import Rates
from speech.shards.shard_set import ShardSet
from speech.system import storage
from speech.system.progress_bar import progress_bar

CHECKPOINT, SAVED_MODEL = "checkpoint", "saved_model"

# TensorFlow Lite's forms -> file and precision.
LITE_FORMS = {
    "tflite": ("model.tflite", tflite.FLOAT32),
    "tflite_float16": ("model-float16.tflite", tflite.FLOAT16),
    "tflite_int8": ("model-int8.tflite", tflite.INT8),
}


def write(checkpoint: str, description: Description, names: list[str], folder: str) -> list[Form]:
    """Writes forms of a checkpoint into a folder.

    Args:
        names: of the forms: SAVED_MODEL or of LITE_FORMS.

    Raises:
        UserError: the checkpoint can't be read, or a form can't be written.
    """
    graph = restore(description.config, checkpoint)
    storage.make_folder(folder)
    forms = []
    for name in names:
        if name == SAVED_MODEL:
            path = SAVED_MODEL
            whole = storage.join(folder, path)
            saved_model.save(graph, description, whole)
            size = sum(each or 0 for _, each in storage.files_below(whole))
        else:
            path, precision = LITE_FORMS[name]
            content = tflite.convert(graph, description, precision)
            storage.write_bytes(storage.join(folder, path), content)
            size = len(content)
        logging.info("%s: %.2f MB", storage.join(folder, path), size / 1e6)
        forms.append(Form(name, path, size))
    return forms


def measure(
    model_dir: str, checkpoint: str, forms: list[Form], folder: str, test: ShardSet
) -> tuple[list[Form], dict[str, Rates]]:
    """Measures the error rates of a checkpoint and of its forms in a folder.

    Returns:
        the forms, with the checkpoint before them, and the rates by their names.
    """
    size = sum(storage.sizes(f"{glob.escape(checkpoint)}.data-*").values())
    models = {CHECKPOINT: loading.load(model_dir, checkpoint)}
    for form in forms:
        models[form.name] = loading.load(storage.join(folder, form.path))
    with progress_bar(test.index.records, " utterances") as bar:
        found = rates.measure(models, test, bar.update)
    return [Form(CHECKPOINT, "", size), *forms], found
