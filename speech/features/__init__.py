"""Computes features, the front end: in NumPy, as a stream, and as TensorFlow operations.

In: samples [samples].
Out: features [frames, bins] float32, and their normalisation.
"""
