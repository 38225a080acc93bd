"""Divides a CSV into training, development and test sets that share no sentence.

    python examples/own_voice/split_sentences.py --csv_file=all.csv --output_dir=sets

writes sets/train.csv, sets/dev.csv and sets/test.csv, with about 80, 10 and 10 per cent of the
sentences. A sentence stays in its set when others are added, so that a model that is trained again
is tested on what it never heard.
"""

import csv
import hashlib
import os
from pathlib import Path

from absl import flags

from speech.system import command_line
from utils import UserError

FLAGS = flags.FLAGS

# Set -> the share of sentences up to which it reaches, in hundredths.
SETS = {"test": 10, "dev": 20, "train": 100}


def define_flags() -> None:
    flags.DEFINE_string("csv_file", None, "CSV of prepare_csv.py --write_csv.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder of the three sets.", required=True)
    command_line.define_logging_flag()


def set_of(sentence: str) -> str:
    """Returns the set of a sentence, by a hash of its words."""
    digest = hashlib.sha256(" ".join(sentence.lower().split()).encode()).digest()
    place = int.from_bytes(digest[:4], "big") * 100 / 2**32
    return next(name for name, end in SETS.items() if place < end)


def main() -> None:
    with open(FLAGS.csv_file, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        names, rows = list(reader.fieldnames or ()), list(reader)
    folder = os.path.dirname(os.path.abspath(FLAGS.csv_file))
    output = Path(FLAGS.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    for name in SETS:
        chosen = [each for each in rows if set_of(each["transcript"]) == name]
        if not chosen:
            raise UserError(
                f"{FLAGS.csv_file} has no sentence for the {name} set among {len(rows)}: record "
                "more sentences, 30 or more."
            )
        with open(output / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            for row in chosen:
                path = os.path.join(folder, row["wav_filename"])
                writer.writerow({**row, "wav_filename": os.path.relpath(path, output)})
        print(f"{output / name}.csv: {len(chosen)} utterances")


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
