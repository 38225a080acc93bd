"""Array types of features."""

import numpy as np
import numpy.typing as npt

# [frames, bins], as networks read them, or [bins, frames], as shards store them: each function
# says which.
Features = npt.NDArray[np.float32]
