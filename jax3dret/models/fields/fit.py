"""Fits fields to many shapes at once: one compiled program over shapes and steps, in chunks that
can be continued.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int

from jax3dret.core import rng
from jax3dret.core.types import ConfigError, PyTree, nearest
from jax3dret.losses import fields as losses
from jax3dret.models.fields import adam, architectures, rows
from jax3dret.models.fields.devices import over_shapes
from jax3dret.models.fields.field import FUNCTIONS, Architecture, Function
from jax3dret.models.fields.octree import Octree


@runtime_checkable
class Sampler(Protocol):
    """Points of the domain and the function's true values there, for one shape and epoch: host
    arrays, the same at every call. Their order does not matter: they are shuffled."""

    def __call__(
        self, epoch: int, shape: int
    ) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, " N"]]: ...


@dataclasses.dataclass(frozen=True)
class FitSpec:
    """How a field is fitted.

    steps: of `batch` points each. pool: points that the sampler gives for one epoch, each of which
    is used once; resample: whether every epoch asks for new ones, or all share those of epoch 0.
    optimizer: "adam" moves every row of a table at every step, also by what is left of earlier
    gradients; "lazy_adam" moves and decays only the rows that the step reads. clamp: of the UDF's
    loss, None for none. precision: of matrix products, as JAX names it. explode: a loss so many
    times its reference, the larger of the first step's and of the field that is 0 everywhere,
    counts as diverged. chunk: steps of one call of the compiled program. deferred: whether steps in
    which a row has no gradient are made up for when it is next read (`rows`); None: where a step
    reads few of all rows. A lazy Adam is always so.

    Raises ConfigError for numbers that fit nothing.
    """

    steps: int
    learning_rate: float
    batch: int = 512
    pool: int = 500_000
    resample: bool = True
    optimizer: Literal["adam", "lazy_adam"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-15
    clamp: float | None = 0.1
    precision: str = "highest"
    explode: float = 100.0
    chunk: int = 128
    deferred: bool | None = None

    def __post_init__(self) -> None:
        for key in ("steps", "batch", "pool", "chunk"):
            if getattr(self, key) < 1:
                raise ConfigError(f"fit: {key}={getattr(self, key)}; expected at least 1")
        if not (self.learning_rate > 0 and self.eps >= 0 and self.explode > 1):
            raise ConfigError(
                f"fit: learning_rate={self.learning_rate}, eps={self.eps}, explode={self.explode}; "
                "expected more than 0, at least 0 and more than 1"
            )
        if self.precision not in ("default", "high", "highest"):
            raise ConfigError(
                f"fit: precision='{self.precision}'; expected one of default, high, highest"
            )
        if self.optimizer not in ("adam", "lazy_adam"):
            raise ConfigError(
                f"fit: optimizer='{self.optimizer}'"
                f"{nearest(self.optimizer, ('adam', 'lazy_adam'))}; expected adam or lazy_adam"
            )

    @property
    def epoch_steps(self) -> int:
        """Steps that one pool lasts; the last of them begins the pool's order anew."""
        return -(-self.pool // self.batch)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a fit gives for S shapes.

    variables: of each shape, NumPy. losses: of each shape and step so far. diverged: the first step
    whose loss was not finite or exploded, -1 for none; such a shape's variables are of no use, its
    neighbours' are as if it were not there.
    """

    variables: list[PyTree]
    losses: Float[np.ndarray, "S T"]
    diverged: Int[np.ndarray, " S"]

    def final_losses(self, last: int = 100) -> Float[np.ndarray, " S"]:
        """The mean over the last steps."""
        return self.losses[:, -last:].mean(1)


def fit(
    architecture: Architecture,
    function: Function,
    sampler: Sampler,
    spec: FitSpec,
    keys: jax.Array,
    structures: Sequence[PyTree] | None = None,
    start: Sequence[PyTree] | None = None,
    mesh: Mesh | None = None,
) -> Fitted:
    """Fits one field a key, all at once.

    keys: typed, one a shape: the grid's noise and the order of the points. A shape's result depends
    on its own key and points alone, on a CPU to the last bit. structures: of each shape, for an
    architecture that has one.
    start: variables to go on from, in place of fresh ones. mesh: over which devices the shapes are
    split, any axes; default: all of this process.

    Raises ConfigError for what does not go together, DataError as the sampler does.
    """
    fitting = Fitting(architecture, function, sampler, spec, keys, structures, start, mesh)
    while fitting.advance():
        pass
    return fitting.result()


class Fitting:
    """A fit under way: `advance` until it says False, then `result`.

    `state` and `restore` carry it through a file: what comes out in the end has the same bits.
    """

    def __init__(
        self,
        architecture: Architecture,
        function: Function,
        sampler: Sampler,
        spec: FitSpec,
        keys: jax.Array,
        structures: Sequence[PyTree] | None = None,
        start: Sequence[PyTree] | None = None,
        mesh: Mesh | None = None,
    ):
        """As for `fit`."""
        if function not in FUNCTIONS:
            raise ConfigError(
                f"there is no implicit function '{function}'{nearest(function, FUNCTIONS)}; there "
                f"are: {', '.join(FUNCTIONS)}"
            )
        self.count = len(keys)
        for name, given in (("structures", structures), ("start", start)):
            if given is not None and len(given) != self.count:
                raise ConfigError(f"fit: {len(given)} {name} for {self.count} keys")
        if not self.count:
            raise ConfigError("fit: no keys; one is needed for each shape")
        self.architecture, self.spec, self.sampler = architecture, spec, sampler
        self.mesh = over_shapes(self.count) if mesh is None else mesh
        if start is None:
            start = [
                architecture.init(key, structures[i] if structures is not None else None)
                for i, key in enumerate(keys)
            ]
        self.seeds = [
            int.from_bytes(np.asarray(jax.random.key_data(key)).tobytes()[:8]) for key in keys
        ]
        # Shapes that only fill up the devices: copies of the last, left out of the result.
        group = self.mesh.size * _group(self.mesh)
        self.padding = -self.count % group
        stacked = architectures.stack(architecture, [*start, *[start[-1]] * self.padding])
        trained = {key: stacked[key] for key in ("grid", "decoder") if key in stacked}
        shapes = self.count + self.padding
        state = {
            "trained": trained,
            "first": jax.tree.map(jnp.zeros_like, trained),
            "second": jax.tree.map(jnp.zeros_like, trained),
            "reference": jnp.zeros(shapes, jnp.float32),
            "diverged": jnp.full(shapes, -1, jnp.int32),
        }
        self._packed = _reads_few_rows(architecture, spec, trained)
        if self._packed:
            state["packed"] = rows.pack(trained.pop("grid")["table"])
            for moments in ("first", "second"):
                state[moments].pop("grid")
        spread = NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))
        self._state = jax.device_put(state, spread)
        self._structure = jax.device_put(stacked.get("structure", {}), spread)
        self._rates = adam.rates(spec.steps, spec.learning_rate, spec.betas, spec.eps)
        self._tails = rows.tails(spec.steps, spec.learning_rate, spec.betas)
        # A frozen dataclass: its programs are kept by it.
        self._run = program(architecture, function, spec, self.mesh, self._packed)  # type: ignore[arg-type]
        self._losses: list[jax.Array | np.ndarray] = []
        self._forget()
        self.step = 0

    def advance(self) -> bool:
        """Takes the next steps, at most a chunk; whether there are more."""
        spec = self.spec
        if self.step < spec.steps:
            epoch, begin = divmod(self.step, spec.epoch_steps)
            steps = min(spec.chunk, spec.epoch_steps - begin, spec.steps - self.step)
            data = self._data(epoch, begin, steps)
            self._state, losses = self._run(
                self._state,
                self._structure,
                data,
                (*self._rates[:2], self._tails),
                self.step,
                steps,
            )
            self._losses.append(losses[:steps])
            self.step += steps
        if self.step == spec.steps:
            self._forget()
        return self.step < spec.steps

    def wait(self) -> None:
        """Returns when all steps so far are done: `advance` only gives them to the devices."""
        jax.block_until_ready(self._state)

    def result(self) -> Fitted:
        """The fields as they are after the steps taken so far."""
        stacked = dict(self._state["trained"])
        if self._structure:
            stacked["structure"] = self._structure
        if self._packed:
            tails = None if self.spec.optimizer == "lazy_adam" else self._tails
            unpack = jax.jit(lambda packed, step: rows.unpack(packed, step, self._rates, tails))
            stacked["grid"] = {"table": unpack(self._state["packed"], self.step)}
        variables = architectures.unstack(self.architecture, stacked)[: self.count]
        diverged = np.asarray(self._state["diverged"])[: self.count].copy()
        for i, tree in enumerate(variables):
            # The last step may have been the one that broke it.
            finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))
            if not finite and diverged[i] < 0:
                diverged[i] = max(self.step - 1, 0)
        return Fitted(variables, self._history().T[: self.count], diverged)

    def state(self) -> dict[str, Any]:
        """A tree of NumPy arrays that `restore` goes on from."""
        return {
            "step": np.asarray(self.step),
            "seeds": np.asarray(self.seeds, np.uint64),
            "losses": self._history(),
            "arrays": jax.tree.map(np.asarray, self._state),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from the `state` of a fit of the same shapes with the same spec. Raises
        ConfigError for arrays of another fit.
        """
        given, own = (jax.tree.map(np.shape, tree) for tree in (state["arrays"], self._state))
        seeds = np.asarray(self.seeds, np.uint64)
        if given != own or not np.array_equal(state["seeds"], seeds):
            raise ConfigError("fit: the saved state is of other shapes than those to be fitted")
        self._state = jax.tree.map(
            lambda leaf, old: jax.device_put(np.asarray(leaf), old.sharding),
            dict(state["arrays"]),
            self._state,
        )
        self._losses, self.step = [np.asarray(state["losses"])], int(state["step"])
        self._forget()

    def _history(self) -> Float[np.ndarray, "T S"]:
        shapes = self.count + self.padding
        return np.concatenate([np.zeros((0, shapes), np.float32), *map(np.asarray, self._losses)])

    def _data(self, epoch: int, begin: int, steps: int) -> jax.Array:
        """float32[chunk, S, batch, 4]: points and values of the next steps, then zeros."""
        spec = self.spec
        self._prepare(epoch)
        data = np.zeros((spec.chunk, self.count + self.padding, spec.batch, 4), np.float32)
        places = np.arange(begin * spec.batch, (begin + steps) * spec.batch) % spec.pool
        for shape in range(self.count):
            chosen = self._pools[shape][self._orders[shape][places]]
            data[:steps, shape] = chosen.reshape(steps, spec.batch, 4)
        data[:, self.count :] = data[:, self.count - 1 : self.count]
        sharding = NamedSharding(self.mesh, PartitionSpec(None, self.mesh.axis_names))
        return jax.device_put(data, sharding)

    def _forget(self) -> None:
        """Leaves the points of the epoch at hand to be collected."""
        self._epoch, self._source = -1, -1
        self._pools: list[np.ndarray] = []
        self._orders: list[np.ndarray] = []

    def _prepare(self, epoch: int) -> None:
        """Points and their order for an epoch; those of the one before are freed first."""
        source = epoch if self.spec.resample else 0
        if source != self._source:
            self._forget()
            self._pools = [self._pool(source, shape) for shape in range(self.count)]
            self._source = source
        if epoch != self._epoch:
            self._orders = [
                rng.host_generator(seed, "fields/order", epoch).permutation(
                    np.arange(self.spec.pool, dtype=np.int32)
                )
                for seed in self.seeds
            ]
            self._epoch = epoch

    def _pool(self, epoch: int, shape: int) -> Float[np.ndarray, "N 4"]:
        points, values = self.sampler(epoch, shape)
        if points.shape != (self.spec.pool, 3) or values.shape != (self.spec.pool,):
            raise ConfigError(
                f"fit: the sampler gave points {points.shape} and values {values.shape} for shape "
                f"{shape}; expected ({self.spec.pool}, 3) and ({self.spec.pool},)"
            )
        return np.concatenate([points, values[:, None]], 1).astype(np.float32)


@functools.lru_cache(maxsize=16)
def program(
    architecture: Any, function: Function, spec: FitSpec, mesh: Mesh, packed: bool
) -> Callable[..., Any]:
    """The compiled steps: (state, structure, data, schedule, step, steps) -> (state, losses).

    The state is donated; data: float32[K, S, B, 4], of which the first `steps` are taken; losses:
    float32[K, S].
    """

    def total(trained, values, data):
        each = losses.loss(function, values(trained), data[..., 3], spec.clamp)
        return each.sum(), each

    def stepped(state, structure, data, rates, tails, step):
        """Trained variables, moments and losses after a step."""
        points = data[..., :3]
        held = {"trained": state["trained"], "first": state["first"], "second": state["second"]}
        if architecture.feature_width:
            indices, weights = jax.vmap(architecture.corners)(structure, points)
            table = state["packed"] if packed else state["trained"]["grid"]["table"]
            shift = jnp.arange(len(indices), dtype=jnp.int32) * table.shape[1]
            indices = indices + shift[:, None, None, None]
        if packed:
            flat = table.reshape(-1, table.shape[-1])
            before = rows.read(flat, indices.reshape(-1), step, rates, tails)

            def values(both):
                corners = both["corners"].reshape(-1, *indices.shape)
                return _decoded(architecture, both["decoder"], corners, weights, points, spec)

            both = {"corners": before.value, "decoder": held["trained"]["decoder"]}
            (_, each), gradients = jax.value_and_grad(total, has_aux=True)(both, values, data)
            flat = rows.write(
                flat, indices.reshape(-1), before, gradients.pop("corners"), step, rates
            )
            held["packed"] = flat.reshape(table.shape)
        else:

            def values(trained):
                if not architecture.feature_width:
                    return jax.vmap(
                        functools.partial(architecture.apply, precision=spec.precision)
                    )(trained, points)
                table = trained["grid"]["table"]
                corners = table.reshape(-1, table.shape[-1])[indices]
                corners = jnp.moveaxis(corners, -1, 0)
                return _decoded(architecture, trained["decoder"], corners, weights, points, spec)

            (_, each), gradients = jax.value_and_grad(total, has_aux=True)(
                held["trained"], values, data
            )
        held["trained"], (held["first"], held["second"]) = adam.tree_moved(
            held["trained"], (held["first"], held["second"]), gradients, rates, step
        )
        return held, each

    def run_group(state, structure, data, schedule, first_step, steps):
        size, root, tails = schedule
        rates = adam.Rates(size, root, *spec.betas, spec.eps)
        tails = None if spec.optimizer == "lazy_adam" else tails

        def body(i, carry):
            state, history = carry
            held, each = stepped(state, structure, data[i], rates, tails, first_step + i)
            watched = _watched(function, spec, state, each, data[i, ..., 3], first_step + i)
            return {**held, **watched}, history.at[i].set(each)

        history = jnp.zeros(data.shape[:2], jnp.float32)
        return jax.lax.fori_loop(0, steps, body, (state, history))

    def run(state, structure, data, schedule, first_step, steps):
        count = data.shape[1]
        size = _group(mesh) if _group(mesh) > 1 else count

        def of_group(i, carry):
            state, history = carry
            begin = i * size

            def cut(leaf, axis=0):
                return jax.lax.dynamic_slice_in_dim(leaf, begin, size, axis)

            def put(leaf, part, axis=0):
                return jax.lax.dynamic_update_slice_in_dim(leaf, part, begin, axis)

            part, each = run_group(
                jax.tree.map(cut, state),
                jax.tree.map(cut, structure),
                cut(data, 1),
                schedule,
                first_step,
                steps,
            )
            return jax.tree.map(put, state, part), put(history, each, 1)

        history = jnp.zeros(data.shape[:2], jnp.float32)
        return jax.lax.fori_loop(0, count // size, of_group, (state, history))

    shapes = PartitionSpec(mesh.axis_names)
    by_step = PartitionSpec(None, mesh.axis_names)
    none = PartitionSpec()
    return jax.jit(
        jax.shard_map(
            run,
            mesh=mesh,
            in_specs=(shapes, shapes, by_step, none, none, none),
            out_specs=(shapes, by_step),
            check_vma=False,
        ),
        donate_argnums=0,
    )


def _group(mesh: Mesh) -> int:
    """Shapes that a device fits side by side, then the next ones; 1 where it takes all at once.

    On a CPU a fixed number: sums over another number of shapes round otherwise, and a shape's
    result would depend on how many it is fitted with. What is small stays in the cache, too.
    """
    return 4 if mesh.devices.flat[0].platform == "cpu" else 1


def _decoded(
    architecture: Any,
    decoder: PyTree,
    corners: Float[jax.Array, "D S B G C"],
    weights: Float[jax.Array, "S B G C"],
    points: Float[jax.Array, "S B 3"],
    spec: FitSpec,
) -> Float[jax.Array, "S B"]:
    """Values of many shapes from the rows that their points read, widths first: sums then run
    along contiguous numbers."""
    groups = jnp.moveaxis(jnp.sum(corners * weights[None], -1), 0, -1)
    features = jax.vmap(architecture.join)(groups)
    apply = functools.partial(architecture.decoder.apply, precision=spec.precision)
    return jax.vmap(apply)(decoder, points, features)


def _reads_few_rows(architecture: Any, spec: FitSpec, trained: PyTree) -> bool:
    """Whether the table is packed: dense Adam takes as long as its memory, packed rows as long as
    what is read at random; equal at some 20 rows a read on a CPU."""
    if not architecture.feature_width:
        return False
    if spec.optimizer == "lazy_adam" or spec.deferred is not None:
        return spec.optimizer == "lazy_adam" or bool(spec.deferred)
    if isinstance(architecture, Octree):
        # Its table is as large as the largest of a batch, which must not choose for the others.
        return False
    return trained["grid"]["table"].shape[1] > 20 * spec.batch * architecture.reads


def _watched(
    function: Function,
    spec: FitSpec,
    state: Mapping[str, jax.Array],
    each: Float[jax.Array, " S"],
    truth: Float[jax.Array, "S B"],
    step: jax.Array,
) -> dict[str, jax.Array]:
    """The reference loss of each shape, and the step at which it diverged."""
    flat = losses.loss(function, jnp.zeros_like(truth), truth, spec.clamp)
    reference = jnp.where(step == 0, jnp.maximum(each, flat), state["reference"])
    bad = ~(each <= spec.explode * reference)  # a NaN is not less
    diverged = jnp.where((state["diverged"] < 0) & bad, step, state["diverged"])
    return {"reference": reference, "diverged": diverged}
