"""Coqui STT's Python module, which has the names of DeepSpeech's."""

from deepspeech import (
    CandidateTranscript,
    Metadata,
    Model,
    Stream,
    TokenMetadata,
    printVersions,
    version,
)

__all__ = [
    "CandidateTranscript",
    "Metadata",
    "Model",
    "Stream",
    "TokenMetadata",
    "printVersions",
    "version",
]
