"""Builds n-gram language models from text.

In: text files, transcripts, ARPA files.
Out: a scorer file.
"""
