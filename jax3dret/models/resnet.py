"""ResNet of basic blocks: ResNet-18 and ResNet-34 as torchvision defines them, and narrower ones.

The backbone of view-based networks: an image of a shape becomes the mean of the last feature map.
He et al. 2016, "Deep Residual Learning for Image Recognition".
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jax3dret.models.conv import Conv, global_average, max_pool
from jax3dret.models.layers import BatchNorm, Dense


class ResNet(nn.Module):
    """Normalised images [B, H, W, 3] -> features float32 [B, 8 * width], or logits [B,
    num_classes].

    stage_sizes: blocks in each stage, (2, 2, 2, 2) is ResNet-18 and (3, 4, 6, 3) ResNet-34; width:
        channels of the first stage, doubled in each that follows. num_classes: 0 gives the features
        (global average pool), more adds the classifier `fc`.
    dtype: precision of the convolutions ("float32" or "bfloat16").

    `train` True normalises with the statistics of the batch and updates the running ones
    (mutable=["batch_stats"]); frozen or in evaluation it is False.
    """

    stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 64
    num_classes: int = 0
    dtype: str = "float32"

    @property
    def embedding_dim(self) -> int:
        """Width of the features."""
        return self.width << (len(self.stage_sizes) - 1)

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"], train: bool = False) -> Float[Array, "B D"]:
        x = Conv(self.width, 7, stride=2, padding=3, dtype=self.dtype, name="conv1")(image)
        x = max_pool(nn.relu(BatchNorm(not train, name="norm1")(x)), 3, stride=2, padding=1)
        self.sow("intermediates", "stem", x)
        for stage, count in enumerate(self.stage_sizes):
            for i in range(count):
                stride = 2 if stage > 0 and i == 0 else 1
                x = BasicBlock(
                    self.width << stage, stride, self.dtype, name=f"layer{stage + 1}_{i}"
                )(x, train)
            self.sow("intermediates", f"layer{stage + 1}", x)
        features = global_average(x)
        if not self.num_classes:
            return features
        self.sow("intermediates", "features", features)
        return Dense(self.num_classes, dtype=self.dtype, name="fc")(features).astype(jnp.float32)


class BasicBlock(nn.Module):
    """relu(skip(x) + BN(conv3(relu(BN(conv3(x)))))); the skip is a 1 x 1 convolution with BN where
    the shape changes.
    """

    features: int
    stride: int = 1
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B h w D"]:
        y = Conv(self.features, 3, self.stride, padding=1, dtype=self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(not train, name="norm1")(y))
        y = Conv(self.features, 3, padding=1, dtype=self.dtype, name="conv2")(y)
        y = BatchNorm(not train, name="norm2")(y)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = Conv(self.features, 1, self.stride, dtype=self.dtype, name="conv_skip")(x)
            x = BatchNorm(not train, name="norm_skip")(x)
        return nn.relu(x + y)
