"""Array types of sound. Samples are mono, at int16 scale: full scale is 32768."""

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]  # [samples]
RecordedSamples = npt.NDArray[np.int16] | Samples  # [samples], int16 where a file holds just these
Levels = npt.NDArray[np.float32]  # [levels], dBFS of 20 ms of sound each
Mask = npt.NDArray[np.bool_]  # [samples] or [levels]
