"""Optimises a network: the training step, which every engine runs, with Adam and its schedule.

In: a network and a batch.
Out: new values of the variables, and the step's curves.
"""
