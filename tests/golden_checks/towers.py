"""The towers of CLIP and SLIP against the published code: token states, embeddings, logits, and the
file's names and back.
"""

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.case import Case
from jax3dret.models.clip import TextTower, VisionTower, prompt_ensemble
from jax3dret.weights import clip, slip


def run(
    case: Case, weights, heads: tuple[int, int], style: str, image: str, tokens: str
) -> dict[str, jax.Array]:
    """Everything that both towers give; their inputs stand at in/`image` (channels first) and
    in/`tokens`.
    """
    state_dict = case.group("param")
    fields = weights.architecture(state_dict)
    variables = weights.from_torch(state_dict)
    back = weights.to_torch(variables)
    assert set(back) == set(state_dict)
    for name, value in back.items():
        np.testing.assert_array_equal(value, state_dict[name].reshape(value.shape), err_msg=name)
    vision = VisionTower(**fields["vision"], num_heads=heads[0], style=style)
    text = TextTower(**fields["text"], num_heads=heads[1])

    @jax.jit
    def both(params, image, tokens):
        keep = ["intermediates"]
        image_embed, inner = vision.apply(
            {"params": params["vision"]}, image.transpose(0, 2, 3, 1), mutable=keep
        )
        text_embed, text_inner = text.apply({"params": params["text"]}, tokens, mutable=keep)
        return image_embed, inner["intermediates"], text_embed, text_inner["intermediates"]

    image_embed, inner, text_embed, text_inner = both(
        variables["params"], case.tensors[f"in/{image}"], case.tensors[f"in/{tokens}"]
    )
    return {
        "image": image_embed,
        "text": text_embed,
        "scale": jnp.exp(variables["params"]["logit_scale"]),
        "feature": inner["feature"][0],
        "visual_block0": inner["tokens0"][0],
        "visual_blocks": inner[f"tokens{fields['vision']['depth'] - 1}"][0],
        "text_block0": text_inner["tokens0"][0],
    }


def compare(case: Case, found: dict[str, jax.Array], atol: float) -> None:
    out = case.group("out")
    assert set(out) <= set(found), f"no check for {sorted(set(out) - set(found))}"
    for name, value in out.items():
        np.testing.assert_allclose(
            found[name].reshape(value.shape), value, rtol=0, atol=atol, err_msg=name
        )


def check_slip(case: Case) -> None:
    """Within 2e-5 unless the case says otherwise."""
    config = case.info["config"]
    got = run(case, slip, (config["vheads"], config["heads"]), "slip", "images", "tokens")
    found = {
        "image_embed": got["image"],
        "text_embed": got["text"],
        "vision_feature": got["feature"],
        "logit_scale": got["scale"],
        "text_embed_mean_normalized": prompt_ensemble(got["text"]),
    }
    compare(case, found, case.info.get("atol", 2e-5))


def check_clip(case: Case) -> None:
    """Within the tolerance that the case states."""
    config = case.info["config"]
    got = run(case, clip, (config["v_heads"], config["t_heads"]), "clip", "image", "text")
    image, text = (
        x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (got["image"], got["text"])
    )
    logits = got["scale"] * image @ text.T
    found = {
        "image_features": got["image"],
        "text_features": got["text"],
        "logits_per_image": logits,
        "logits_per_text": logits.T,
        **{name: got[name] for name in ("visual_block0", "visual_blocks", "text_block0")},
    }
    compare(case, found, case.info.get("atol", 2e-5))


CHECKS = {"slip": check_slip, "clip_reduced": check_clip}
