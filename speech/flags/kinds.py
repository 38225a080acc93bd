"""Kinds of flags: choices, bounded numbers, paths and aliases; seed and batch size."""

import glob
import math
import os
from collections.abc import Iterable
from typing import Any

from absl import flags

import constants

# Upper bound of random seeds: TensorFlow adds the step to them in int32, and NumPy takes no
# negative ones.
LARGEST_SEED = 2**31 - 1


def define_choice(name: str, default: str | None, choices: Iterable[str], meaning: str) -> None:
    """Defines a flag whose value is one of `choices`, in small or capital letters."""
    flags.DEFINE_enum(name, default, list(choices), meaning, case_sensitive=False)


class _ChoicesParser(flags.ListParser):
    """Parses a comma-separated list of choices, in small or capital letters."""

    def __init__(self, choices: Iterable[str]) -> None:
        super().__init__()
        self.choices = tuple(choices)

    def parse(self, argument: str | list[str]) -> list[str]:
        values = [each.lower() for each in super().parse(argument)]
        if not values or not set(values) <= set(self.choices):
            raise ValueError(f"value should be some of <{'|'.join(self.choices)}>, by commas")
        return values


def define_choices(name: str, default: list[str], choices: Iterable[str], meaning: str) -> None:
    """Defines a flag whose value is a list of `choices`; choices are in small letters."""
    parser = _ChoicesParser(choices)
    flags.DEFINE(parser, name, default, meaning, serializer=flags.CsvListSerializer(","))


def define_random_seed(meaning: str) -> None:
    """Defines --random_seed, within the bounds of every random generator that is used."""
    define_integer(
        "random_seed",
        constants.RANDOM_SEED,
        meaning,
        lower_bound=0,
        upper_bound=LARGEST_SEED,
    )


def define_integer(
    name: str,
    default: int | None,
    meaning: str,
    lower_bound: int = -constants.LARGEST_INTEGER,
    upper_bound: int = constants.LARGEST_INTEGER,
) -> None:
    """Defines a flag whose value is a whole number, between two bounds, which are included."""
    flags.DEFINE_integer(name, default, meaning, lower_bound=lower_bound, upper_bound=upper_bound)


class _NumberParser(flags.FloatParser):
    """Parses a finite number; a FloatParser takes nan for within any bounds."""

    def convert(self, argument: float | str) -> float:
        number = super().convert(argument)
        if not math.isfinite(number):
            raise ValueError(f"{argument} is not a finite number")
        return float(number)


def define_number(
    name: str,
    default: float | None,
    meaning: str,
    lower_bound: float = -constants.LARGEST_NUMBER,
    upper_bound: float = constants.LARGEST_NUMBER,
) -> None:
    """Defines a flag whose value is a finite number, between two bounds, which are included."""
    parser = _NumberParser(lower_bound, upper_bound)
    flags.DEFINE(parser, name, default, meaning, serializer=flags.ArgumentSerializer())


class _PathsParser(flags.ListParser):
    """Parses comma-separated paths or patterns, or one existing path that has commas itself."""

    def parse(self, argument: str | list[str]) -> list[str]:
        if isinstance(argument, str) and "," in argument and _exists(argument):
            return [argument]
        return super().parse(argument)


def _exists(pattern: str) -> bool:
    return os.path.exists(pattern) or bool(glob.glob(pattern))


def define_paths(name: str, default: str | list[str] | None, meaning: str, **more: Any) -> None:
    """Defines a flag of comma-separated paths or glob patterns.

    A path with a comma is put in quotes, or given alone if it exists.
    """
    flags.DEFINE(
        _PathsParser(), name, default, meaning, serializer=flags.CsvListSerializer(","), **more
    )


def define_alias(name: str, original: str) -> None:
    """Defines another name of a flag: DeepSpeech's, where it has the same meaning and unit."""
    flags.DEFINE_alias(name, original)


def define_batch_size(name: str, default: int) -> None:
    """Defines a flag of the number of utterances in a batch."""
    define_integer(
        name,
        default,
        "Utterances in a batch, over all cores.",
        lower_bound=1,
        upper_bound=constants.LARGEST_BATCH_SIZE,
    )
