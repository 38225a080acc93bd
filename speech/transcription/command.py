"""Transcribes sources one after another, and prints and writes their transcripts.

Text goes to standard output, everything else to standard error, as with DeepSpeech's command.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from absl import logging

from speech.audio.headers import find_cut
from speech.audio.types import Samples
from speech.decoding.beam_search import BeamSettings
from speech.decoding.scorer import read_matching_scorer
from speech.export import loading
from speech.system import storage
from speech.transcription import subtitles
from speech.transcription.live import LiveTranscriber, PartialTranscript
from speech.transcription.recording import FORMATS, TranscribedRecording, join_candidates
from speech.transcription.sources import Source
from speech.transcription.transcriber import TranscribedSegment, Transcriber
from utils import UserError

# Time between two partial transcripts of the microphone, by default.
MICROPHONE_SECONDS = 0.1


@dataclass(frozen=True)
class Printing:
    """How transcripts are printed, and the formats that they are written in."""

    as_json: bool  # else as text
    candidates: int  # most transcripts in the JSON
    block_samples: int  # most samples between two partial transcripts; 0: no partial transcripts
    formats: tuple[str, ...]  # of the files, if any are written


def load(
    model_path: str, scorer_path: str | None, settings: BeamSettings, own_beam_width: bool = False
) -> Transcriber:
    """Loads a model and a scorer, and prints how long it took.

    Args:
        own_beam_width: whether to use the beam width that a model of DeepSpeech has for its client.

    Raises:
        UserError: one can't be loaded, or they have different alphabets.
    """
    print_note(f"Loading model from {model_path}")
    started = time.monotonic()
    model = loading.load(model_path)
    if own_beam_width:
        beam_width = getattr(model, "beam_width", settings.beam_width)
        settings = replace(settings, beam_width=beam_width)
    print_note(f"Loaded model in {time.monotonic() - started:.3g}s.")
    scorer = None
    if scorer_path:
        started = time.monotonic()
        config = model.description.config
        scorer = read_matching_scorer(
            scorer_path, config.alphabet, model_path, config.phonetic_alphabet
        )
        print_note(f"Loaded scorer from {scorer_path} in {time.monotonic() - started:.3g}s.")
    return Transcriber(model, settings, scorer)


def transcribe_all(
    transcriber: Transcriber,
    sources: Sequence[Source],
    paths: Mapping[str, str],
    printing: Printing,
) -> None:
    """Transcribes sources; with several, an error of one doesn't stop the others.

    Args:
        paths: of the files to write, by the sources' names, without the ending; empty: none.

    Raises:
        UserError: a source isn't audio, or is damaged.
    """
    print_note("Running inference.")
    failed = []
    for source in sources:
        try:
            recording = transcribe(transcriber, source, len(sources) > 1, printing)
        except UserError as error:
            if len(sources) == 1:
                raise
            print_note(f"error: {error}")
            failed.append(source.name)
            continue
        if paths:
            for ending in printing.formats:
                storage.write_text(f"{paths[source.name]}.{ending}", FORMATS[ending](recording))
    if failed:
        raise UserError(
            f"{len(failed)} of {len(sources)} recordings couldn't be transcribed completely, the "
            f"first one is {failed[0]}: see the reasons above."
        )


def transcribe(
    transcriber: Transcriber, source: Source, with_name: bool, printing: Printing
) -> TranscribedRecording:
    """Transcribes one source and prints its transcript.

    Args:
        with_name: whether to print the source's name with it.

    Raises:
        UserError: the source isn't audio, or is damaged.
    """
    started = time.monotonic()
    recording = TranscribedRecording(source.name, transcriber.separator)
    prefix = f"{source.name}\t" if with_name else ""
    for segment in _segments(transcriber, source, recording, prefix, printing):
        recording.segments.append(segment)
        words = segment.transcript.words
        if words and not printing.as_json:
            # Flushed for the reader of a pipe: a recording may take an hour.
            print(prefix + subtitles.join_words(words, recording.separator), flush=True)
    if printing.as_json:
        name = source.name if with_name else None
        print(subtitles.deepspeech_json(join_candidates(recording.segments), name), flush=True)
    elif not recording.transcript.words:
        print(prefix, flush=True)  # an empty line, as DeepSpeech prints
    if not recording.seconds:
        logging.warning("%s contains no samples: record it again.", source.name)
    elif cut := find_cut(source.name):
        logging.warning(
            "%s is cut short: %s. What is there was transcribed: copy or record it again.",
            source.name,
            cut,
        )
    took = time.monotonic() - started
    print_note(f"Inference took {took:.3f}s for {recording.seconds:.3f}s audio file.")
    return recording


def _segments(
    transcriber: Transcriber,
    source: Source,
    recording: TranscribedRecording,
    prefix: str,
    printing: Printing,
) -> Iterator[TranscribedSegment]:
    """Yields a source's segments, and counts its seconds in `recording`."""
    rate = transcriber.sample_rate
    n = printing.candidates if printing.as_json else 1
    blocks = recording.count_seconds(source.blocks(rate), rate)
    if not (printing.block_samples or source.live):
        return transcriber.segments(blocks, n)
    size = printing.block_samples or round(MICROPHONE_SECONDS * rate)
    return _streamed_segments(transcriber, blocks, size, n, prefix)


def _streamed_segments(
    transcriber: Transcriber, blocks: Iterable[Samples], size: int, n: int, prefix: str
) -> Iterator[TranscribedSegment]:
    """Yields segments during the recording, and prints partial transcripts as notes.

    Args:
        size: most samples between two partial transcripts.
        n: most candidates of a segment.
        prefix: of each note.
    """
    live = LiveTranscriber(transcriber, n)
    if not live.exact:
        logging.info(
            "This network needs whole utterances: it gets overlapping pieces of this one, and the "
            "text may differ from that without --stream."
        )
    for block in blocks:
        for start in range(0, len(block), size):
            for each in live.feed(block[start : start + size]):
                if isinstance(each, PartialTranscript):
                    print_note(f"{prefix}{each.seconds:.2f}s {each.text}")
                else:
                    yield each
    yield from live.finish()


def print_note(text: str) -> None:
    """Prints a line to standard error."""
    print(text, file=sys.stderr, flush=True)
