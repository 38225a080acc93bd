"""Finds the utterances of corpora and splits them into sets.

In: folders, tables and CSV files in the formats of `formats`.
Out: sorted lists of `Utterance`.
"""
