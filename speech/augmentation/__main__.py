"""Draws the effect of each augmentation: `python -m speech.augmentation --show`."""

import os
from dataclasses import replace
from typing import Any

from absl import flags

import constants
from speech.audio.reader import read_audio
from speech.augmentation import pictures
from speech.features.front_end import FrontEnd, extract
from speech.system import command_line, storage
from utils import UserError


def define_flags() -> None:
    flags.DEFINE_bool("show", False, "Picture of the effect of each augmentation.")
    flags.DEFINE_multi_string(
        "augment",
        [],
        "Augmentation to draw, of features or of recordings. Default: one of each.",
    )
    flags.DEFINE_string("audio", None, "Recording to draw. Default: a synthetic sound.")
    flags.DEFINE_string(
        "output", f"{constants.REPORT_DIR}/{pictures.PICTURE}", "Path of the picture, a PNG."
    )


def show(values: Any) -> None:
    """Draws the picture; values: absl's FLAGS.

    Raises:
        UserError: an augmentation can't be parsed, the recording can't be read, or the picture
            can't be written.
    """
    if not values.show:
        raise UserError("Add --show to draw the effect of each augmentation: see --help.")
    if storage.in_bucket(values.output):
        raise UserError(f"--output={values.output}: pictures are written to a local folder.")
    front_end = FrontEnd()
    samples = (
        read_audio(values.audio, front_end.sample_rate) if values.audio else pictures.sentence()
    )
    samples = samples[: int(pictures.LONGEST_SECONDS * front_end.sample_rate)]
    if not len(samples):
        raise UserError(f"--audio={values.audio} has no samples.")
    with pictures.hiss(front_end.sample_rate) as noise:
        texts = values.augment or [
            text.format(noise=noise) for text in (*pictures.SHOWN_FEATURES, *pictures.SHOWN_SIGNAL)
        ]
        panels = [
            replace(panel, title=panel.title.replace(noise, pictures.NOISE_FILE))
            for panel in pictures.augmented_panels(samples, front_end, texts)
        ]
    before = pictures.Panel("as recorded", extract(samples, front_end))
    try:
        storage.make_folder(os.path.dirname(values.output))
        pictures.figure(before, panels, front_end).savefig(values.output, format="png")
    except OSError as error:
        raise UserError(
            f"{values.output} can't be written: {error.strerror}. Choose another --output."
        ) from None
    print(values.output)


if __name__ == "__main__":
    define_flags()
    command_line.define_logging_flag()
    command_line.run(lambda: show(flags.FLAGS))
