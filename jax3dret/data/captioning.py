"""Captions from a vision-language model that looks at the rendered views (extra `caption`:
transformers and torch).

The one file that imports transformers. Captioning a large data set takes a GPU days, so every
item's captions are on disk as soon as they are made, and an interrupted run goes on behind the last
of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jax3dret.core import files
from jax3dret.core.logging import progress
from jax3dret.core.types import ConfigError, DataError, Source
from jax3dret.data.captions import Captions, read_captions
from jax3dret.data.lock import exclusive
from jax3dret.data.rows import Rows

logger = logging.getLogger("jax3dret")

# The four questions of the retrieval paper (section 3.2.2), one caption each for every view.
PAPER_PROMPTS = (
    "What do you see in this image?",
    "This is a render of a 3D model. Ignore the background. Can you give a detailed description of "
    "the 3D model in the image?",
    "What do you see in the image? Can you give a detailed description of the 3D model in the "
    "image? Do not say anything about "
    "the colors in the image, nor about the background. Say things about the geometry of the "
    "object in the image.",
    "What do you see in the image? Give 1 sentence with the category of the object and 1 sentence "
    "about the shape and geometry "
    "of the object.",
)


@dataclasses.dataclass(frozen=True)
class VisionLanguageModel:
    """A `CaptionSource` that reads the captions a model has made, and `write`, which makes them.

    Made apart from training, because the model wants the memory that training takes:
    `python -m jax3dret.caption` with the flags of the run. They are kept in
    `<prepared folder>/captions/<split>-<digest>.jsonl`, the form that `captions.from_jsonl` reads.
    """

    model: str
    prompts: tuple[str, ...]
    max_new_tokens: int
    download: bool

    def __call__(self, source: Source, views: Rows | None) -> list[Captions]:
        """Raises as `require`; DataError for data without views, and a file that lacks items."""
        if views is None:
            raise DataError(
                f"{source!r}: a vision-language model needs rendered views, and there are none"
            )
        self.require(source, views)
        return read_captions(self.path(source, views), source)

    def path(self, source: Source, views: Rows | pathlib.Path) -> pathlib.Path:
        """Where the captions of these views, or of the store at a path, belong."""
        return captions_path(source, views, self.model, self.prompts, self.max_new_tokens)

    def require(self, source: Source, views: Rows | pathlib.Path) -> None:
        """Raises ConfigError where the captions have not been made."""
        path = self.path(source, views)
        if path.is_file():
            return
        partial = files.partial_of(path)
        done = len(_whole_lines(partial)) if partial.is_file() else 0
        raise ConfigError(
            f"config.captions: {len(source) - done} of the {len(source)} items of {source.name}, "
            f"split '{source.split}', have no captions by '{self.model}' yet; make them first, by "
            "`python -m jax3dret.caption` with the flags of this run, or give a file of captions"
        )

    def write(
        self, source: Source, path_of_views: pathlib.Path, open_views: Callable[[], Rows]
    ) -> pathlib.Path:
        """Makes what captions are missing, and returns their file.

        open_views: called once the model is there, to render what may take as long.

        Raises ConfigError where transformers is missing or the model is not at hand; DataError
        where the model says nothing at all of some views: they are counted, and the file in which
        to write something is named.
        """
        path = self.path(source, path_of_views)
        with exclusive(path.with_suffix(".lock"), f"captions of {source.name}"):
            if not path.is_file():
                captioner = _Captioner(self.model, self.prompts, self.max_new_tokens, self.download)
                _write(path, source, open_views(), captioner)
        return path


def vision_language_model(
    model: str = "llava-hf/llava-1.5-7b-hf",
    *,
    prompts: Sequence[str] = PAPER_PROMPTS,
    max_new_tokens: int = 160,
    download: bool = False,
) -> VisionLanguageModel:
    """Captions of every view from an image-text-to-text model of transformers, one for each prompt,
    without sampling.

    model: a folder with a model and its processor, or a name on the model hub; the hub is asked
    only with download=True.

    Raises ConfigError for prompts that are empty.
    """
    if not prompts or not all(isinstance(p, str) and p.strip() for p in prompts):
        raise ConfigError("captions.prompts: give at least one prompt, none of them empty")
    return VisionLanguageModel(model, tuple(prompts), max_new_tokens, download)


def captions_path(
    source: Source,
    views: Rows | pathlib.Path,
    model: str,
    prompts: Sequence[str],
    max_new_tokens: int,
) -> pathlib.Path:
    """Where captions of this data by this model belong. views: or the path of their store."""
    # A store's name stands for the cameras and for how they draw.
    shown: Any
    if isinstance(views, pathlib.Path):
        shown = views.name
    else:
        store = getattr(views, "path", None)
        shown = store.name if store is not None else list(views[0].shape)
    provenance = [
        source.name,
        source.version,
        source.split,
        model,
        list(prompts),
        max_new_tokens,
        shown,
    ]
    key = hashlib.sha256((json.dumps(provenance) + "\n".join(source.ids)).encode()).hexdigest()[:16]
    name = re.sub(r"\W+", "_", source.split).strip("_") or "split"
    return source.path / "captions" / f"{name}-{key}.jsonl"


def _write(path: pathlib.Path, source: Source, views: Rows, captioner: _Captioner) -> None:
    partial = files.partial_of(path)
    done, silent = _resume(partial, source), 0
    with (
        progress(len(source), f"caption {source.split}", done=done) as update,
        partial.open("a", encoding="utf-8") as out,
    ):
        for i in range(done, len(source)):
            answers = captioner(np.asarray(views[i]))
            said = [[answer for answer in view if answer] for view in answers]
            silent += sum(map(len, answers)) - sum(map(len, said))
            entry = {"id": source.ids[i], "captions": said}
            out.write(json.dumps(entry, ensure_ascii=False) + "\n")
            out.flush()
            update(i + 1)
    if silent:
        logger.warning("%s: %d answers of the model are empty and left out", partial, silent)
    entries = [json.loads(line) for line in _whole_lines(partial)]
    lacking = [entry["id"] for entry in entries if not all(entry["captions"])]
    if lacking:
        raise DataError(
            f"{partial}: of {len(lacking)} of the {len(source)} items the model says nothing for "
            f"some view (first: {lacking[0]}); write a caption into each empty list [] and run the "
            "same command again"
        )
    partial.replace(path)


def _whole_lines(partial: pathlib.Path) -> list[bytes]:
    """Lines without the last one where it was not finished."""
    lines = partial.read_bytes().splitlines(keepends=True)
    return [line for line in lines if line.endswith(b"\n")]


def _resume(partial: pathlib.Path, source: Source) -> int:
    """Cuts off a line that was not finished; returns how many items are done."""
    if not partial.is_file():
        return 0
    whole = _whole_lines(partial)
    try:
        ids = [json.loads(line)["id"] for line in whole]
    except (ValueError, KeyError, TypeError):
        ids = [None]
    if ids != list(source.ids[: len(ids)]):
        raise DataError(
            f"{partial}: its lines are not the captions of these items in their order; put that "
            "right, or remove it, and run again"
        )
    partial.write_bytes(b"".join(whole))
    if whole:
        logger.info("%s: going on behind the %d items that have captions", partial, len(whole))
    return len(whole)


class _Captioner:
    """uint8 [V, S, S, 3] -> for each view, one answer for each prompt; it may be empty."""

    def __init__(
        self, model: str, prompts: Sequence[str], max_new_tokens: int, download: bool
    ) -> None:
        try:
            import torch
            import transformers
        except ImportError as error:
            raise ConfigError(
                f"captions by a vision-language model need the package '{error.name}': pip install "
                "'jax3dret[caption]'"
            ) from error
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float16 if self._device == "cuda" else torch.float32
        try:
            self._processor: Any = transformers.AutoProcessor.from_pretrained(
                model, local_files_only=not download
            )
            loaded: Any = transformers.AutoModelForImageTextToText.from_pretrained(
                model, dtype=dtype, local_files_only=not download
            )
        except (OSError, ValueError) as error:
            first = (str(error).strip().splitlines() or [""])[0]
            hint = (
                ""
                if download
                else "; --config.captions.download=True fetches it from the model hub"
            )
            raise ConfigError(
                f"captions.model '{model}' cannot be opened: {first}{hint}"
            ) from error
        self._model = loaded.to(self._device).eval()
        self._texts = [self._chat(prompt) for prompt in prompts]
        self._max_new_tokens = max_new_tokens

    def __call__(self, pictures: np.ndarray) -> Captions:
        found = []
        for picture in pictures:
            images = [Image.fromarray(picture)] * len(self._texts)
            inputs = self._processor(
                images=images, text=self._texts, return_tensors="pt", padding=True
            )
            inputs = inputs.to(self._device)
            with self._torch.inference_mode():
                out = self._model.generate(
                    **inputs, max_new_tokens=self._max_new_tokens, do_sample=False
                )
            answers = self._processor.batch_decode(
                out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
            )
            found.append([" ".join(answer.split()) for answer in answers])
        return found

    def _chat(self, prompt: str) -> str:
        """The prompt as the model was trained to see it, the picture before the words."""
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
        if getattr(self._processor, "chat_template", None):
            return self._processor.apply_chat_template([turn], add_generation_prompt=True)
        return f"USER: <image>\n{prompt} ASSISTANT:"  # the form of Llava 1.5
