"""WordPiece by a small tokenizer.json: numbers, lengths, what is cut, what is refused."""

import json

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.wordpiece import WordPiece, bucket, padded

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "chair", "arm", "##chair", "a", "hex", "nut"]


def tokenizer_json(**changes):
    """A file like a BERT's, whose own settings cut and pad."""
    cls, sep = ({"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]"))
    special = {
        name: {"id": name, "ids": [VOCABULARY.index(name)], "tokens": [name]}
        for name in ("[CLS]", "[SEP]")
    }
    return {
        "version": "1.0",
        "truncation": {
            "max_length": 4,
            "strategy": "LongestFirst",
            "stride": 0,
            "direction": "Right",
        },
        "padding": {
            "strategy": {"Fixed": 12},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep],
            "pair": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep],
            "special_tokens": special,
        },
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: i for i, word in enumerate(VOCABULARY)},
        },
        **changes,
    }


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json()))
    return path


def test_numbers_and_masks(file):
    pytest.importorskip("tokenizers")
    tokens = WordPiece(file)(["A hex nut", "armchair", "", "Chäir bolt"])
    assert tokens.ids[:, :5].tolist() == [
        [2, 7, 8, 9, 3],
        [2, 5, 6, 3, 0],
        [2, 3, 0, 0, 0],
        [2, 4, 1, 3, 0],
    ]
    # The file's own 12 and 4 are not used.
    assert tokens.ids.shape == (4, 8) and tokens.mask.sum(1).tolist() == [5, 4, 2, 4]
    assert not tokens.truncated.any()


def test_a_long_text_keeps_its_end_token(file):
    pytest.importorskip("tokenizers")
    short = WordPiece(file, max_tokens=6)
    tokens = short(["chair " * 5, "chair " * 4])
    assert tokens.ids[:, :6].tolist() == [[2, 4, 4, 4, 4, 3]] * 2
    assert tokens.truncated.tolist() == [True, False]
    assert len(short.encode("chair " * 5)) == 7 and short([]).ids.shape == (0, 8)
    with pytest.raises(ConfigError, match="expected a list of strings"):
        short("chair")
    with pytest.raises(ConfigError, match="at least 2"):
        WordPiece(file, max_tokens=1)


def test_lengths():
    assert [bucket(n) for n in (0, 2, 8, 9, 16, 17, 256)] == [8, 8, 8, 16, 16, 32, 256]
    ids, mask = padded([[5, 6], [7]], 3)
    assert ids.tolist() == [[5, 6, 0], [7, 0, 0]] and mask.sum() == 3 and ids.dtype == np.int32


def test_refused(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    with pytest.raises(DataError, match=r"no such file; expected the tokenizer\.json"):
        WordPiece(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"model": 1}')
    with pytest.raises(DataError, match=r"bad\.json: is no tokenizer\.json"):
        WordPiece(tmp_path / "bad.json")
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r'pip install "jax3dret\[text\]"'):
        WordPiece(tmp_path / "bad.json")
