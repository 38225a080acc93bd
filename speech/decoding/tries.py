"""Tries in flat arrays: a vocabulary's letters, a language model's n-grams.

A trie's nodes are numbered level by level, the root first, and a node's children are adjacent, in
the order of their labels. So a trie is one array of records, which can be used as it is in a file,
and a child is found by bisection. The record after the last node only ends that node's children.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from speech.decoding.compilation import compiled
from speech.decoding.types import Integers, LongIntegers, Records

# Structured array [nodes + 1]. The children of node i are first_child[i] to first_child[i + 1] - 1;
# label is the last label of a node's sequence. Users of a trie add fields.
Trie = Records
FIELDS = [("first_child", "<i4"), ("label", "<i4")]

# A node or label that doesn't exist.
NONE = -1

ROOT = 0

# Records that are checked at a time; so many stay in the processor's cache.
PIECE = 1 << 16


def build(
    sequences: Integers, lengths: LongIntegers, dtype: npt.DTypeLike
) -> tuple[Trie, Integers]:
    """Builds the trie of some sequences.

    Args:
        sequences: int32 [sequences, longest], labels from 0 on; values after a sequence's end are
            ignored.
        lengths: int64 [sequences].
        dtype: of the nodes, with FIELDS; its other fields are set to 0.

    Returns:
        the trie, and the node in which each sequence ends: int32 [sequences].
    """
    count, longest = sequences.shape
    filled = np.where(np.arange(longest) < lengths[:, None], sequences, NONE)
    order = np.lexsort(filled.T[::-1]) if longest else np.arange(count)
    filled, lengths = filled[order], lengths[order]  # [sequences, longest], [sequences]
    fresh = np.zeros(count, bool)  # [sequences]: differs so far from the one before
    fresh[:1] = True
    parent = np.zeros(count, np.int32)  # [sequences], the node of the labels so far
    end = np.zeros(count, np.int32)  # [sequences]
    nodes, labels, parents = 1, [np.full(1, NONE, np.int32)], []
    for depth in range(longest):
        fresh[1:] |= filled[1:, depth] != filled[:-1, depth]
        there = lengths > depth  # [sequences]
        # The first of the sequences with the same labels so far makes the node.
        starts = there & fresh  # [sequences]
        node = (nodes - 1 + np.cumsum(starts)).astype(np.int32)  # [sequences]
        labels.append(filled[starts, depth])
        parents.append(parent[starts])
        parent = np.where(there, node, parent)
        end = np.where(lengths == depth + 1, node, end)
        nodes += int(starts.sum())
    children = np.bincount(np.concatenate([*parents, np.zeros(0, np.int32)]), minlength=nodes)
    trie = np.zeros(nodes + 1, dtype)
    trie["label"][:-1] = np.concatenate(labels)
    trie["label"][-1] = NONE
    trie["first_child"] = 1
    trie["first_child"][1:] += np.cumsum(children, dtype=np.int32)
    back = np.empty(count, np.int32)
    back[order] = end
    return trie, back


def padded(sequences: Sequence[Sequence[int]]) -> tuple[Integers, LongIntegers]:
    """Returns sequences as `build` takes them: int32 [sequences, longest], lengths [sequences]."""
    lengths = np.array([len(each) for each in sequences], np.int64)
    labels = np.zeros((len(lengths), lengths.max(initial=0)), np.int32)
    for row, each in zip(labels, sequences, strict=True):
        row[: len(each)] = each
    return labels, lengths


def sequences_of(trie: Trie, nodes: Integers) -> tuple[Integers, LongIntegers]:
    """Returns the labels from the root to each of some nodes, as `build` takes them."""
    below_root = np.repeat(np.arange(len(trie) - 1), np.diff(trie["first_child"]))
    parents = np.concatenate(([ROOT], below_root)).astype(np.int32)  # [nodes of the trie]
    columns, node = [], nodes
    while node.any():
        columns.append(np.where(node == ROOT, NONE, trie["label"][node]))
        node = parents[node]
    backwards = np.stack([*columns, np.full(len(nodes), NONE, np.int32)], axis=1)
    lengths = (backwards != NONE).sum(axis=1)  # [sequences]
    # Each one is reversed, and moved to the front of its row.
    places = np.maximum(lengths[:, None] - 1 - np.arange(backwards.shape[1]), 0)
    return np.take_along_axis(backwards, places, axis=1).astype(np.int32), lengths


def node_of(trie: Trie, sequence: Sequence[int]) -> int:
    """Returns the node in which a sequence ends, or NONE."""
    node = ROOT
    for label in sequence:
        first, last = trie["first_child"][node : node + 2].tolist()
        node = first + int(np.searchsorted(trie["label"][first:last], label))
        if node == last or trie["label"][node] != label:
            return NONE
    return node


def check(trie: Trie, labels: int) -> None:
    """Checks all values in a trie from a file that `find_child` and `sequences_of` follow.

    Args:
        labels: number of labels; all labels are below it.

    Raises:
        ValueError: an index is out of range, children aren't after their parents in their order, or
            a label is out of range.
    """
    last = len(trie) - 1  # the record after the last node
    if last < 1 or trie["first_child"][ROOT] != 1 or trie["first_child"][last] != last:
        raise ValueError("a trie's children don't begin and end where its nodes do")
    for start in range(0, last, PIECE):
        piece = trie[start : start + PIECE + 1]
        first_child = np.ascontiguousarray(piece["first_child"])
        numbers = np.arange(start, start + len(piece) - 1, dtype=np.int32)
        if (first_child[:-1] <= numbers).any() or (first_child[1:] < first_child[:-1]).any():
            raise ValueError("a trie's children aren't after their parents")
        label = np.ascontiguousarray(piece["label"][1 if start == ROOT else 0 : -1])
        if label.min(initial=0) < 0 or label.max(initial=0) >= labels:
            raise ValueError(f"a trie has labels that are not below {labels}")


@compiled
def find_child(trie: Trie, node: int, label: int) -> int:
    """Returns the child of `node` by `label`, or NONE."""
    low, high = trie[node].first_child, trie[node + 1].first_child
    while low < high:
        middle: int = (low + high) >> 1
        found = trie[middle].label
        if found == label:
            return middle
        if found < label:
            low = middle + 1
        else:
            high = middle
    return NONE
