"""Reads sound of any format and length, measures its levels, and cuts it into segments.

In: files, pipes, the microphone.
Out: samples at the front end's rate, [samples] int16 or float32.
"""
