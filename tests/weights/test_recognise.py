"""What a set of tensors is, by names and shapes alone; full-size shapes cost nothing here."""

import numpy as np
import pytest
from weights import kinds

from jax3dret.models.efficientnet_lite import scaled
from jax3dret.weights import efficientnet_lite, mobilenet, viewgcn
from jax3dret.weights.recognise import recognise


def of(shapes, name=""):
    return recognise(kinds.shapes_alone(shapes), name)


def entries(table):
    return {entry.name: entry.shape for entry in table}


def test_the_key_lists_are_the_published_ones():
    def count(shapes, without=()):
        shapes = {name: shape for name, shape in shapes.items() if not name.endswith(without)}
        return len(shapes), sum(int(np.prod(shape)) for shape in shapes.values())

    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert count(kinds.point_bert(), statistics)[1] == 21_858_816
    assert count(kinds.classified(40))[0] == 169
    assert count(kinds.clip()) == (302, 149_620_737)
    assert count(kinds.slip()) == (301, 149_619_969)
    assert count(kinds.res_net18()) == (122, 11_699_132)
    assert (
        count(kinds.point_net2())[0] == 77 and count(kinds.point_net2(), statistics)[1] == 1_465_408
    )
    assert count(kinds.point_next(), statistics)[1] == 1_373_512  # published as 1.374 M


def test_ulip_and_ulip2_xyz_are_one_kind_and_it_says_so():
    for name, said in [
        ("pointbert_ULIP-2.pt", "the file name says ULIP-2"),
        ("ULIP2_8k.pt", "says ULIP-2"),
        ("ULIP-PointBERT.pt", "says ULIP"),
        ("last.pt", "the file name does not say which"),
    ]:
        found = of(kinds.ulip(), name)
        assert found.kind == "ulip_xyz" and not found.problem
        assert "have the same tensors" in found.notes[0] and found.notes[0].endswith(said)
    encoder, projection = found.parts
    assert encoder.fields == {
        "in_channels": 3,
        "trans_dim": 384,
        "depth": 12,
        "encoder_dims": 256,
        "group_widths": (128, 256, 512),
        "num_heads": 6,
        "num_group": 512,
        "group_size": 32,
        "fps_start_eval": "pointnet2_ops",
    }
    assert projection.fields == {"features": 512} and (found.embedding_dim, found.latent_dim) == (
        768,
        512,
    )
    assert found.unused == ("logit_scale",) and found.parameters == 21_858_816 + 768 * 512
    assert found.preprocessing == {
        "num_points": 8192,
        "channels": "x y z",
        "normalization": "centroid at the origin, farthest point at distance 1",
        "up_axis": "y",
        "fps_start": "pointnet2_ops",
    }
    assert found.rules.keys() == {"num_heads", "num_group, group_size, num_points"}


def test_ulip_with_its_towers_is_still_ulip():
    found = of({**kinds.ulip(), **kinds.slip()})
    assert (
        found.kind == "ulip_xyz" and len(found.unused) == 301 and "visual.cls_token" in found.unused
    )


def test_the_rgb_generation():
    found = of(kinds.ulip(1280, channels=6, depth=18), "ULIP-2-PointBERT-10k-colored.pt")
    assert found.kind == "ulip2_rgb" and not found.problem
    assert found.title == "ULIP-2, the rgb generation (6 channels, 18 blocks of width 384)"
    assert found.parts[0].fields["in_channels"] == 6 and found.parts[0].fields["depth"] == 18
    assert found.latent_dim == 1280 and found.preprocessing["num_points"] == 10_000
    assert (
        found.preprocessing["channels"] == "x y z r g b" and "0.4" in found.preprocessing["colour"]
    )


def test_the_papers_checkpoint_and_point_berts():
    found = of(kinds.classified(55))
    assert (
        found.kind == "3dor"
        and found.classes == 55
        and [part.name for part in found.parts] == ["encoder", "head"]
    )
    assert found.parts[1].fields == {"hidden": (768,), "num_classes": 55} and not found.unused
    assert found.preprocessing["fps_start"] == "zero"
    found = of(kinds.masked())
    assert (
        found.kind == "pointbert"
        and found.parts[0].prefix == "transformer_q."
        and found.preprocessing["num_points"] == 1024
    )
    assert found.parts[0].fields["num_group"] == 64
    assert {
        "transformer_q.mask_token",
        "transformer_q.lm_head.weight",
        "transformer_k.cls_pos",
    } <= set(found.unused)
    assert (
        of(kinds.point_bert()).kind == "pointbert"
        and of(kinds.point_bert("a.b.")).parts[0].prefix == "a.b."
    )


@pytest.mark.parametrize(
    ("shapes", "kind", "title", "embedding_dim"),
    [
        (kinds.clip(), "clip", "CLIP ViT-B/16, image and text towers", 512),
        (kinds.slip(), "slip", "SLIP ViT-B/16, image and text towers", 512),
        (
            {**kinds.slip(), "image_mlp.layer1.weight": (4096, 768)},
            "slip",
            "SLIP ViT-B/16, image and text towers",
            512,
        ),
        (kinds.res_net18(), "resnet18", "ResNet-18 of basic blocks, 64 channels first", 512),
        (
            {f"net.{k}": v for k, v in kinds.res_net18(8, 10).items()},
            "resnet18",
            "ResNet-18 of basic blocks, 8 channels first",
            64,
        ),
        (kinds.vgg16(), "vgg16", "VGG-16 without batch normalisation", 512),
        (kinds.point_net2(), "pointnet2", "PointNet++ (single-scale grouping)", 256),
        (
            kinds.point_next(),
            "pointnext",
            "PointNeXt-S, a classifier of point clouds (stem of width 32)",
            512,
        ),
        (
            {f"module.{k}": v for k, v in kinds.point_next(64, 15).items()},
            "pointnext",
            "PointNeXt-S, a classifier of point clouds (stem of width 64)",
            1024,
        ),
        (
            {**kinds.point_net2("point_encoder."), "pc_projection": (256, 512)},
            "ulip_pointnet2",
            "ULIP with PointNet++ (single-scale grouping)",
            256,
        ),
        (
            entries(viewgcn.entries(40, 512, (10, 5))),
            "viewgcn",
            "View-GCN, the graph network over the views of a shape",
            1536,
        ),
        (
            {k: v for k, v in kinds.view_gcn().items() if "net_2" not in k},
            "viewgcn",
            "View-GCN, the graph network over the views of a shape, and its view CNN",
            1536,
        ),
        (
            entries(mobilenet.entries((32, 16, 24, 32, 64, 96, 160, 320, 1280))),
            "mobilenetv2",
            "MobileNetV2 with folded batch normalisation",
            1280,
        ),
        (
            entries(efficientnet_lite.entries(*scaled(1.0, 1.0), 1000)),
            "efficientnet_lite0",
            "EfficientNet-Lite0",
            1280,
        ),
        (
            entries(efficientnet_lite.entries(*scaled(1.1, 1.2), 0)),
            "efficientnet_lite2",
            "EfficientNet-Lite2",
            1280,
        ),
        (
            entries(efficientnet_lite.entries(*scaled(0.5, 1.0), 0)),
            "efficientnet_lite",
            "EfficientNet-Lite of other widths than the published ones",
            1280,
        ),
    ],
)
def test_the_other_kinds(shapes, kind, title, embedding_dim):
    found = of(shapes)
    assert (found.kind, found.title, found.embedding_dim, found.problem) == (
        kind,
        title,
        embedding_dim,
        "",
    )
    assert set(found.unused) <= {"image_mlp.layer1.weight"}
    assert {name for part in found.parts for name in part.tensors} | set(found.unused) == {
        name for name in shapes if not name.endswith("num_batches_tracked")
    }


def test_slips_small_model_has_twelve_heads():
    found = of(kinds.slip(width=384))
    assert (
        found.parts[0].fields["vision"]["num_heads"] == 12
        and "12 of 32 channels" in found.rules["num_heads"]
    )
    assert "num_heads" not in of(kinds.slip()).parts[0].fields["vision"]


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"a.weight": (2,)}, "its 1 tensors (a.weight) are of no network"),
        (
            {"layer1.0.conv1.weight": (64, 64, 1, 1), "layer1.0.conv3.weight": (1,)},
            "bottleneck blocks (ResNet-50",
        ),
        ({"vision_model.encoder.layers.0.mlp.fc1.weight": (2,)}, "HuggingFace export of CLIP"),
        (
            {"point_encoder.embedding.net.0.weight": (2,), "pc_projection": (256, 512)},
            "neither PointBERT nor PointNet++",
        ),
        ({"codebook": (2,), "encoder.first_conv.0.weight": (128, 3, 1)}, "Point-BERT's tokenizer"),
        ({"features.0.0.weight": (32, 3, 3, 3)}, "torchvision's MobileNetV2"),
        ({"blocks.0.0.conv_dw.weight": (32, 1, 3, 3)}, "an EfficientNet under other names"),
        ({"inception_5b_loss/kernel": (1, 1, 1024, 512)}, "GoogLeNet"),
        ({"visual.layer1.0.conv1.weight": (2,)}, "CLIP with a ResNet"),
    ],
)
def test_unknown_tensors_are_named(shapes, says):
    found = of(shapes)
    assert (
        found.kind == "unknown"
        and says in found.problem
        and set(found.unused) == set(shapes)
        and not found.parts
    )


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (
            {k: v for k, v in kinds.ulip().items() if "cls_token" not in k},
            "point_encoder.cls_token is missing",
        ),
        (
            kinds.ulip(width=100),
            "width 100 is no multiple of 64, so the number of heads is unknown",
        ),
        (kinds.ulip(channels=4), "its first layer reads 4 channels"),
        (
            {**kinds.ulip(), "pc_projection": (512, 512)},
            "pc_projection has shape (512, 512); expected [768, shared space]",
        ),
        (
            {**kinds.point_next(), "encoder.encoder.1.1.convs.convs.0.0.weight": (64, 67, 1, 1)},
            "encoder.encoder.*.1 is an inverted residual block",
        ),
        (
            {k: v for k, v in kinds.point_next().items() if ".encoder.5." not in k},
            "encoder.encoder.4, keeps points, as in segmentation",
        ),
        (
            {**kinds.point_next(), "encoder.encoder.0.0.convs.0.0.weight": (32, 4, 1)},
            "expected positions alone (3 channels)",
        ),
        (
            {**kinds.clip(), "visual.conv1.weight": (768,)},
            "visual.conv1.weight has shape (768,), not 4 axes",
        ),
    ],
)
def test_half_of_a_network_is_a_problem_and_no_crash(shapes, says):
    assert says in of(shapes).problem
