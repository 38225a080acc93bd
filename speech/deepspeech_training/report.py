"""Prints an evaluation as DeepSpeech.py prints a test, and writes its JSON file."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from speech.evaluation import results
from speech.system import storage

RULE = "-" * 80


@dataclass(frozen=True)
class Sample:
    """A transcript and its errors; the fields are the keys of DeepSpeech's JSON."""

    wav_filename: str
    src: str
    res: str
    loss: float
    char_distance: int
    char_length: int
    word_distance: int
    word_length: int
    cer: float
    wer: float

    def lines(self) -> list[str]:
        """Formats it for the terminal."""
        return [
            f"WER: {self.wer:f}, CER: {self.cer:f}, loss: {self.loss:f}",
            f" - wav: file://{self.wav_filename}",
            f' - src: "{self.src}"',
            f' - res: "{self.res}"',
            RULE,
        ]


def read_samples(
    report_dir: str, recordings: Mapping[str, str], by_characters: bool
) -> list[Sample]:
    """Reads the samples of eval.py's report, the best first.

    Args:
        recordings: utterance id -> path.
        by_characters: ranks by CER instead of WER.
    """
    samples = [
        Sample(
            os.path.abspath(recordings[each.utterance_id]),
            each.reference,
            each.hypothesis,
            math.inf if each.loss is None else each.loss,
            each.characters.total,
            each.characters.length,
            each.words.total,
            each.words.length,
            each.characters.rate,
            each.words.rate,
        )
        for each in results.read_results(report_dir)
    ]
    # Of equal rates the highest loss first: that is DeepSpeech's order.
    return sorted(samples, key=lambda each: (each.cer if by_characters else each.wer, -each.loss))


def print_report(dataset: str, report_dir: str, samples: Sequence[Sample], count: int) -> None:
    """Prints the rates and the best, the median and the worst samples.

    Args:
        dataset: the CSV file.
        samples: the best first.
        count: of samples of each kind.
    """
    summary = json.loads(storage.read_text(storage.join(report_dir, results.SUMMARY_FILE)))
    rates = [min(summary[name], 1.0) for name in ("wer", "cer")]
    print(f"Test on {dataset} - WER: {rates[0]:f}, CER: {rates[1]:f}, loss: {summary['loss']:f}")
    print(RULE)
    middle = max(len(samples) // 2 - count // 2, 0)
    chosen = {
        "Best": samples[:count],
        "Median": samples[middle : len(samples) // 2 + count - count // 2],
        "Worst": samples[max(len(samples) - count, 0) :],
    }
    for name, those in chosen.items():
        print(f"{name} WER: \n{RULE}")
        for each in those:
            print("\n".join(each.lines()))
    print(end="", flush=True)


def write_json(path: str, samples: Sequence[Sample]) -> None:
    """Writes samples as --test_output_file has them."""
    rows = [asdict(each) for each in samples]
    storage.write_text(path, json.dumps(rows, ensure_ascii=False, indent=2))
