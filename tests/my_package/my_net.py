"""A network of a user's own, as the README describes one."""

import flax.linen as nn


class Net(nn.Module):
    """The largest of what a layer makes of each point."""

    width: int = 16

    @property
    def embedding_dim(self):
        return self.width

    @nn.compact
    def __call__(self, points, train=False):
        return nn.Dense(self.width)(points).max(1)
