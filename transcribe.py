"""Audio -> text, in the manner of Mozilla DeepSpeech's command.

  python transcribe.py --audio=talk.mp3
  python transcribe.py --model=export/model.tflite --scorer=lm/kenlm.scorer --audio=recordings
  python transcribe.py --audio=lecture.m4a --output_dir=subtitles --formats=srt,txt
  arecord -r 16000 -f S16_LE | python transcribe.py --audio=- --stream=320

The text goes to standard output, all else to standard error.
"""

import functools
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from absl import flags, logging

import constants
from speech.audio import find, microphone
from speech.audio.stream import INPUT_NAME, Samples, stream_file, stream_input
from speech.decoding.scorer import read_matching_scorer
from speech.engines import tpu_estimator
from speech.export import loading
from speech.flags import decoder as decoder_flags
from speech.system import command_line, storage
from speech.transcription import deepspeech_api, subtitles
from speech.transcription.live import LiveTranscriber, Partial
from speech.transcription.recording import FORMATS, Recording, joined_candidates
from speech.transcription.transcriber import Heard, Transcriber
from utils import UserError

FLAGS = flags.FLAGS

# Of the microphone's samples, heard at a time.
MICROPHONE_SECONDS = 0.1


def define_flags() -> None:
    flags.DEFINE_string(
        "model",
        constants.MODEL_DIR,
        "The model: a model directory, or a SavedModel or .tflite file of export.py.",
    )
    flags.DEFINE_multi_string(
        "audio",
        [],
        "A file, a folder, a pattern, or - for standard input (a wav, or raw samples: 16 bit, "
        "mono, at the model's rate); may be given several times.",
    )
    flags.DEFINE_bool("microphone", False, "Listen to the microphone until Ctrl-C.")
    flags.DEFINE_bool("json", False, "Print JSON with the words' times, as DeepSpeech does.")
    flags.DEFINE_bool(
        "extended", False, "As DeepSpeech has it: print the text that the timed words make."
    )
    command_line.define_integer(
        "candidate_transcripts", 3, "Transcripts in the JSON, the best first.", lower_bound=1
    )
    command_line.define_integer(
        "stream",
        0,
        "Hear so many samples at a time, at most, and tell on standard error what is thought so "
        "far; 0: hear segment by segment.",
        lower_bound=0,
    )
    flags.DEFINE_string("output_dir", None, "A folder for a file of each recording and format.")
    command_line.define_choices(
        "formats", ["txt", "srt"], FORMATS, "Formats of the files in --output_dir."
    )
    flags.DEFINE_bool("version", False, "Print this program's version.")
    decoder_flags.define_decoder_flags()
    command_line.define_logging_flag()


@dataclass(frozen=True)
class Source:
    """Something to be heard."""

    name: str
    blocks: Callable[[int], Iterator[Samples]]  # of samples at a rate in Hz
    live: bool  # whether it goes on while it is heard


def asked_sources() -> list[Source]:
    """What --microphone and --audio name.

    Raises:
        UserError: nothing, or what isn't there.
    """
    if FLAGS.microphone and FLAGS.audio:
        raise UserError("--microphone and --audio can't be heard together: leave one of them out.")
    if FLAGS.microphone:
        return [Source("microphone", microphone.blocks, live=True)]
    return [
        standard_input()
        if path == find.STANDARD_INPUT
        else Source(path, functools.partial(stream_file, path), live=False)
        for path in find.find_audio_files(FLAGS.audio)
    ]


def standard_input() -> Source:
    if sys.stdin is None:  # as a program without a terminal may be started
        raise UserError(f"{INPUT_NAME} is closed: pipe a wav or samples into it, or name a file.")
    file = cast(io.BufferedReader, sys.stdin.buffer)
    return Source(INPUT_NAME, functools.partial(stream_input, file), live=False)


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def load() -> Transcriber:
    """The model and the scorer; tells how long they take."""
    settings = decoder_flags.beam_settings_from_flags(FLAGS)
    say(f"Loading model from {FLAGS.model}")
    started = time.monotonic()
    model = loading.load(FLAGS.model)
    say(f"Loaded model in {time.monotonic() - started:.3g}s.")
    alphabet = model.description.config.alphabet
    started = time.monotonic()
    scorer = read_matching_scorer(FLAGS.scorer, alphabet, FLAGS.model)
    if scorer:
        say(f"Loaded scorer from {FLAGS.scorer} in {time.monotonic() - started:.3g}s.")
    return Transcriber(model, settings, scorer)


def asked_outputs(sources: Sequence[Source]) -> list[str]:
    """Of each source the path of its files without their endings; none without --output_dir.

    Raises:
        UserError: two recordings would be written into one file, or a transcript be written over.
    """
    if not FLAGS.output_dir:
        if FLAGS["formats"].present:
            raise UserError("--formats are those of --output_dir's files: give --output_dir too.")
        return []
    taken: dict[str, str] = {}
    for source in sources:
        beside, _, file = source.name.rpartition("/")
        name = os.path.splitext(file)[0]
        text = storage.join(FLAGS.output_dir, f"{name}.txt")
        at_home = os.path.realpath(beside) == os.path.realpath(FLAGS.output_dir)
        if "txt" in FLAGS.formats and at_home and storage.exists(text):
            raise UserError(
                f"{text} is there, beside its recording, and may be its transcript: choose another "
                "--output_dir, or --formats without txt."
            )
        other = taken.setdefault(name, source.name)
        if other != source.name:
            raise UserError(
                f"{other} and {source.name} would both be written as {name} into "
                f"{FLAGS.output_dir}: transcribe them into folders of their own."
            )
    storage.make_folder(FLAGS.output_dir)  # told of before hours of recognition
    return [storage.join(FLAGS.output_dir, name) for name in taken]


def streamed(
    transcriber: Transcriber, blocks: Iterable[Samples], size: int, n: int, prefix: str
) -> Iterator[Heard]:
    """What is heard, as soon as it is; what is thought so far is told on standard error.

    Args:
        size: most samples that are heard at a time.
        n: most candidates.
        prefix: of each line.
    """
    live = LiveTranscriber(transcriber, n)
    if not live.exact:
        logging.info(
            "This network hears whole utterances: it is given overlapping pieces of this one, and "
            "the text may differ from that without --stream."
        )
    for block in blocks:
        for start in range(0, len(block), size):
            for each in live.feed(block[start : start + size]):
                if isinstance(each, Partial):
                    say(f"{prefix}{each.seconds:.2f}s {each.text}")
                else:
                    yield each
    yield from live.finish()


def transcribe(transcriber: Transcriber, source: Source, among_several: bool) -> Recording:
    """Hears one recording and prints it.

    Raises:
        UserError: it is no audio, or not to its end.
    """
    started = time.monotonic()
    recording = Recording(source.name, transcriber.separator)
    prefix = f"{source.name}\t" if among_several else ""
    as_json = FLAGS.json and not FLAGS.extended  # DeepSpeech's order of the two
    n = FLAGS.candidate_transcripts if as_json else 1
    rate = transcriber.sample_rate
    blocks = recording.counted(source.blocks(rate), rate)
    if FLAGS.stream or source.live:
        size = FLAGS.stream or round(MICROPHONE_SECONDS * rate)
        segments = streamed(transcriber, blocks, size, n, prefix)
    else:
        segments = transcriber.segments(blocks, n)
    for heard in segments:
        recording.segments.append(heard)
        words = heard.transcript.words
        if words and not as_json:
            # A pipe is to have it now, not when an hour has been heard.
            print(prefix + subtitles.joined(words, recording.separator), flush=True)
    if as_json:
        name = source.name if among_several else None
        print(subtitles.deepspeech_json(joined_candidates(recording.segments), name), flush=True)
    elif not recording.transcript.words:
        print(prefix, flush=True)  # an empty line, as DeepSpeech's
    if not recording.seconds:
        logging.warning("%s holds no sound: record it again.", source.name)
    took = time.monotonic() - started
    say(f"Inference took {took:.3f}s for {recording.seconds:.3f}s audio file.")
    return recording


def main() -> None:
    tpu_estimator.quieten(FLAGS.logging)
    if FLAGS.version:
        print(f"{deepspeech_api.PACKAGE} {deepspeech_api.version()}")
        return
    sources = asked_sources()
    outputs = asked_outputs(sources)
    transcriber = load()
    say("Running inference.")
    failed = []
    for number, source in enumerate(sources):
        try:
            recording = transcribe(transcriber, source, len(sources) > 1)
        except UserError as error:
            if len(sources) == 1:
                raise
            say(f"error: {error}")
            failed.append(source.name)
            continue
        if outputs:
            for ending in FLAGS.formats:
                storage.write_text(f"{outputs[number]}.{ending}", FORMATS[ending](recording))
    if failed:
        raise UserError(
            f"{len(failed)} of {len(sources)} recordings couldn't be heard to their end, the first "
            f"is {failed[0]}; the reasons stand above."
        )


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
