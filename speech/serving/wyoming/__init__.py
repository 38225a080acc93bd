"""Serves Wyoming, the protocol of Home Assistant's voice assistants, over TCP.

https://github.com/OHF-voice/wyoming describes it.

In: recordings as events.
Out: transcripts as events.
"""
