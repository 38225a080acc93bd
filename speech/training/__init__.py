"""Trains a network: the loop, evaluation on the development set, early stopping, history.

In: settings, input functions, an engine.
Out: checkpoints, history, curves.
"""
