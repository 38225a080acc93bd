"""Transcribes audio to words with times, whole or while it is spoken.

In: samples or recordings.
Out: transcripts, subtitles, DeepSpeech's API.
"""
