"""Compiles the training step with the TPU's compiler on any machine and estimates its time.

In: a network's configuration.
Out: memory and time for each TPU.
"""
