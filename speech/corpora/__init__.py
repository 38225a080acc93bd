"""Corpora: what people have -> a sorted list of utterances. By their formats' names: formats.py."""

from speech.corpora.librispeech import TRANSCRIPT_SUFFIX, librispeech
from speech.corpora.utterance import COPY_MARK, Utterance, with_copies

__all__ = ["COPY_MARK", "TRANSCRIPT_SUFFIX", "Utterance", "librispeech", "with_copies"]
