"""Writes SavedModels, which TensorFlow and TensorFlow Serving load without this project.

Two signatures take features float32 [batch, frames, bins] with int32 [batch] frames (`features`),
or samples float32 [batch, samples] at int16 scale with int32 [batch] samples (`samples`, also the
default). Both return log_probs float32 [batch, outputs, classes] and output_length int32 [batch].

Networks that carry a state have a third one (`stream`), which takes an utterance piece by piece:
features float32 [batch, frames, bins], padding int32 [2] and the state, state_0, state_1, ...,
float32 [1, batch, units] each; it returns log_probs and the state (AcousticGraph.stream).
"""

import tensorflow as tf
from absl import logging

from speech.export.acoustic_graph import AcousticGraph
from speech.export.acoustic_model import FEATURES, SAMPLES, STREAM, state_name
from speech.export.description import Description
from speech.system import storage
from utils import UserError

# In TensorFlow's folder for files of others.
DESCRIPTION_FILE = "assets.extra/description.json"


def description_path(folder: str) -> str:
    """Returns the path of a SavedModel's description."""
    return storage.join(folder, DESCRIPTION_FILE)


def save(graph: AcousticGraph, description: Description, folder: str) -> None:
    """Writes a SavedModel, in place of the one in the folder if there is one.

    Raises:
        UserError: it can't be written, or the folder contains other files.
    """
    path = description_path(folder)
    if not storage.exists(path) and any(True for _ in storage.files_below(folder)):
        raise UserError(
            f"{folder} contains files that aren't an exported model's and would be deleted: move "
            "them, or choose another --export_dir."
        )
    bins = description.config.front_end.bins
    signatures = {
        FEATURES: _signature(graph.of_features, "features", [None, None, bins], "feature_length"),
        SAMPLES: _signature(graph.of_samples, "samples", [None, None], "sample_length"),
    }
    signatures[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY] = signatures[SAMPLES]
    if graph.carries_state:
        signatures[STREAM] = streaming(graph, description, None)
    storage.remove_folder(folder)
    # First, so that the remains of a killed export are recognised as an export's. The graph is
    # written last.
    storage.make_folder(path.rpartition("/")[0])
    storage.write_text(path, description.to_json())
    verbosity = logging.get_verbosity()
    logging.set_verbosity(min(verbosity, logging.WARNING))  # it logs names inside the graph
    try:
        tf.saved_model.save(graph, folder, signatures)
    finally:
        logging.set_verbosity(verbosity)


def _signature(
    compute: tf.types.experimental.GenericFunction,
    name: str,
    shape: list[int | None],
    length_name: str,
) -> tf.types.experimental.ConcreteFunction:
    """Returns a function of a batch with named inputs and outputs.

    Args:
        compute: AcousticGraph.of_features or .of_samples.
        name: of the values, which have the given shape.
        length_name: of their lengths.
    """

    @tf.function
    def signature(values: tf.Tensor, length: tf.Tensor) -> dict[str, tf.Tensor]:
        log_probs, output_length = compute(values, length)
        return {"log_probs": log_probs, "output_length": output_length}

    return signature.get_concrete_function(
        tf.TensorSpec(shape, tf.float32, name), tf.TensorSpec([None], tf.int32, length_name)
    )


def streaming(
    graph: AcousticGraph, description: Description, batch: int | None
) -> tf.types.experimental.ConcreteFunction:
    """Returns AcousticGraph.stream as a function with named inputs and outputs.

    Args:
        batch: number of utterances; None: any.
    """

    @tf.function
    def signature(
        features: tf.Tensor, padding: tf.Tensor, **state: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        log_probs, *new_state = graph.stream(
            features, padding, *(state[each] for each in sorted(state))
        )
        return {"log_probs": log_probs, **dict(zip(sorted(state), new_state, strict=True))}

    bins = description.config.front_end.bins
    states = {
        state_name(number): tf.TensorSpec(
            [1, batch, *each.shape[2:]], tf.float32, state_name(number)
        )
        for number, each in enumerate(graph.initial_state(1))
    }
    return signature.get_concrete_function(
        tf.TensorSpec([batch, None, bins], tf.float32, "features"),
        tf.TensorSpec([2], tf.int32, "padding"),
        **states,
    )
