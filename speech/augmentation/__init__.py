"""Varies speech: waveforms in preparation, features in training.

In: specifications in DeepSpeech's grammar.
Out: changed samples or features.
"""
