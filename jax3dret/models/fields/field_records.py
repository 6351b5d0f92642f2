"""Records of a prepared data set of INRs (`data_pipelines/inr_store`): which feature holds what.

A record is one shape. Beside "id" and "label":

    "points" float32[P, 3]               the query pool, in the domain [-1, 1]^3, the shape in the
                                         unit sphere with y up: a fifth uniform, two fifths near
                                         the surface, two fifths on it, in that order
    "sdf", "udf", "occ" float32[P]       the true values there, of the functions of the data set
    "<architecture>_<function>" float32  the parameters of an INR, flat, in the layout of its
                                         architecture
    "<architecture>_structure" int32     of an architecture that has one: the structure, flat, and
    "<architecture>_shapes" int32        the dimensions of all arrays; the same for all functions
    "vertices" float32[V, 3], "faces" int32[F, 3]   the mesh that the INRs were fitted to

What a shape has not, since it bounds no volume or the fit diverged, is NaN in its record, and its
id is listed in the manifest. There, `manifest["source"]["inrs"]` is

    {"functions": ["sdf", ...],
     "architectures": {name: {"description": architectures.describe(...), "layout": Layout, ...}},
     "without": {"sdf" or "<architecture>_<function>": [id, ...]}}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax3dret.core.types import ConfigError, DataError, nearest
from jax3dret.models.fields import architectures
from jax3dret.models.fields.field import Architecture, Field, Function
from jax3dret.models.fields.parameters import Layout


def feature_of(architecture: str, function: str) -> str:
    """The feature that holds the parameters of an INR."""
    return f"{architecture}_{function}"


@dataclasses.dataclass(frozen=True)
class FieldRecords:
    """What the INRs of a data set are.

    functions: of its INRs and of its true values. architectures, layouts: by name. without: by
    feature, the ids of the records in which it is NaN.
    """

    functions: tuple[Function, ...]
    architectures: Mapping[str, Architecture]
    layouts: Mapping[str, Layout]
    without: Mapping[str, frozenset[str]]

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> FieldRecords:
        """Of a prepared data set.

        Raises: ConfigError: one that holds no INRs. DataError: its manifest is damaged, or names an
            architecture that there is not.
        """
        name = manifest.get("name", "a data set")
        found = manifest.get("source", {}).get("inrs")
        if found is None:
            raise ConfigError(f"{name}: holds no INRs; make a data set of them with inr_store")
        try:
            described = dict(found["architectures"])
            return cls(
                tuple(found["functions"]),
                {
                    key: architectures.from_description(each["description"])
                    for key, each in described.items()
                },
                {key: Layout.from_description(each["layout"]) for key, each in described.items()},
                {key: frozenset(ids) for key, ids in found["without"].items()},
            )
        except ConfigError as error:
            raise DataError(f"{name}: {error}") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{name}: what its manifest says of INRs is damaged ({error!r})"
            ) from None

    def features(self, architecture: str, function: str) -> tuple[str, ...]:
        """The features of a record that `field` reads, as `Source.select` takes them.

        Raises ConfigError for INRs that the data set does not hold.
        """
        for what, asked, there in (
            ("architecture", architecture, tuple(self.architectures)),
            ("function", function, self.functions),
        ):
            if asked not in there:
                raise ConfigError(
                    f"the data set holds no INRs of the {what} '{asked}'{nearest(asked, there)}; "
                    f"it has {', '.join(there)}"
                )
        structure = (
            (f"{architecture}_structure", f"{architecture}_shapes")
            if self.layouts[architecture].varies
            else ()
        )
        return (feature_of(architecture, function), *structure)

    def has(self, identity: str, architecture: str, function: str) -> bool:
        """Whether the record with this id holds the INR."""
        return identity not in self.without.get(feature_of(architecture, function), frozenset())

    def field(self, record: Mapping[str, Any], architecture: str, function: Function) -> Field:
        """The INR of a record, with views of the record's arrays.

        Raises: ConfigError: the data set has no such INRs. DataError: this record has not, or its
            numbers are not those of the layout.
        """
        arrays = [np.asarray(record[name]) for name in self.features(architecture, function)]
        identity = str(record["id"])
        if not self.has(identity, architecture, function):
            raise DataError(f"{identity}: has no INR '{feature_of(architecture, function)}'")
        try:
            variables = self.layouts[architecture].restore(*arrays)
        except DataError as error:
            raise DataError(f"{identity}: {error}") from None
        about = {"source": identity}
        return Field(self.architectures[architecture], function, variables, about=about)
