"""Compiles the training step with the TPU's compiler on any machine and estimates its time.

In: a network's configuration, and the shape of a batch.
Out: memory and time of a step for each TPU.
"""
