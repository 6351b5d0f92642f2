"""Captions by a vision-language model: a tiny one of the real class, with random weights and its
own files on disk.
"""

import json

import numpy as np
import pytest

from jax3dret.core.types import ConfigError, DataError
from jax3dret.data import captioning
from jax3dret.data.pipeline import open_source

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
SIZE = 16


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A Llava of two layers, whose words are those of the prompts."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("llava")
    words = sorted({word for prompt in captioning.PAPER_PROMPTS for word in prompt.split()})
    vocabulary = {
        word: i
        for i, word in enumerate(
            ["<pad>", "</s>", "<unk>", "<image>", "USER:", "ASSISTANT:", *words]
        )
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
        additional_special_tokens=["<image>"],
    )
    pictures = transformers.CLIPImageProcessor(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
    )
    processor = transformers.LlavaProcessor(
        pictures,
        fast,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(folder)
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**small, image_size=SIZE, patch_size=8),
        text_config=transformers.LlamaConfig(
            **small, vocab_size=len(vocabulary), pad_token_id=0, eos_token_id=1
        ),
        image_token_index=3,
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def source(parts_dir, tmp_path):
    source = open_source("parts", "val", parts_dir)
    source.path = tmp_path
    return source


@pytest.fixture
def views():
    return list(np.random.default_rng(0).integers(0, 256, (7, 2, SIZE, SIZE, 3), dtype=np.uint8))


def make(model):
    return captioning.vision_language_model(model, max_new_tokens=4)


def test_one_caption_for_each_view_and_prompt(model, source, views):
    found = make(model)(source, views)
    assert [[len(view) for view in item] for item in found] == [[4, 4]] * 7
    assert all(caption.strip() for item in found for view in item for caption in view)
    (path,) = source.path.glob("captions/val-*.jsonl")
    before = path.stat().st_mtime_ns
    assert make(model)(source, views) == found
    assert path.stat().st_mtime_ns == before


def test_goes_on_where_it_was_interrupted(model, source, views):
    whole = make(model)(source, views)
    (path,) = source.path.glob("captions/val-*.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.unlink()
    marked = json.dumps({"id": source.ids[0], "captions": [["kept"] * 4] * 2}) + "\n"
    path.with_name(path.name + ".partial").write_text(marked + lines[1] + lines[2][:20])
    assert make(model)(source, views) == [[["kept"] * 4] * 2, *whole[1:]]
    assert not list(source.path.glob("captions/*.partial"))


def test_captions_belong_to_the_views_that_they_describe(source, tmp_path):
    class Store(list):
        path = tmp_path / "val-objaverse4-16-0.array_record"

    pictures = [np.zeros((4, SIZE, SIZE, 3), np.uint8)]
    stores = Store(pictures), Store(pictures), Store(pictures)
    stores[1].path = tmp_path / "val-ring4-16-1.array_record"
    first, other, same = (
        captioning.captions_path(source, store, "m", ["What?"], 4) for store in stores
    )
    assert first == same != other


def test_refuses(model, source, views, tmp_path):
    with pytest.raises(DataError, match="needs rendered views"):
        make(model)(source, None)
    with pytest.raises(ConfigError, match=r"cannot be opened.*download=True"):
        make(str(tmp_path / "none"))(source, views)
    with pytest.raises(ConfigError, match="at least one prompt"):
        captioning.vision_language_model(model, prompts=())
