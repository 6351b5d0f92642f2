"""Towers with prompts against the published code: CLIP's with appended ones, the plain ViT of VPT
with shallow and deep ones.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.case import Case
from jax3dret.models.layers import LayerNorm
from jax3dret.models.sketch_tower import PromptedVisionTower, with_tower
from jax3dret.weights import clip, mapping

# What runs once is not worth optimizing.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def compare(found, expected, name: str, atol: float) -> None:
    """Within atol of values of unit scale; larger values have larger rounding errors."""
    assert found.shape == expected.shape, name
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=atol * max(1.0, np.abs(expected).max()), err_msg=name
    )


def check_clip(case: Case) -> None:
    """Embeddings with prompts and without, and gradients of prompts and layer norms."""
    state, config = case.group("param"), case.info["config"]
    fields, atol = clip.vision_architecture(state), case.info.get("atol", 1e-4)
    entries = clip.vision_entries(**fields)
    vision = mapping.load(state, entries, "", "CLIP")["params"]
    image = case.tensors["in/image"].transpose(0, 2, 3, 1)
    model = PromptedVisionTower(
        **fields, num_prompts=config["n_prompts"], num_heads=config["v_heads"]
    )
    bare = PromptedVisionTower(**fields, num_prompts=0, num_heads=config["v_heads"])

    def read(params):
        embedding = model.apply({"params": params}, image)
        return (embedding * case.tensors["in/cotangent"]).sum(), embedding

    @jit
    def both(params):
        (_, embedding), gradient = jax.value_and_grad(read, has_aux=True)(params)
        return embedding, gradient, bare.apply({"params": {"tower": params["tower"]}}, image)

    started = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    embedding, gradient, without = both(
        {**with_tower(started, vision), "prompts": jnp.asarray(case.tensors["in/prompt"])}
    )
    out = case.group("out")
    compare(embedding, out.pop("image_features"), "image_features", atol)
    compare(without, out.pop("image_features_noprompt"), "image_features_noprompt", atol)
    assert not out, f"no check for {sorted(out)}"
    found = {
        "prompt": gradient["prompts"],
        **mapping.save({"params": gradient["tower"]}, entries, ""),
    }
    for name, expected in case.group("grad").items():
        compare(found[name], expected, f"grad/{name}", atol)


def check_vpt(case: Case) -> None:
    """All tokens after the last norm, logits, and gradients of the prompts."""
    state, config, atol = case.group("param"), case.info["config"], case.info.get("atol", 1e-4)
    bias = state.pop("head.bias")
    prompts, variables = from_vpt(state, config["layers"])
    # The classifier without its bias is the tower's projection.
    model = PromptedVisionTower(
        num_prompts=config["num_tokens"],
        deep=config["deep"],
        position="prepend",
        prompt_projection=max(0, config["project"]),
        image_size=config["img"],
        patch_size=config["patch"],
        width=config["hid"],
        depth=config["layers"],
        num_heads=config["heads"],
        embedding_dim=config["num_classes"],
        style="slip",
        mlp_ratio=config["mlp"] / config["hid"],
    )
    image = case.tensors["in/x"].transpose(0, 2, 3, 1)
    started = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    params = {**with_tower(started, variables), **prompts}
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, started)

    def read(params):
        found, kept = model.apply({"params": params}, image, mutable=["intermediates"])
        logits = found + bias
        tokens = kept["intermediates"]["tower"][f"tokens{config['layers'] - 1}"][0]
        encoded = LayerNorm(1e-6).apply({"params": params["tower"]["norm"]}, tokens)
        return (logits * case.tensors["in/cotangent"]).sum(), (logits, encoded)

    (_, (logits, encoded)), gradient = jit(jax.value_and_grad(read, has_aux=True))(params)
    out = case.group("out")
    compare(encoded, out.pop("encoded"), "encoded", atol)
    compare(logits, out.pop("logits"), "logits", atol)
    assert not out, f"no check for {sorted(out)}"
    found = {
        "transformer.prompt_embeddings": gradient["prompts"][None],
        "transformer.deep_prompt_embeddings": gradient.get("deep_prompts"),
        "transformer.prompt_proj.weight": gradient.get("prompt_projection", {})
        .get("kernel", jnp.zeros((0, 0)))
        .T,
        "transformer.prompt_proj.bias": gradient.get("prompt_projection", {}).get("bias"),
    }
    for name, expected in case.group("grad").items():
        compare(found[name], expected, f"grad/{name}", atol)


def from_vpt(state: dict[str, np.ndarray], depth: int) -> tuple[dict, dict]:
    """(prompts, the plain ViT in our names), of the tensors as that code names them; all of them,
    or KeyError.
    """
    state = {name.removeprefix("transformer."): value for name, value in state.items()}

    def linear(name):
        return {"kernel": state.pop(f"{name}.weight").T, "bias": state.pop(f"{name}.bias")}

    def norm(name):
        return {"scale": state.pop(f"{name}.weight"), "bias": state.pop(f"{name}.bias")}

    prompts = {"prompts": state.pop("prompt_embeddings")[0]}
    if "deep_prompt_embeddings" in state:
        prompts["deep_prompts"] = state.pop("deep_prompt_embeddings")
    if "prompt_proj.weight" in state:
        prompts["prompt_projection"] = linear("prompt_proj")
    tower = {
        "class_embedding": state.pop("embeddings.cls_token")[0, 0],
        "position_embedding": state.pop("embeddings.position_embeddings")[0],
        "patch_embed": {
            "kernel": state.pop("embeddings.patch_embeddings.weight").transpose(2, 3, 1, 0),
            "bias": state.pop("embeddings.patch_embeddings.bias"),
        },
        "norm": norm("encoder.encoder_norm"),
        "projection": state.pop("head.weight").T,
    }
    for i in range(depth):
        layer = f"encoder.layer.{i}"
        query, key, value = (linear(f"{layer}.attn.{name}") for name in ("query", "key", "value"))
        joint = {k: np.concatenate([query[k], key[k], value[k]], -1) for k in ("kernel", "bias")}
        tower[f"block{i}"] = {
            "norm1": norm(f"{layer}.attention_norm"),
            "attn": {"qkv": joint, "proj": linear(f"{layer}.attn.out")},
            "norm2": norm(f"{layer}.ffn_norm"),
            "mlp": {"fc1": linear(f"{layer}.ffn.fc1"), "fc2": linear(f"{layer}.ffn.fc2")},
        }
    assert not state, f"no place for {sorted(state)}"
    return prompts, tower


CHECKS = {"clip_prompt_appended": check_clip, "vpt_shallow": check_vpt, "vpt_deep": check_vpt}
