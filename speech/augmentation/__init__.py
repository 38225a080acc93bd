"""Augments speech: waveforms during preparation, features during training.

In: specifications in DeepSpeech's grammar.
Out: changed samples or features.
"""
