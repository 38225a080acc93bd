"""Windows of frames, each of which gives an output. Needs no TensorFlow."""


def centred(context: int) -> list[int]:
    """Returns the numbers of zeros before and after the frames that centre outputs on frames.

    With "SAME" the number before would depend on the parity of the frames.
    """
    return [(context - 1) // 2, context // 2]
