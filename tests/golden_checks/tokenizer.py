"""CLIP's tokenizer against the published code, with the published vocabulary and with a small one
of its own.
"""

import itertools

import numpy as np

from golden_checks.case import Case
from jax3dret.data.text import PUBLISHED_MERGES, Tokenizer, load_tokenizer

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"


def tokenizer_beside(case: Case, name: str, merges: int | None) -> Tokenizer:
    path = case.path.parent / name
    assert path.is_file(), (
        f"{case.path.name} needs the list of merges {name} in the same folder ({path.parent})"
    )
    tokenizer = load_tokenizer(path, merges=merges)
    assert (tokenizer.start, tokenizer.end) == (case.info["sot"], case.info["eot"])
    return tokenizer


def check_bpe(case: Case, tokenizer: Tokenizer) -> None:
    """Numbers, lengths and decoded text exactly; long texts keep the end token."""
    out = case.group("out")
    strings = case.info["config"]["strings"]
    assert tokenizer.vocab_size == case.info["vocab_size"]
    flat = out["encode_flat"].tolist()
    expected = [
        flat[start:stop] for start, stop in itertools.pairwise(out["encode_offsets"].tolist())
    ]
    assert len(expected) == len(strings)
    for text, numbers, decoded in zip(
        strings, expected, case.info["config"]["decoded"], strict=True
    ):
        assert tokenizer.encode(text) == numbers, text
        assert tokenizer.decode(numbers) == decoded, text
    tokens = tokenizer(strings)
    np.testing.assert_array_equal(tokens.ids, out["ids77_truncated"])
    np.testing.assert_array_equal(tokens.truncated, out["length_with_specials"] > 77)


def check_mini(case: Case) -> None:
    check_bpe(case, tokenizer_beside(case, case.info["merges"].split()[0], None))


def check_full(case: Case) -> None:
    check_bpe(case, tokenizer_beside(case, VOCABULARY, PUBLISHED_MERGES))


def check_slip(case: Case) -> None:
    """Long texts lose the end token."""
    tokenizer = tokenizer_beside(case, VOCABULARY, PUBLISHED_MERGES)
    expected = case.tensors["out/token_ids"]
    tokens = tokenizer(
        case.info["prompts"], context_length=case.info["context_length"], truncate="drop_end"
    )
    np.testing.assert_array_equal(tokens.ids, expected)
    np.testing.assert_array_equal(tokens.truncated, ~(expected == tokenizer.end).any(1))


CHECKS = {"clip_bpe_mini": check_mini, "clip_bpe_full": check_full, "slip_tokenizer": check_slip}
