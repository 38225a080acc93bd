"""Applies the rules of transcripts to a corpus."""

from collections.abc import Iterable
from dataclasses import replace

from speech.corpora.utterance import Utterance
from speech.text.transcripts import TranscriptRules


def normalise(utterances: Iterable[Utterance], rules: TranscriptRules) -> list[Utterance]:
    """The utterances with transcripts as the rules write them; of nothing but punctuation, none."""
    return [
        replace(each, transcript=rules.apply(each.transcript or "") or None) for each in utterances
    ]
