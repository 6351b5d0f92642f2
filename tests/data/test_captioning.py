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


def written(model, source, views):
    """The captions, made as the command makes them and read as a run reads them."""
    made = make(model)
    store = Stored(views, source.path / "val-ring2-16-0.array_record")
    made.write(source, store.path, lambda: store)
    return made(source, store)


class Stored(list):
    def __init__(self, pictures, path):
        super().__init__(pictures)
        self.path = path


def test_one_caption_for_each_view_and_prompt(model, source, views):
    found = written(model, source, views)
    assert [[len(view) for view in item] for item in found] == [[4, 4]] * 7
    assert all(caption.strip() for item in found for view in item for caption in view)
    (path,) = source.path.glob("captions/val-*.jsonl")
    before = path.stat().st_mtime_ns
    assert written(model, source, views) == found
    assert path.stat().st_mtime_ns == before


def test_goes_on_where_it_was_interrupted(model, source, views):
    whole = written(model, source, views)
    (path,) = source.path.glob("captions/val-*.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.unlink()
    marked = json.dumps({"id": source.ids[0], "captions": [["kept"] * 4] * 2}) + "\n"
    path.with_name(path.name + ".partial").write_text(marked + lines[1] + lines[2][:20])
    with pytest.raises(
        ConfigError, match="5 of the 7 items of parts, split 'val', have no captions"
    ):
        make(model).require(source, source.path / "val-ring2-16-0.array_record")
    assert written(model, source, views) == [[["kept"] * 4] * 2, *whole[1:]]
    assert not list(source.path.glob("captions/*.partial"))


def test_a_run_reads_captions_and_loads_no_model(source, views, monkeypatch):
    monkeypatch.setattr(captioning, "_Captioner", None)
    with pytest.raises(
        ConfigError, match=r"7 of the 7 items .* `python -m jax3dret\.caption` with"
    ):
        make("m")(source, views)
    path = make("m").path(source, views)
    path.parent.mkdir()
    lines = [json.dumps({"id": name, "captions": [["a"]]}) + "\n" for name in source.ids]
    path.write_text("".join(lines[2:]))
    with pytest.raises(DataError, match="2 of the 7 items of parts, split 'val', have no caption"):
        make("m")(source, views)
    path.write_text("".join(lines))
    assert make("m")(source, views) == [[["a"]]] * 7


def test_views_of_which_nothing_is_said_are_counted_and_can_be_written(
    source, views, monkeypatch, caplog
):
    monkeypatch.setattr(
        captioning,
        "_Captioner",
        lambda *settings: (
            lambda pictures: [["a", ""], ["", ""] if pictures[0, 0, 0, 0] % 2 else ["b", "c"]]
        ),
    )
    views = [np.full_like(view, i) for i, view in enumerate(views)]
    with pytest.raises(DataError, match="of 3 of the 7 items the model says nothing for some") as e:
        written("m", source, views)
    assert "(first: part/0024); write a caption into each empty list" in str(e.value)
    assert "13 answers of the model are empty and left out" in caplog.text
    (partial,) = source.path.glob("captions/*.partial")
    partial.write_text(partial.read_text().replace("[]", '["by hand"]'))
    found = written("m", source, views)
    assert found[:2] == [[["a"], ["b", "c"]], [["a"], ["by hand"]]]
    assert not list(source.path.glob("captions/*.partial"))
    path = next(source.path.glob("captions/*.jsonl"))
    path.rename(partial)
    partial.write_text("{}\n")
    with pytest.raises(DataError, match="not the captions of these items in their order"):
        written("m", source, views)


def test_captions_belong_to_the_views_that_they_describe(source, tmp_path):
    pictures = [np.zeros((4, SIZE, SIZE, 3), np.uint8)]
    places = "objaverse4-16-0", "ring4-16-1", "objaverse4-16-0"
    stores = [Stored(pictures, tmp_path / f"val-{place}.array_record") for place in places]
    first, other, same = (
        captioning.captions_path(source, store, "m", ["What?"], 4) for store in stores
    )
    assert first == same != other


def test_refuses(model, source, views, tmp_path):
    with pytest.raises(DataError, match="needs rendered views"):
        make(model)(source, None)
    with pytest.raises(ConfigError, match=r"cannot be opened.*download=True"):
        written(str(tmp_path / "none"), source, views)
    with pytest.raises(ConfigError, match="at least one prompt"):
        captioning.vision_language_model(model, prompts=())
