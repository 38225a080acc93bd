"""Writes and loads models in every form: SavedModel, TensorFlow Lite, model card.

In: a checkpoint.
Out: files that carry network, front end and alphabet.
"""
