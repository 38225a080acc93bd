"""Searches for the weights of a language model that give the lowest error rate.

In: a network's outputs for a development set, and a scorer.
Out: trials, the best weights, a picture of the error rates.
"""
