"""Makes scorers of a few words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from arpa_models import write_lines

from speech.decoding import ngrams
from speech.decoding.scorer import ALIGNMENT, CHECKSUM, HEADER, LETTERS, MAGIC, write_scorer
from utils import ENGLISH, Alphabet


def pack_unigrams(
    folder: Path,
    log_probs: Mapping[str, float],
    alphabet: Alphabet = ENGLISH,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> str:
    """Writes a scorer of unigrams; returns its path; log_probs: to base 10."""
    lines = [f"{log_prob}\t{word}\t0" for word, log_prob in log_probs.items()]
    arpa = write_lines(
        folder / "lm.arpa",
        ["\\data\\", f"ngram 1={len(lines) + 3}", "", "\\1-grams:"]
        + ["-99\t<s>\t0", "-1\t</s>\t0", "-3\t<unk>\t0", *lines, "", "\\end\\"],
    )
    path = str(folder / "kenlm.scorer")
    write_scorer(path, arpa, list(log_probs), alphabet, alpha, beta, characters=False)
    return path


@dataclass
class Parts:
    """The parts of a scorer file, which can be changed and packed with correct checksums."""

    head: list[Any]  # HEADER's fields
    content: dict[str, Any]  # of the JSON
    letters: np.ndarray  # LETTERS
    model: np.ndarray  # ngrams.DTYPE

    @classmethod
    def of(cls, file: bytes) -> "Parts":
        start = len(MAGIC) + HEADER.size
        head = list(HEADER.unpack(file[len(MAGIC) : start]))
        position = start + head[1]
        content = json.loads(file[start:position])
        arrays = []
        for dtype, length in zip((LETTERS, ngrams.DTYPE), content["nodes"], strict=True):
            position += -position % ALIGNMENT
            arrays.append(np.frombuffer(file, dtype, length, position).copy())
            position += dtype.itemsize * length
        return cls(head, content, *arrays)

    def packed(self) -> bytes:
        text = json.dumps(self.content).encode()
        rest, start = text, len(MAGIC) + HEADER.size
        for array in (self.letters, self.model):
            rest += bytes(-(start + len(rest)) % ALIGNMENT) + array.tobytes()
        self.head[1], self.head[4] = len(text), google_crc32c.value(rest)
        head = MAGIC + HEADER.pack(*self.head[:5], 0)[: -CHECKSUM.size]
        return head + CHECKSUM.pack(google_crc32c.value(head)) + rest
