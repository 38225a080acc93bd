"""Holds the TensorFlow layers that networks share, and the CTC loss.

In: tensors [batch, frames, units].
Out: tensors, and losses [batch].
"""
