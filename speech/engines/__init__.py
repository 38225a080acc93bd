"""Runs the training step on devices: TPUEstimator, several machines, checkpoints.

In: a model function, input functions, a model directory.
Out: steps done, checkpoints.
"""
