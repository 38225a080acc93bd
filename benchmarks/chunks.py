"""Measures what chunks cost a network that can't carry its state, and the delay they cause.

  python benchmarks/chunks.py --model=model --files_path=data/LibriSpeech/test-clean

Every recording is fed in blocks of 0.1 s as from a microphone (transcription/acoustic_stream.py),
with chunks of several sizes, and compared with the result for the whole recording: word and
character error rates, and "other letters", the edit distance between the two texts. All use beam
search, without a language model unless --scorer names one.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from absl import flags

import constants
from speech.audio import reader
from speech.corpora.formats import registry
from speech.decoding.beam_search import BeamSettings
from speech.decoding.scorer import read_matching_scorer
from speech.evaluation.error_rates import Errors, character_errors, word_errors
from speech.export import loading
from speech.export.acoustic_model import Floats, Samples
from speech.system import command_line, tensorflow_import
from speech.transcription import acoustic_stream
from speech.transcription.acoustic_stream import stream_of
from speech.transcription.transcriber import Transcriber

FLAGS = flags.FLAGS

# Seconds before, new and ahead.
SIZES = [
    (17.0, 2.0, 4.0),
    (3.0, 1.0, 2.0),
    (3.0, 1.0, 1.0),
    (1.0, 0.5, 1.0),
    (1.0, 0.5, 0.5),
    (1.0, 0.5, 0.25),
    (0.25, 0.5, 0.25),
    (0.25, 0.25, 0.1),
]
BLOCK_SECONDS = 0.1


def define_flags() -> None:
    flags.DEFINE_string("model", None, "As transcribe.py's.", required=True)
    flags.DEFINE_string(
        "files_path", None, "A corpus with transcripts, as prepare_csv.py's.", required=True
    )
    flags.DEFINE_string("scorer", None, "A language model.")
    command_line.define_logging_flag()


def in_chunks(transcriber: Transcriber, samples: Samples) -> Floats:
    """Returns the network's output for a recording in blocks, float32 [outputs, classes]."""
    stream = stream_of(transcriber.model)
    size = round(BLOCK_SECONDS * transcriber.sample_rate)
    pieces = [stream.feed(samples[at : at + size]) for at in range(0, len(samples), size)]
    return np.concatenate([*pieces, stream.finish()])


@dataclass(frozen=True)
class Spoken:
    """A recording, its transcript, and the hypothesis for the whole recording."""

    samples: Samples  # [samples] at the model's rate
    transcript: str
    whole: str


def recordings(transcriber: Transcriber) -> list[Spoken]:
    spoken = []
    for each in registry.read([FLAGS.files_path], None, registry.Reading()):
        if each.audio_path and each.transcript is not None:
            samples = reader.read_audio(each.audio_path, transcriber.sample_rate)
            text = transcriber.decoder.decode(transcriber.log_probs(samples))
            spoken.append(Spoken(samples, each.transcript.lower(), text))
    return spoken


def row(name: str, latency: str, texts: list[str], spoken: list[Spoken]) -> str:
    """Returns a line of the table: error rates, and the distance from the whole recordings."""
    words, characters, others = Errors(), Errors(), Errors()
    for text, each in zip(texts, spoken, strict=True):
        words += word_errors(each.transcript, text)
        characters += character_errors(each.transcript, text)
        others += character_errors(each.whole, text)
    rates = (f"{errors.rate:.2%}" for errors in (words, characters, others))
    return name.ljust(24) + latency.rjust(9) + "".join(rate.rjust(14) for rate in rates)


def main() -> None:
    tensorflow_import.quieten(FLAGS.logging)
    model = loading.load(FLAGS.model)
    alphabet = model.description.config.alphabet
    scorer = read_matching_scorer(FLAGS.scorer, alphabet, FLAGS.model)
    transcriber = Transcriber(model, BeamSettings(constants.BEAM_WIDTH), scorer)
    spoken = recordings(transcriber)
    heads = "".join(head.rjust(14) for head in ("WER", "CER", "other letters"))
    print("before, new, ahead in s".ljust(24) + "latency".rjust(9) + heads)
    print(row("the whole", "", [each.whole for each in spoken], spoken))
    for before, new, ahead in SIZES:
        acoustic_stream.BEFORE_SECONDS = before
        acoustic_stream.CHUNK_SECONDS = new
        acoustic_stream.AHEAD_SECONDS = ahead
        texts = [
            transcriber.decoder.decode(in_chunks(transcriber, each.samples)) for each in spoken
        ]
        latency = f"{stream_of(model).latency_seconds:.2f} s"
        print(row(f"{before:g}, {new:g}, {ahead:g}", latency, texts, spoken), flush=True)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
