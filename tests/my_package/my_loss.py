"""A loss of a user's own on two views, as the README describes one."""

import jax.numpy as jnp


def barlow_twins(za, zb, weight=0.005):
    za, zb = ((z - z.mean(0)) / (z.std(0) + 1e-5) for z in (za, zb))
    correlation = za.T @ zb / len(za)
    own = jnp.square(jnp.diagonal(correlation) - 1).sum()
    others = jnp.square(correlation).sum() - jnp.square(jnp.diagonal(correlation)).sum()
    return own + weight * others, {"own": own}
