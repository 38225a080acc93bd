"""Tries against a dict of all prefixes."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from speech.decoding import tries
from speech.decoding.tries import NONE, ROOT, find_child

Sequences = list[tuple[int, ...]]

# Few labels, so that sequences share beginnings; 9, 10 and 100000 have another order as text.
LABELS = [0, 1, 2, 9, 10, 100_000]
SEQUENCES = st.lists(st.lists(st.sampled_from(LABELS), max_size=5).map(tuple), max_size=30)

DTYPE = np.dtype([*tries.FIELDS, ("more", "<f4")])


def build(sequences: Sequences) -> tuple[tries.Trie, list[int]]:
    trie, nodes = tries.build(*tries.padded(sequences), DTYPE)
    return trie, nodes.tolist()


def walk(trie: tries.Trie, sequence: tuple[int, ...]) -> int:
    """The node that a sequence leads to, or NONE."""
    node = ROOT
    for label in sequence:
        node = find_child(trie, node, label)
        if node == NONE:
            break
    return node


def prefixes(sequences: Sequences) -> set[tuple[int, ...]]:
    return {()} | {each[:length] for each in sequences for length in range(1, len(each) + 1)}


@settings(deadline=None)
@given(SEQUENCES)
@example([])
@example([()])
@example([(), (1,), (1, 2), (1,), (2, 2, 2)])
def test_every_prefix_has_one_node_and_every_sequence_ends_in_its_own(sequences: Sequences) -> None:
    trie, ends = build(sequences)
    node_of = {prefix: walk(trie, prefix) for prefix in prefixes(sequences)}
    # Level by level, those of a level in the order of their sequences.
    in_order = sorted(node_of, key=lambda prefix: (len(prefix), prefix))
    assert [node_of[prefix] for prefix in in_order] == list(range(len(trie) - 1))
    assert ends == [node_of[sequence] for sequence in sequences]
    for prefix, node in node_of.items():
        assert trie["label"][node] == (prefix[-1] if prefix else NONE)


@settings(deadline=None)
@given(SEQUENCES, st.lists(st.sampled_from([*LABELS, 3, 99_999, 2**31 - 1]), max_size=5))
def test_what_is_no_prefix_is_not_found(sequences: Sequences, other: list[int]) -> None:
    trie, _ = build(sequences)
    assert (walk(trie, tuple(other)) != NONE) == (tuple(other) in prefixes(sequences))


@settings(deadline=None)
@given(SEQUENCES)
@example([])
@example([(), ()])
@example([(0,), (), (0, 0, 0)])
def test_what_leads_to_a_node_comes_back(sequences: Sequences) -> None:
    trie, ends = build(sequences)
    labels, lengths = tries.sequences_of(trie, np.array(ends, np.int32))
    assert labels.dtype == np.int32
    rows = zip(labels.tolist(), lengths.tolist(), strict=True)
    assert [tuple(row[:length]) for row, length in rows] == sequences
    again, again_ends = tries.build(labels, lengths, DTYPE)
    assert again.tobytes() == trie.tobytes() and again_ends.tolist() == ends


@settings(deadline=None)
@given(SEQUENCES)
def test_padding_does_not_matter(sequences: Sequences) -> None:
    labels, lengths = tries.padded(sequences)
    assert labels.shape == (len(sequences), max(map(len, sequences), default=0))
    assert lengths.tolist() == [len(each) for each in sequences]
    after = np.arange(labels.shape[1]) >= lengths[:, None]  # [sequences, longest]
    trie, ends = tries.build(labels, lengths, DTYPE)
    other, other_ends = tries.build(np.where(after, 7, labels), lengths, DTYPE)
    assert other.tobytes() == trie.tobytes() and (other_ends == ends).all()


def test_other_fields_are_zero_and_the_last_record_ends_the_children() -> None:
    trie, _ = build([(5, 6), (5,), (4,)])
    assert trie.dtype == DTYPE and not trie["more"].any()
    assert trie["label"].tolist() == [NONE, 4, 5, 6, NONE]
    assert trie["first_child"].tolist() == [1, 3, 3, 4, 4]


def test_large_trie_agrees_with_a_dict() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 30, [20_000, 8]).astype(np.int32)
    lengths = rng.integers(0, 9, 20_000)
    trie, ends = tries.build(labels, lengths, DTYPE)
    rows = zip(labels.tolist(), lengths.tolist(), strict=True)
    sequences = [tuple(row[:length]) for row, length in rows]
    assert len(trie) - 1 == len(prefixes(sequences))
    for sequence, end in zip(sequences[:500], ends[:500].tolist(), strict=True):
        assert walk(trie, sequence) == end
