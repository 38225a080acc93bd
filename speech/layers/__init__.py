"""Holds the TensorFlow layers that networks share, and the CTC loss.

A layer doesn't depend on its position in a network: here `frames` is the time axis of its input.

In: tensors [batch, frames, units].
Out: tensors, and losses [batch].
"""
