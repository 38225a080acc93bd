"""Turns log-probabilities into text: beam search, scorer, alignment.

In: log-probabilities [outputs, classes].
Out: texts, scores and times of words.
"""
