"""Normalises the transcripts of a corpus."""

from collections.abc import Iterable
from dataclasses import replace

from speech.corpora.utterance import Utterance
from speech.text.transcripts import TranscriptRules


def normalise(utterances: Iterable[Utterance], rules: TranscriptRules) -> list[Utterance]:
    """Applies the rules to all transcripts; a transcript that becomes empty becomes None."""
    return [
        replace(each, transcript=rules.apply(each.transcript or "") or None) for each in utterances
    ]
