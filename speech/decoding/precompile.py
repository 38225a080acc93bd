"""Compiles the decoder ahead of its first use, as an installation does.

python -m speech.decoding.precompile
"""

import numpy as np

from speech.decoding import kenlm_binary, prefix_search
from speech.decoding.alignment import label_outputs


def main() -> None:
    """Calls all compiled functions; the compiled code serves all alphabets and scorers."""
    words = prefix_search.no_words()
    search = prefix_search.begin(words, width=1, nodes=2)
    probabilities = np.full((1, 2), 0.5, np.float32)  # [outputs, classes]
    prefix_search.advance(search, words, probabilities, cutoff_prob=1.0, cutoff_top_n=1)
    search = prefix_search.compacted(search, 1)
    nodes, *_ = prefix_search.finish(search, words)
    prefix_search.labels_of(search, nodes[0])
    prefix_search.words_of(search, nodes[0])
    kenlm_binary.murmur_hashes([b"word"])
    label_outputs(np.log(probabilities), np.zeros(1, np.int64))


if __name__ == "__main__":
    main()
