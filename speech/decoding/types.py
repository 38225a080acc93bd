"""Array types of decoding. Axes: `outputs` of the network, `classes` with the blank as the last."""

from typing import Any

import numpy as np
import numpy.typing as npt

LogProbs = npt.NDArray[np.float32]  # [outputs, classes], natural logarithms
Probabilities = npt.NDArray[np.float32]  # [outputs, classes], or [classes] of one output

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.int8]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]
LongIntegers = npt.NDArray[np.int64]
Records = npt.NDArray[Any]  # of a structured dtype
