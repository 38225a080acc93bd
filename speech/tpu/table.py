"""A table of what the TPU's compiler estimates for a training step, one row for each TPU."""

from dataclasses import dataclass

from absl import logging
from tabulate import tabulate

from speech.networks.network import Network
from speech.tpu.compiler import Compiled
from speech.tpu.estimate import OTHER, PARTS, TOPOLOGIES, estimate

SUMS = "sums"

# Memory is in MiB and the parts of a step in milliseconds; SUMS are those over the cores. "of peak"
# is the share of a core's peak that the products of the network's kernels reach; "audio h/h" is
# hours of audio in an hour.
HEADINGS = [
    *("TPU", "cores", "compiled s", "arguments", "temporary", "code", "free MiB"),
    *(*PARTS, OTHER, SUMS, "step ms", "unpriced MiB", "of peak", "audio h/h"),
]

MEBIBYTE = 2**20


@dataclass(frozen=True)
class BatchShape:
    """The contents of a batch, apart from the number of its utterances."""

    frames: int  # that an utterance is padded to
    labels: int  # that a transcript is padded to
    audio_seconds: float  # of an average utterance


def row(
    name: str, compiled: Compiled, network: Network, shape: BatchShape, batch: int
) -> list[str]:
    """Returns the table's row for a program that compiles.

    Args:
        name: the TPU, a key of TOPOLOGIES.
        compiled: the training step.
        network: what is trained.
        shape: contents of the batch.
        batch: utterances of a core.
    """
    topology = TOPOLOGIES[name]
    estimated = estimate(compiled.text)
    parts = estimated.milliseconds(topology)
    parts[SUMS] = 1000 * topology.sum_seconds(estimated.summed_bytes, compiled.cores)
    seconds = sum(parts.values()) / 1000
    # The backward pass has two products for each product of the forward pass.
    flops = 3 * batch * network.forward_flops(network.config.output_frames(shape.frames))
    if estimated.endless_loops:
        logging.warning("%s: the turns of a loop are unknown; its time counts once.", name)
    arguments = compiled.argument_bytes + compiled.output_bytes
    sizes = (arguments, compiled.temporary_bytes, compiled.code_bytes)
    return [
        name,
        str(compiled.cores),
        f"{compiled.seconds:.0f}",
        *(f"{size / MEBIBYTE:.0f}" for size in sizes),
        f"{(topology.memory_bytes - compiled.bytes) / MEBIBYTE:.0f}",
        *(f"{parts[part]:.1f}" for part in (*PARTS, OTHER, SUMS)),
        f"{1000 * seconds:.1f}",
        f"{estimated.unpriced_bytes / MEBIBYTE:.0f}",
        f"{flops / seconds / topology.peak_flops:.0%}",
        f"{batch * shape.audio_seconds / seconds:.0f}",
    ]


def table(rows: list[list[str]]) -> str:
    """Returns the lines of a table of such rows, under HEADINGS."""
    return tabulate(
        [HEADINGS, *rows], tablefmt="plain", colglobalalign="right", disable_numparse=True
    )
