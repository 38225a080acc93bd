"""Audio -> text, with the interface of Mozilla DeepSpeech's command.

  python transcribe.py --audio=talk.mp3
  python transcribe.py --model=export/model.tflite --scorer=lm/kenlm.scorer --audio=recordings
  python transcribe.py --audio=lecture.m4a --output_dir=subtitles --formats=srt,txt
  arecord -r 16000 -f S16_LE | python transcribe.py --audio=- --stream=320

The text goes to standard output, everything else to standard error.
"""

from dataclasses import replace

from absl import flags

import constants
from speech.export import english
from speech.flags import decoder as decoder_flags
from speech.flags import kinds
from speech.system import command_line, tensorflow_import
from speech.transcription import command, deepspeech_api, sources
from speech.transcription.command import Printing
from speech.transcription.recording import FORMATS
from utils import UserError

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string(
        "model",
        None,
        "Model directory, SavedModel or .tflite file of export.py, or .tflite, .pb or .pbmm file "
        f"of DeepSpeech. Default: {constants.MODEL_DIR} if there is such a model, else the "
        "English one in models/ with its scorer.",
    )
    flags.DEFINE_multi_string(
        "audio",
        [],
        "File, folder, pattern, or - for standard input (a wav, or raw samples: 16 bit, mono, at "
        "the model's rate).",
    )
    flags.DEFINE_bool("microphone", False, "Transcription of the microphone until Ctrl-C.")
    flags.DEFINE_bool(
        "json", False, "Output of JSON with the words' times, as DeepSpeech prints it."
    )
    flags.DEFINE_bool("extended", False, "Deprecated: output of text, the default, despite --json.")
    kinds.define_integer(
        "candidate_transcripts",
        3,
        "Maximum number of transcripts in the JSON, the best first.",
        lower_bound=1,
    )
    kinds.define_integer(
        "stream",
        0,
        "Maximum number of samples to process at a time, with partial transcripts on standard "
        "error; 0: segment by segment.",
        lower_bound=0,
    )
    flags.DEFINE_string("output_dir", None, "Folder for a file per recording and format.")
    kinds.define_choices(
        "formats", ["txt", "srt"], FORMATS, "Formats of the files in --output_dir."
    )
    flags.DEFINE_bool("version", False, "Version of this program, printed instead of transcribing.")
    decoder_flags.define_decoder_flags()
    flags.DEFINE_bool(
        "as_deepspeech",
        False,
        "Search of DeepSpeech's client: the model's own beam width, hot words in its scale, and no "
        "end of the sentence; default of the command deepspeech: true.",
    )
    command_line.define_logging_flag()


def main() -> None:
    tensorflow_import.quieten(FLAGS.logging)
    if FLAGS.version:
        print(f"{deepspeech_api.PACKAGE} {deepspeech_api.version()}")
        return
    found = sources.find_sources(FLAGS.audio, FLAGS.microphone)
    if FLAGS["formats"].present and not FLAGS.output_dir:
        raise UserError("--formats are those of --output_dir's files: give --output_dir too.")
    paths = {}
    if FLAGS.output_dir:
        paths = sources.output_paths(found, FLAGS.output_dir, FLAGS.formats)
    if FLAGS.model is None:
        model, scorer = english.default_model()
        FLAGS["model"].value = model
        FLAGS["scorer"].value = scorer if FLAGS.scorer is None else FLAGS.scorer
    settings = decoder_flags.beam_settings_from_flags(FLAGS)
    settings = replace(settings, as_deepspeech=FLAGS.as_deepspeech)
    if FLAGS.as_deepspeech and FLAGS.hot_words and not FLAGS.scorer:
        raise UserError(
            "Hot words of DeepSpeech boost the words of a scorer: give --scorer too, or "
            "--noas_deepspeech."
        )
    printing = Printing(
        as_json=FLAGS.json and not FLAGS.extended,  # DeepSpeech's order of the two
        candidates=FLAGS.candidate_transcripts,
        block_samples=FLAGS.stream,
        formats=tuple(FLAGS.formats),
    )
    own_beam_width = FLAGS.as_deepspeech and not FLAGS["beam_width"].present
    transcriber = command.load(FLAGS.model, FLAGS.scorer, settings, own_beam_width)
    command.transcribe_all(transcriber, found, paths, printing)


def run() -> None:
    """Runs this door."""
    define_flags()
    command_line.run(main)


def run_as_deepspeech() -> None:
    """Runs this door as the command deepspeech."""
    define_flags()
    FLAGS.set_default("as_deepspeech", True)
    command_line.run(main)


if __name__ == "__main__":
    run()
