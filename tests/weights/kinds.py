"""Names and shapes of the published checkpoints, written down apart from the tables that import
them; smaller where asked.
"""

import numpy as np


def norm(name, width, running=False):
    shapes = {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    if running:
        shapes |= {
            f"{name}.running_mean": (width,),
            f"{name}.running_var": (width,),
            f"{name}.num_batches_tracked": (),
        }
    return shapes


def linear(name, *shape, bias=True):
    return {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})


def point_bert(prefix="", channels=3, width=384, depth=12, dims=256, groups=(128, 256, 512)):
    a, b, c = groups
    shapes = {
        "cls_token": (1, 1, width),
        "cls_pos": (1, 1, width),
        **linear("encoder.first_conv.0", a, channels, 1),
        **norm("encoder.first_conv.1", a, True),
        **linear("encoder.first_conv.3", b, a, 1),
        **linear("encoder.second_conv.0", c, 2 * b, 1),
        **norm("encoder.second_conv.1", c, True),
        **linear("encoder.second_conv.3", dims, c, 1),
        **linear("reduce_dim", width, dims),
        **linear("pos_embed.0", 128, 3),
        **linear("pos_embed.2", width, 128),
    }
    for i in range(depth):
        block = f"blocks.blocks.{i}"
        shapes |= {
            **norm(f"{block}.norm1", width),
            **norm(f"{block}.norm2", width),
            **linear(f"{block}.attn.qkv", 3 * width, width, bias=False),
            **linear(f"{block}.attn.proj", width, width),
            **linear(f"{block}.mlp.fc1", 4 * width, width),
            **linear(f"{block}.mlp.fc2", width, 4 * width),
        }
    shapes |= norm("norm", width)
    return {prefix + name: shape for name, shape in shapes.items()}


SMALL = {"width": 64, "depth": 2, "dims": 16, "groups": (8, 8, 16)}


def ulip(latent=512, **size):
    width = size.get("width", 384)
    return {
        **point_bert("point_encoder.", **size),
        "pc_projection": (2 * width, latent),
        "logit_scale": (),
    }


def classified(classes=15, hidden=768, **size):
    width = 2 * size.get("width", 384)
    head = {**linear("head.linear0", hidden, width), **norm("head.norm0", hidden, True)}
    return {
        **point_bert("backbone.model.", **size),
        **head,
        **linear("head.linear1", classes, hidden),
    }


def masked(**size):
    width = size.get("width", 384)
    own = {
        "mask_token": (1, 1, width),
        **linear("lm_head", 32, width),
        **linear("cls_head.0", 8, width),
    }
    shapes = {
        **point_bert("transformer_q.", **size),
        **{f"transformer_q.{name}": shape for name, shape in own.items()},
    }
    return {
        **shapes,
        **point_bert("transformer_k.", **size),
        **linear("dvae.encoder.first_conv.0", 8, 3, 1),
    }


def point_net2(prefix="", scale=1):
    shapes, width = {}, 0
    for level, widths in enumerate(((64, 64, 128), (128, 128, 256), (256, 512, 1024)), start=1):
        width += 3
        for i, out in enumerate(widths):
            shapes |= linear(f"sa{level}.mlp_convs.{i}", out // scale, width, 1, 1)
            shapes |= norm(f"sa{level}.mlp_bns.{i}", out // scale, True)
            width = out // scale
    for i, out in enumerate((512, 256), start=1):
        shapes |= {**linear(f"fc{i}", out // scale, width), **norm(f"bn{i}", out // scale, True)}
        width = out // scale
    return {prefix + name: shape for name, shape in shapes.items()}


def point_next(width=32, classes=40):
    """The classification network with its head, as PointNeXt-S's configuration builds it."""
    shapes, reads = linear("encoder.encoder.0.0.convs.0.0", width, 3, 1), width
    for i in range(1, 6):
        out, name = width << min(i, 4), f"encoder.encoder.{i}.0"
        middle = out if i == 5 else out // 2
        shapes |= {
            **linear(f"{name}.convs.0.0", middle, reads + 3, 1, 1, bias=False),
            **norm(f"{name}.convs.0.1", middle, True),
            **linear(f"{name}.convs.1.0", out, middle, 1, 1, bias=False),
            **norm(f"{name}.convs.1.1", out, True),
        }
        if i < 5:
            shapes |= linear(f"{name}.skipconv.0", out, reads, 1)
        reads = out
    for i, out in enumerate((512, 256)):
        shapes |= linear(f"prediction.head.{2 * i}.0", out, reads, bias=False)
        shapes |= norm(f"prediction.head.{2 * i}.1", out, True)
        reads = out
    return {**shapes, **linear("prediction.head.4.0", classes, reads)}


def text_tower(text_width=512, text_depth=12, context=77, vocabulary=49408, latent=512):
    width, depth = text_width, text_depth
    shapes = {
        "positional_embedding": (context, width),
        "text_projection": (width, latent),
        "logit_scale": (),
    }
    for i in range(depth):
        shapes |= residual(f"transformer.resblocks.{i}", width)
    return {**shapes, "token_embedding.weight": (vocabulary, width), **norm("ln_final", width)}


def residual(name, width):
    return {
        f"{name}.attn.in_proj_weight": (3 * width, width),
        f"{name}.attn.in_proj_bias": (3 * width,),
        **linear(f"{name}.attn.out_proj", width, width),
        **norm(f"{name}.ln_1", width),
        **linear(f"{name}.mlp.c_fc", 4 * width, width),
        **linear(f"{name}.mlp.c_proj", width, 4 * width),
        **norm(f"{name}.ln_2", width),
    }


def clip(width=768, depth=12, patch=16, grid=14, latent=512, **text):
    shapes = {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (grid * grid + 1, width),
        "visual.proj": (width, latent),
        "visual.conv1.weight": (width, 3, patch, patch),
        **norm("visual.ln_pre", width),
        **norm("visual.ln_post", width),
    }
    for i in range(depth):
        shapes |= residual(f"visual.transformer.resblocks.{i}", width)
    return {**shapes, **text_tower(latent=latent, **text)}


SMALL_PICTURE = {"width": 64, "depth": 1, "patch": 4, "grid": 2, "latent": 8}
SMALL_TEXT = {"text_width": 64, "text_depth": 1, "context": 7, "vocabulary": 20}


def slip(width=768, depth=12, patch=16, grid=14, latent=512, **text):
    shapes = {
        "visual.cls_token": (1, 1, width),
        "visual.pos_embed": (1, grid * grid + 1, width),
        "image_projection": (width, latent),
        **linear("visual.patch_embed.proj", width, 3, patch, patch),
        **norm("visual.norm", width),
    }
    for i in range(depth):
        block = f"visual.blocks.{i}"
        shapes |= {
            **norm(f"{block}.norm1", width),
            **norm(f"{block}.norm2", width),
            **linear(f"{block}.attn.qkv", 3 * width, width),
            **linear(f"{block}.attn.proj", width, width),
            **linear(f"{block}.mlp.fc1", 4 * width, width),
            **linear(f"{block}.mlp.fc2", width, 4 * width),
        }
    return {**shapes, **text_tower(latent=latent, **text)}


def res_net18(width=64, classes=1000):
    shapes = {**linear("conv1", width, 3, 7, 7, bias=False), **norm("bn1", width, True)}
    channels = width
    for stage in range(4):
        out = width << stage
        for i in range(2):
            name = f"layer{stage + 1}.{i}"
            shapes |= {
                **linear(f"{name}.conv1", out, channels, 3, 3, bias=False),
                **norm(f"{name}.bn1", out, True),
            }
            shapes |= {
                **linear(f"{name}.conv2", out, out, 3, 3, bias=False),
                **norm(f"{name}.bn2", out, True),
            }
            if channels != out:
                shapes |= linear(f"{name}.downsample.0", out, channels, 1, 1, bias=False)
                shapes |= norm(f"{name}.downsample.1", out, True)
            channels = out
    return {**shapes, **linear("fc", classes, channels)}


def view_gcn(width=512, classes=40, cnn=64, sampled=(10, 5)):
    """The graph network, the CNN in front of it as a sequence, and the first stage's classifier,
    which stays in the file.
    """
    shapes = {}
    for level in (1, 2, 3):
        name, reads = f"LocalGCN{level}", 8 * cnn if level == 1 else width
        for i, out in enumerate((10, 10, 1)):
            shapes |= linear(f"{name}.KNN.R.{2 * i}", out, 10)
        shapes |= {**linear(f"{name}.conv.0", width, reads), **norm(f"{name}.conv.1", width, True)}
    for level, kept in enumerate(sampled, start=1):
        name, hidden = f"NonLocalMP{level}", width // 2 * kept
        for i in range(3):
            shapes |= linear(f"{name}.Relation.{2 * i}", width, width if i else 2 * width)
        shapes |= {
            **linear(f"{name}.Fusion.0", width, 2 * width),
            **norm(f"{name}.Fusion.1", width, True),
        }
        shapes |= linear(f"View_selector{level}.cls.0", hidden, width * kept)
        shapes |= linear(f"View_selector{level}.cls.2", classes * kept, hidden)
    shapes |= {
        **linear("cls.0", width, 3 * width),
        **linear("cls.2", width, width),
        **linear("cls.5", classes, width),
    }
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    for name, shape in res_net18(cnn).items():
        layer, _, rest = name.partition(".")
        shapes |= {f"net_1.{places[layer]}.{rest}": shape} if layer in places else {}
    return {**shapes, **linear("net_2", classes, 8 * cnn)}


def mvtn_cameras(views=12, features=40, widths=(64, 128, 1024), fc=(512, 256), direct=False):
    """The entry "mvtn" of a checkpoint with learned cameras."""
    at, shapes = "view_selector.chosen_view_selector.", {}
    shapes |= dict.fromkeys((f"{at}views_azim", f"{at}views_elev", f"{at}views_dist"), (views,))
    width = features + (0 if direct else 2 * views)
    for i, out in enumerate((features, features, 5 * views, 2 * views)):
        shapes |= {
            **linear(f"{at}view_transformer.0.{4 * i}", out, width),
            **norm(f"{at}view_transformer.0.{4 * i + 1}", out, True),
        }
        width = out
    shapes |= linear(f"{at}view_transformer.1.0", width, width)
    at = "feature_extractor.fe_model."
    shapes |= {**linear(f"{at}conv1.0", widths[0], 3, 1), **norm(f"{at}conv1.1", widths[0], True)}
    for i in (0, 1):
        shapes |= {
            **linear(f"{at}conv2s.{3 * i}", widths[i + 1], widths[i], 1),
            **norm(f"{at}conv2s.{3 * i + 1}", widths[i + 1], True),
        }
    for i, (width, out) in enumerate(zip((widths[-1], *fc), (*fc, features), strict=True)):
        shapes |= {
            **linear(f"{at}classifier.{4 * i}", out, width),
            **norm(f"{at}classifier.{4 * i + 1}", out, True),
        }
    for name, k in (("input_transform", 3), ("feature_transform", widths[0])):
        for part, sizes in (("convs", (k, *widths)), ("fcs", (widths[-1], *fc, k * k))):
            for i in range(3):
                shapes |= linear(f"{at}{name}.{part}.{i}.0", sizes[i + 1], sizes[i], 1)
                shapes |= norm(f"{at}{name}.{part}.{i}.1", sizes[i + 1], True) if i < 2 else {}
    return shapes


def mvtn_reader(width=64, classes=40):
    """The entry "state_dict" beside it: a CNN, its features pooled over the views, LayerNorm and a
    classifier.
    """
    cnn = {
        f"aggregation_model.model.{name}": shape
        for name, shape in res_net18(width).items()
        if "fc." not in name
    }
    return {**cnn, **norm("fc.0", 8 * width), **linear("fc.1", classes, 8 * width)}


def vgg16(scale=1):
    shapes, channels = {}, 3
    for number, out in zip(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        (64, 64, 128, 128, *[256] * 3, *[512] * 6),
        strict=True,
    ):
        shapes |= linear(f"features.{number}", out // scale, channels, 3, 3)
        channels = out // scale
    hidden = 4096 // scale
    return {
        **shapes,
        **linear("classifier.0", hidden, channels * 49),
        **linear("classifier.3", hidden, hidden),
        **linear("classifier.6", 1000 // scale, hidden),
    }


def tensors(shapes, seed=0, dtype=np.float32):
    """Random values; counters are whole, variances positive."""
    rng = np.random.default_rng(seed)

    def draw(name, shape):
        if name.endswith("num_batches_tracked"):
            return np.array(3)
        values = (
            rng.uniform(0.02, 0.2, shape)
            if name.endswith("running_var")
            else rng.normal(0, 0.1, shape)
        )
        return np.asarray(values, np.float32 if len(shape) < 2 else dtype)

    return {name: draw(name, shape) for name, shape in shapes.items()}


def shapes_alone(shapes):
    """Arrays of these shapes that take no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
