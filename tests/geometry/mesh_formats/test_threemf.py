"""3MF archives against the core and production specifications: which object is placed where, what
carries a shape that is not of triangles, and archives that are broken or lie about their size.
"""

from __future__ import annotations

import numpy as np
import pytest
from geometry.mesh_formats.threemf_writer import BOX, NAMESPACES, START, archive, mesh, part

from jax3dret.geometry.mesh import Mesh
from jax3dret.geometry.mesh_formats import threemf
from jax3dret.geometry.mesh_formats.unusable import Unusable

LIMIT = 1 << 24


def one(build='<item objectid="1"/>', inside="", kind="model", **more) -> str:
    return part(f'<object id="1" type="{kind}">{mesh(inside=inside)}</object>', build, **more)


def read(*models: str, limit: int = LIMIT, **options) -> threemf.Reading:
    return threemf.read(archive(*models, **options), limit)


def refusal(*models: str, limit: int = LIMIT, **options) -> str:
    with pytest.raises(Unusable) as caught:
        read(*models, limit=limit, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def area(found: Mesh) -> float:
    a, b, c = np.moveaxis(found.vertices[found.faces], 1, 0)
    return 0.5 * float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())


def volume(found: Mesh) -> float:
    a, b, c = np.moveaxis(found.vertices[found.faces], 1, 0)
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)


@pytest.mark.parametrize("unit", ["millimeter", "inch", "micron"])
def test_lengths_are_those_of_the_file(unit):
    found = read(one(unit=unit))
    assert area(found.mesh) == pytest.approx(22) and volume(found.mesh) == pytest.approx(6)
    assert (found.items, found.meshes, found.aside) == (1, 1, 0)


def test_only_what_is_built_is_placed_once_an_item():
    resources = "".join(f'<object id="{i}">{mesh(i)}</object>' for i in (1, 2, 3))
    build = '<item objectid="3"/><item objectid="1" transform="1 0 0 0 1 0 0 0 1 50 0 0"/>'
    found = read(part(resources, build))
    assert area(found.mesh) == pytest.approx(22 * (9 + 1)) and found.items == found.meshes == 2
    assert found.mesh.vertices[:, 0].max() == 52
    assert "build section is empty (3 objects are defined" in refusal(part(resources, ""))
    assert "has no object 7" in refusal(part(resources, '<item objectid="7"/>'))


def test_transforms_are_for_row_vectors_and_nest_inside_out():
    # A quarter turn about z, x to y, with twice the length along the old x; then a shift of 10.
    turn = "0 2 0 -1 0 0 0 0 1 0 0 0"
    resources = (
        f'<object id="1">{mesh()}</object>'
        f'<object id="2"><components><component objectid="1" transform="{turn}"/>'
        '<component objectid="1"/></components></object>'
        '<object id="3"><components><component objectid="2" '
        'transform="1 0 0 0 1 0 0 0 1 10 0 0"/></components></object>'
    )
    build = '<item objectid="3" transform="0 1 0 -1 0 0 0 0 1 0 0 0"/>'
    found = read(part(resources, build)).mesh
    box = np.array(BOX, float)
    turned = np.stack([-box[:, 1], 2 * box[:, 0], box[:, 2]], 1)
    expected = np.concatenate([turned, box]) + np.array([10, 0, 0])
    expected = np.stack([-expected[:, 1], expected[:, 0], expected[:, 2]], 1)
    np.testing.assert_allclose(found.vertices, expected, atol=1e-12)
    assert volume(found) == pytest.approx(6 * 2 + 6)
    assert "12 numbers" in refusal(part(resources, '<item objectid="1" transform="1 0 0"/>'))
    wild = build.replace("0 1 0", "nan 1 0", 1)
    assert "12 numbers" in refusal(part(resources, wild))


def test_a_mirroring_transform_turns_faces_over():
    mirrored = '<item objectid="1" transform="-1 0 0 0 1 0 0 0 1 0 0 0"/>'
    assert volume(read(one(mirrored)).mesh) == pytest.approx(6)
    resources = (
        f'<object id="1">{mesh()}</object><object id="2"><components><component objectid="1" '
        'transform="1 0 0 0 -1 0 0 0 1 0 0 0"/></components></object>'
    )
    twice = '<item objectid="2" transform="-1 0 0 0 1 0 0 0 1 0 0 0"/>'
    assert volume(read(part(resources, twice)).mesh) == pytest.approx(6)


def test_ids_belong_to_their_part():
    """The same id in three parts, and a component without a path in a part that is not the first:
    each means the object beside it.
    """
    other = part(
        f'<object id="1">{mesh(2)}</object>'
        '<object id="2"><components><component objectid="1"/></components></object>',
        '<item objectid="1"/>',  # the build of a part that is not started from places nothing
    )
    third = part(f'<object id="1">{mesh(5)}</object>', "")
    components = (
        '<object id="2"><components><component objectid="1"/>'
        '<component objectid="1" p:path="/3D/Objects/1.model"/></components></object>'
    )
    first = f'<object id="1">{mesh()}</object>' + components
    parts = [part(first, '<item objectid="2"/>', required="p"), other, third]
    found = read(*parts)
    assert area(found.mesh) == pytest.approx(22 * (1 + 4)) and found.meshes == 2
    for item, scale in {
        '<item objectid="1"/>': 1,
        '<item objectid="1" p:path="/3D/Objects/2.model"/>': 5,
        '<item objectid="2" p:path="/3D/Objects/1.model"/>': 2,
        '<item objectid="2" p:path="/3d/objects/1.MODEL"/>': 2,  # names know no case
    }.items():
        parts[0] = part(first, item)
        assert area(read(*parts).mesh) == pytest.approx(22 * scale**2), item
    parts[0] = part(first, '<item objectid="1" p:path="/3D/gone.model"/>')
    assert "no part '/3D/gone.model'" in refusal(*parts)
    # Whatever the prefix is called; and an attribute of that name without a namespace is another.
    renamed = part(first, '<item objectid="1" q:path="/3D/Objects/2.model"/>')
    renamed = renamed.replace("xmlns:p=", "xmlns:q=").replace("p:path", "q:path")
    assert area(read(renamed, other, third).mesh) == pytest.approx(22 * 25)
    plain = part(first, '<item objectid="1" path="/3D/Objects/2.model"/>')
    assert area(read(plain, other, third).mesh) == pytest.approx(22)


def test_the_start_is_where_the_relationships_say():
    decoy = one().replace('x="2"', 'x="7"')
    parts = {"deep/b.model": one()}
    for start in ("/deep/b.model", "deep/b.model", "/Deep/B.model"):
        assert area(read(decoy, start=start, **parts).mesh) == pytest.approx(22)
    assert "no part '/gone.model'" in refusal(decoy, start="gone.model")
    broken = {"_rels/.rels": "<Relationships/>"}
    assert "names 0 3D models" in refusal(decoy, **broken)
    assert "not XML" in refusal(decoy, **{"_rels/.rels": "<Relationships>"})


def test_extensions_that_a_file_requires():
    for required in ("p", "m", "s", "b", "p m s b"):
        assert area(read(one(required=required)).mesh) == pytest.approx(22)
    said = refusal(one(required="m v"))
    assert f"requires the extension {NAMESPACES['v']}" in said
    assert "requires the extension x" in refusal(one(required="x"))


def test_shapes_that_are_not_of_triangles_are_named():
    beams = '<b:beamlattice><b:beams><b:beam v1="0" v2="7"/></b:beams></b:beamlattice>'
    assert "from a beam lattice" in refusal(one(inside=beams, required="b"))
    level = part('<object id="1"><v:levelset/></object>', '<item objectid="1"/>')
    assert "from a levelset" in refusal(level)
    lowres = one().replace("<object ", '<object s:slicestackid="9" s:meshresolution="lowres" ')
    assert "from slices" in refusal(lowres)
    # A sliced file whose mesh is no more than the box around its slices, and one with a real mesh.
    boxed = one().replace("<object ", '<object s:slicestackid="9" ')
    assert "only the bounding box" in refusal(boxed)
    assert read(boxed.replace('x="2" y="1" z="3"', 'x="2" y="1" z="2.5"')).meshes == 1
    # Not built, so of no account.
    both = part(
        f'<object id="1">{mesh()}</object><object id="2"><v:levelset/></object>',
        '<item objectid="1"/>',
    )
    assert area(read(both).mesh) == pytest.approx(22)


def test_types_of_objects():
    assert read(one(kind="surface")).meshes == 1
    resources = "".join(
        f'<object id="{i}" type="{kind}">{mesh(i)}</object>'
        for i, kind in enumerate(("model", "support", "solidsupport", "other"), 1)
    )
    items = "".join(f'<item objectid="{i}"/>' for i in (1, 2, 3))
    found = read(part(resources, items))
    assert area(found.mesh) == pytest.approx(22) and (found.meshes, found.aside) == (3, 2)
    assert "places 2 supports or modifiers alone" in refusal(
        part(resources, '<item objectid="2"/><item objectid="3"/>')
    )
    group = '<object id="9"><components>{}</components></object>'.format(
        "".join(f'<component objectid="{i}"/>' for i in (1, 2, 4))
    )
    found = read(part(resources + group, '<item objectid="9"/>'))
    assert area(found.mesh) == pytest.approx(22) and (found.meshes, found.aside) == (3, 2)
    assert "the type 'other'" in refusal(part(resources, '<item objectid="4"/>'))


def test_elements_of_other_namespaces_are_passed_over():
    text = one().replace(
        "</vertices>", '</vertices><x:triangle xmlns:x="urn:x" v1="9" v2="9" v3="9"/>'
    )
    text = text.replace("<resources>", "<metadata name='t'>x</metadata><resources>")
    assert area(read(text).mesh) == pytest.approx(22)


def test_numbers_and_indices_that_are_none():
    assert "x, y, z are no numbers" in refusal(one().replace('x="2"', 'x="two"', 1))
    assert "x, y, z are no numbers" in refusal(one().replace('x="2" ', "", 1))
    assert "v1, v2, v3 are no numbers" in refusal(one().replace('v1="0"', 'v1="0.5"', 1))
    assert "refers to vertex 8, but there are 8" in refusal(one().replace('v1="0"', 'v1="8"', 1))
    assert "refers to vertex -1" in refusal(one().replace('v1="0"', 'v1="-1"', 1))
    twice = part(f'<object id="1">{mesh()}</object>' * 2, '<item objectid="1"/>')
    assert "two objects with the id '1'" in refusal(twice)
    both = part(
        f'<object id="1">{mesh()}</object><object id="2">{mesh()}<components>'
        '<component objectid="1"/></components></object>',
        '<item objectid="2"/>',
    )
    assert "a mesh and components" in refusal(both)
    assert "not a 3MF core model" in refusal("<html/>")
    assert "is not XML" in refusal(one()[:-30])


def test_components_in_themselves_and_components_that_multiply():
    cycle = part(
        '<object id="1"><components><component objectid="2"/></components></object>'
        '<object id="2"><components><component objectid="1"/></components></object>',
        '<item objectid="1"/>',
    )
    assert "nested deeper than 64 components, or in itself" in refusal(cycle)
    levels = f'<object id="0">{mesh()}</object>' + "".join(
        f'<object id="{i}"><components>'
        + f'<component objectid="{i - 1}"/>' * 10
        + "</components></object>"
        for i in range(1, 12)
    )
    bomb = part(levels, '<item objectid="11"/>')
    assert "places its objects so often" in refusal(bomb, limit=300_000)


def test_archives_that_are_broken(tmp_path):
    whole = archive(one())
    outside, no_text = bytearray(whole), bytearray(whole)
    outside[-6:-2] = (len(whole) + 999).to_bytes(4, "little")  # where the directory begins
    at = whole.find(b"PK\x01\x02")
    no_text[at + 9] |= 8  # its names are UTF-8, says a flag
    no_text[at + 46] = 0xE2
    broken = (whole[:-40], whole[: len(whole) // 2], bytes(outside), bytes(no_text), b"PK", b"")
    for data in broken:
        with pytest.raises(Unusable, match="not a complete 3MF|is damaged"):
            threemf.read(data, LIMIT)
    damaged = bytearray(archive(one()))
    at = damaged.find(b"3D/3dmodel.model") + 60
    damaged[at : at + 20] = bytes(20)
    with pytest.raises(Unusable, match="'/3D/3dmodel.model' is damaged"):
        threemf.read(bytes(damaged), LIMIT)
    with pytest.raises(Unusable, match="unpacks to"):
        threemf.read(archive(one(), **{"pad.bin": " " * 200_000}), 100_000)
    locked = bytearray(whole)
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = -1
        while (at := locked.find(mark, at + 1)) >= 0:
            locked[at + offset] |= 1
    with pytest.raises(Unusable, match="cannot be unpacked"):
        threemf.read(bytes(locked), LIMIT)


def test_names_of_parts():
    """Some archives part folders with "\\"; two parts of one name are none."""
    text = part("", '<item objectid="1" p:path="/3D/Objects/b.model"/>')
    found = threemf.read(archive(text, **{"3D\\Objects\\b.model": one()}), LIMIT)
    assert area(found.mesh) == pytest.approx(22)
    assert "has 2 parts '/3D/3dmodel.model'" in refusal(one(), **{"3d/3DModel.model": one()})
    assert area(read(one(), start="/3D/3d%6Dodel.model").mesh) == pytest.approx(22)


def test_entities_are_not_expanded():
    bomb = one().replace("<model", '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa">]><model', 1)
    assert "document type, which 3MF forbids" in refusal(bomb)


def test_as_another_reader_counts(tmp_path):
    """Items, triangles and area of a nested archive of two parts, by the 3MF Consortium's library."""
    lib3mf = pytest.importorskip("lib3mf")
    other = part(f'<object id="1">{mesh(2)}</object>', "")
    resources = (
        f'<object id="1">{mesh()}</object><object id="4"><components>'
        '<component objectid="1" transform="2 0 0 0 -1 0 0 0 1 5 0 0"/>'
        '<component objectid="1" p:path="/3D/Objects/1.model"/></components></object>'
    )
    build = '<item objectid="4" transform="0 1 0 -1 0 0 0 0 1 7 8 9"/><item objectid="1"/>'
    relations = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Target="/3D/Objects/1.model" Id="r" Type="{START}"/></Relationships>'
    )
    types = (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="model" '
        'ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/></Types>'
    )
    more = {"3D/_rels/3dmodel.model.rels": relations, "[Content_Types].xml": types}
    data = archive(part(resources, build), other, **more)
    ours = threemf.read(data, LIMIT)
    wrapper = lib3mf.get_wrapper()
    model = wrapper.CreateModel()
    model.QueryReader("3mf").ReadFromBuffer(bytearray(data))
    model_items = model.GetBuildItems()
    assert model_items.Count() == ours.items
    path = tmp_path / "a.stl"
    model.QueryWriter("stl").WriteToFile(str(path))
    rows = np.frombuffer(
        path.read_bytes()[84:], np.dtype([("n", "<f4", 3), ("c", "<f4", (3, 3)), ("a", "<u2")])
    )
    corners = rows["c"].astype(float)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert len(rows) == len(ours.mesh.faces)
    assert area(ours.mesh) == pytest.approx(0.5 * np.linalg.norm(normals, axis=1).sum(), rel=1e-6)
    used = ours.mesh.vertices
    np.testing.assert_allclose(corners.min(axis=(0, 1)), used.min(axis=0), atol=1e-5)
    np.testing.assert_allclose(corners.max(axis=(0, 1)), used.max(axis=0), atol=1e-5)
