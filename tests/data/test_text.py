"""The tokenizer: its splitting of words, its merges, its truncation, and files that are not lists
of merges.
"""

import gzip
import sys
import unicodedata

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.data.text import (
    Tokenizer,
    byte_characters,
    clean,
    load_tokenizer,
    read_merges,
    split_words,
)

MERGES = [("t", "h"), ("th", "e</w>"), ("a", "a"), ("e", "r"), ("aa", "a</w>"), ("c", "a")]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(MERGES)


def test_vocabulary(tokenizer):
    assert (tokenizer.vocab_size, tokenizer.start, tokenizer.end) == (512 + 6 + 2, 518, 519)
    assert tokenizer.encode("!") == [256]  # byte 33 is the first of the order; a word ends with it
    assert tokenizer.encode("!a")[0] == 256 and tokenizer.encode("ab")[0] == ord("a") - 33
    assert tokenizer.encode("the") == [513]
    assert len(set(byte_characters().values())) == 256 and all(
        c.isprintable() for c in byte_characters().values()
    )


def test_merges_take_the_best_rank_first_and_all_its_places(tokenizer):
    def symbols(text):
        return [
            tokenizer.decode([n]).strip() + ("$" if tokenizer.decode([n]).endswith(" ") else "")
            for n in tokenizer.encode(text)
        ]

    assert symbols("there") == [
        "th",
        "er",
        "e$",
    ]  # "the" is at the start but not at the end of the word
    assert symbols("aaaaaa") == ["aa", "aa", "a", "a$"]  # a</w> is another symbol than a
    # "er" is better than "ca", though "ca" stands further left; neither takes the other's letters.
    assert symbols("caer") == ["ca", "e", "r$"]
    assert symbols("cerx") == ["c", "er", "x$"]


def test_split_words():
    assert split_words("it's they'll've i'd 'tis") == [
        "it",
        "'s",
        "they",
        "'ll",
        "'ve",
        "i",
        "'d",
        "'t",
        "is",
    ]
    assert split_words("3d-model_x12 ½ ⅻ…!?") == [
        "3",
        "d",
        "-",
        "model",
        "_",
        "x",
        "1",
        "2",
        "½",
        "ⅻ",
        "…!?",
    ]
    assert split_words("日本語 café!'s") == ["日本語", "café", "!'", "s"]
    assert split_words("<|startoftext|>a<|endoftext|>") == ["<|startoftext|>", "a", "<|endoftext|>"]


def test_every_character_is_of_one_kind():
    """Letters join letters, digits stand alone, other characters join others: by Unicode's
    categories, for all of them.
    """
    for code in range(0, sys.maxunicode + 1, 7):
        c = chr(code)
        kind = unicodedata.category(c)[0]
        if c.isspace() or c == "'":
            continue
        assert split_words(f"a{c}a") == ([f"a{c}a"] if kind == "L" else ["a", c, "a"]), hex(code)
        assert split_words(f"-{c}-") == ([f"-{c}-"] if kind not in "LN" else ["-", c, "-"]), hex(
            code
        )


def test_clean():
    assert clean("  A \t b\n\nC ") == "a b c"
    pytest.importorskip("ftfy")
    assert clean("&amp;lt;b&amp;gt; sÃ©ance ﬁne “x”") == '<b> séance fine "x"'
    assert clean("İ") == "i̇"
    assert clean("a\x00\x1b[1mb\x7f") == "ab"


def test_ascii_does_not_need_ftfy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    assert clean("plain <text>, 100% of it ~") == "plain <text>, 100% of it ~"
    for text in ("naïve", "&amp;", "a\x07"):
        with pytest.raises(ConfigError, match="ftfy"):
            clean(text)


def test_ascii_comes_out_of_ftfy_unchanged():
    ftfy = pytest.importorskip("ftfy")
    printable = "".join(map(chr, range(32, 127))).replace("&", "")
    assert ftfy.fix_text(printable) == printable


def test_rows(tokenizer):
    tokens = tokenizer(["the the", "", "x " * 9], context_length=8)
    assert tokens.ids.dtype == np.int32
    np.testing.assert_array_equal(tokens.ids[0], [518, 513, 513, 519, 0, 0, 0, 0])
    np.testing.assert_array_equal(tokens.ids[1], [518, 519, 0, 0, 0, 0, 0, 0])
    x = tokenizer.encode("x")[0]
    np.testing.assert_array_equal(tokens.ids[2], [518, *[x] * 6, 519])
    assert tokens.truncated.tolist() == [False, False, True]
    cut = tokenizer(["x " * 9], context_length=8, truncate="drop_end")
    np.testing.assert_array_equal(cut.ids[0], [518, *[x] * 7])
    assert cut.truncated.all()
    # The longest that fits.
    for truncate in ("keep_end", "drop_end", "error"):
        fits = tokenizer(["x " * 6], context_length=8, truncate=truncate)
        assert fits.ids[0, -1] == 519 and not fits.truncated.any()
    with pytest.raises(DataError, match="text 1 has 9 tokens, not at most 8"):
        tokenizer(["x", "x " * 7], context_length=8, truncate="error")


def test_special_tokens_in_a_text(tokenizer):
    assert tokenizer.encode("<|STARTOFTEXT|>the<|endoftext|>") == [518, 513, 519]


def test_decode(tokenizer):
    pytest.importorskip("ftfy")
    for text in ("the café — 日本語 🚀", "x", ""):
        assert tokenizer.decode(tokenizer.encode(text)).split() == split_words(text)
    with pytest.raises(DataError, match="token 520 is not in a vocabulary of 520"):
        tokenizer.decode([0, 520])


def test_lone_surrogate_is_no_crash(tokenizer):
    pytest.importorskip("ftfy")
    assert tokenizer.encode("a\ud800b")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"truncate": "cut"}, "'cut'; expected one of keep_end, drop_end, error"),
        ({"context_length": 1}, "at least 2"),
    ],
)
def test_refuses_settings(tokenizer, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        tokenizer(["x"], **kwargs)
    with pytest.raises(ConfigError, match="list of strings"):
        tokenizer("x")


def test_reads_plain_and_gzipped(tmp_path, tokenizer):
    text = "#version\n" + "\n".join(" ".join(pair) for pair in MERGES) + "\n"
    (tmp_path / "m.txt").write_text(text, encoding="utf-8", newline="\r\n")
    (tmp_path / "m.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("m.txt", "m.gz"):
        assert read_merges(tmp_path / name, limit=None) == MERGES
        assert read_merges(tmp_path / name, limit=2) == MERGES[:2]
        assert load_tokenizer(tmp_path / name, merges=None).vocab_size == tokenizer.vocab_size


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "0 merges after the header; expected 48894"),
        (b"#v\nt h\n", "1 merges after the header; expected 48894"),
        (b"<!DOCTYPE html>\n<html></html>", "web page"),
        (b"\n <html>\n", "web page"),
        (gzip.compress(b"<html>x</html>", mtime=0), "web page"),
        (gzip.compress(b"#v\n" + b"t h\n" * 99, mtime=0)[:-9], "gzip"),
        (b"\x1f\x8b\x08\x00garbage", "gzip"),
        (b"PK\x03\x04\xff\xfe", "UTF-8"),
        (b"#v\nt h\nabc\n", "line 3 is 'abc'; expected two symbols"),
        (b"#v\n\nt h\n", "line 2 is ''"),
    ],
)
def test_refuses_files_that_are_no_list(tmp_path, content, message):
    path = tmp_path / "merges.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_merges(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ([("t", "h"), ("xy", "z")], "merge 2, 'xy z', is of symbols"),
        ([("t", "h"), ("t", "h")], "merge 2.*again"),
    ],
)
def test_refuses_merges_that_do_not_follow(merges, message):
    with pytest.raises(DataError, match=message):
        Tokenizer(merges)
