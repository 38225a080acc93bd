"""Holds the acoustic models by name, and their configuration.

In: features [batch, frames, bins].
Out: logits [batch, outputs, classes].
"""
