"""Coqui STT's Python module, which has the names of DeepSpeech's."""

from deepspeech import *  # noqa: F403 - all that it exports
