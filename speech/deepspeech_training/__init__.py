"""Runs the steps of DeepSpeech.py, each by the door that does it here.

In: settings of a run, CSV files.
Out: a model directory, DeepSpeech.py's lines on standard output, exported files.
"""
