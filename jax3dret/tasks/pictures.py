"""Where the pictures of a run's shapes come from: rendered from the records, or the user's own."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from jax3dret.core.types import Source
from jax3dret.data.own_views import PATTERN, OwnViews, own_views_path, store_own_views
from jax3dret.data.views import build_views, has_meshes, views_path
from jax3dret.geometry import cameras


def defaults(cameras: str, size: int = 224) -> dict[str, Any]:
    """The `views` section of a config."""
    return {
        "cameras": cameras,  # by name, see geometry.cameras
        "size": size,  # pixels
        "jobs": 1,  # processes that render
        # Pictures of the user's own, view i of camera i; empty: they are rendered.
        "folder": "",
        "files": PATTERN,  # see data.own_views:OwnViews
    }


def view_file(views: Mapping[str, Any], source: Any) -> pathlib.Path:
    """The store of the configured views of a split, made now if it is not there.

    Raises ConfigError and DataError as `data.views.build_views` and
    `data.own_views.store_own_views`.
    """
    placed, size, jobs = cameras.by_name(views["cameras"]), views["size"], views["jobs"]
    own = own_views(views)
    if own is not None:
        return store_own_views(source, own, placed, size=size, jobs=jobs)
    return build_views(source, placed, size=size, jobs=jobs)


def view_path(views: Mapping[str, Any], source: Any) -> pathlib.Path:
    """Where the store of the configured views belongs; nothing is rendered. Raises as `view_file`."""
    placed, own = cameras.by_name(views["cameras"]), own_views(views)
    if own is not None:
        return own_views_path(source, own, placed, views["size"])
    return views_path(source, placed, views["size"])


def own_views(views: Mapping[str, Any]) -> OwnViews | None:
    """The user's pictures, if the config names any. Raises ConfigError where it names none that
    can be.
    """
    if not views.get("folder"):
        return None
    folder = pathlib.Path(views["folder"]).expanduser()
    return OwnViews(folder, views.get("files", PATTERN))


def said(views: Mapping[str, Any], source: Source) -> str:
    """What the pictures of a run are, for its protocol."""
    number = len(cameras.by_name(views["cameras"]).positions)
    seen = f"{number} views ({views['cameras']}) of {views['size']} pixels"
    own = own_views(views)
    if own is not None:
        # The folder's name alone: an index carries this on to other machines.
        return f"the user's own, {own.folder.name}/{own.pattern}: {seen}"
    if has_meshes(source):
        return f"meshes, rendered in grey: {seen}"
    return f"discs at the points, for the records hold no meshes: {seen}"
