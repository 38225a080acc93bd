"""Types of arrays that the server's services share."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
