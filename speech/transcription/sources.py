"""Finds the sources to transcribe, and the paths of their transcripts."""

import functools
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from speech.audio import find, microphone
from speech.audio.stream import INPUT_NAME, stream_file, stream_input
from speech.audio.types import Samples
from speech.system import storage
from utils import UserError


@dataclass(frozen=True)
class Source:
    """A source of samples."""

    name: str
    blocks: Callable[[int], Iterator[Samples]]  # sample rate in Hz -> blocks of samples
    live: bool  # whether it is recorded while it is transcribed


def find_sources(paths: Sequence[str], from_microphone: bool) -> list[Source]:
    """Returns the sources that are named.

    Args:
        paths: files, folders, patterns, or - for standard input.

    Raises:
        UserError: there are paths besides the microphone, none at all, or one that doesn't exist.
    """
    if from_microphone and paths:
        raise UserError("--microphone and --audio can't be combined: leave one of them out.")
    if from_microphone:
        return [Source("microphone", microphone.blocks, live=True)]
    return [
        _standard_input()
        if path == find.STANDARD_INPUT
        else Source(path, functools.partial(stream_file, path), live=False)
        for path in find.find_audio_files(paths)
    ]


def _standard_input() -> Source:
    if sys.stdin is None:  # a program may be started without one
        raise UserError(f"{INPUT_NAME} is closed: pipe a wav or samples into it, or name a file.")
    file = cast(io.BufferedReader, sys.stdin.buffer)
    return Source(INPUT_NAME, functools.partial(stream_input, file), live=False)


def output_paths(
    sources: Iterable[Source], output_dir: str, formats: Sequence[str]
) -> dict[str, str]:
    """Returns, by the sources' names, the paths of their transcripts without the ending.

    Makes the folder, so that a problem with it is reported before hours of transcription.

    Raises:
        UserError: two transcripts would have the same path, or one would overwrite a text beside
            its recording.
    """
    paths: dict[str, str] = {}
    taken: dict[str, str] = {}
    for source in sources:
        folder, _, file = source.name.rpartition("/")
        name = os.path.splitext(file)[0]
        paths[source.name] = storage.join(output_dir, name)
        text = f"{paths[source.name]}.txt"
        same_folder = os.path.realpath(folder) == os.path.realpath(output_dir)
        if "txt" in formats and same_folder and storage.exists(text):
            raise UserError(
                f"{text} exists beside its recording and may be its transcript: choose another "
                "--output_dir, or --formats without txt."
            )
        other = taken.setdefault(name, source.name)
        if other != source.name:
            raise UserError(
                f"{other} and {source.name} would both be written as {name} into {output_dir}: "
                "transcribe them into different folders."
            )
    storage.make_folder(output_dir)
    return paths
