"""Holds the TensorFlow layers that networks share, and the CTC loss.

A layer doesn't know its place in a network: its time axis is `frames`, whatever it is fed with.

In: tensors [batch, frames, units].
Out: tensors, and losses [batch].
"""
