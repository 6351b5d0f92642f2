"""3D formats that are known and not read: what each is, and how its files become ones that are.

A user expects these files to be found. So they are refused by name with what to do, and an index
lists them instead of counting them among text files and textures.
"""

from __future__ import annotations

import os
import pathlib

_ASSIMP = "convert it with `assimp export FILE FILE.glb` (free)"
_BLENDER = "import it in Blender (free) and export it as .glb"
_MESHLAB = "open it in MeshLab (free) and export it as .ply or .stl"
_FREECAD = "open it in FreeCAD (free) and export it as .stl or .obj"
_OWN = "export it from there as .stl, .obj or .3mf"
_MESHIO = "convert its surface with `meshio convert FILE FILE.stl` (free)"
_CLOUD = "open it in CloudCompare (free) and save it as .ply or .xyz"
_NOT_TRIANGLES = "export a triangle mesh of it as .ply, .obj or .glb"

# What it is, what to do, extensions.
_GROUPS = (
    ("a STEP file", _FREECAD, ".stp .step .stpz .p21"),
    ("an IGES file", _FREECAD, ".igs .iges"),
    ("an OpenCASCADE shape", _FREECAD, ".brep .brp"),
    ("a FreeCAD document", _FREECAD, ".fcstd"),
    ("an ACIS solid", _OWN, ".sat .sab"),
    ("a Parasolid solid", _OWN, ".x_t .x_b .xmt_txt .xmt_bin"),
    ("a JT file", _OWN, ".jt"),
    ("a SolidWorks file", _OWN, ".sldprt .sldasm"),
    ("an Inventor file", _OWN, ".ipt .iam"),
    ("a CATIA file", _OWN, ".catpart .catproduct .cgr .3dxml"),
    ("an NX or Creo part", _OWN, ".prt"),
    ("a Solid Edge file", _OWN, ".par .psm"),
    ("a Fusion archive", _OWN, ".f3d .f3z"),
    ("a Rhino file", _OWN, ".3dm"),
    ("a SketchUp file", "export it from there as .stl or .glb", ".skp"),
    ("an OpenSCAD program", "run `openscad -o FILE.stl FILE` (free)", ".scad"),
    ("an IFC building", "convert it with `IfcConvert FILE FILE.glb` (free)", ".ifc"),
    ("a Revit file", "export it from there as .ifc, then `IfcConvert FILE.ifc FILE.glb`", ".rvt"),
    ("a Collada scene", _ASSIMP, ".dae .zae"),
    ("an FBX scene", _BLENDER, ".fbx"),
    ("a Blender file", "export it from Blender (free) as .glb", ".blend"),
    ("a USD scene", _BLENDER, ".usd .usda .usdc .usdz"),
    ("an Alembic cache", _BLENDER, ".abc"),
    ("a 3ds Max file", "export it from there as .obj or .fbx", ".max"),
    ("a 3D Studio mesh", _ASSIMP, ".3ds"),
    ("an ASCII scene of 3ds Max", _ASSIMP, ".ase"),
    ("a Cinema 4D scene", "export it from there as .obj or .glb", ".c4d"),
    ("a Maya scene", "export it from there as .obj or .fbx", ".ma .mb"),
    ("a LightWave object", _ASSIMP, ".lwo .lws .lxo"),
    ("a Modo or Caligari scene", _ASSIMP, ".cob .scn"),
    ("a VRML world", _MESHLAB, ".wrl .wrz .vrml"),
    ("an X3D scene", _MESHLAB, ".x3d .x3dv .x3db .x3dz"),
    ("an AC3D model", _ASSIMP, ".ac .acc .ac3d"),
    ("an AMF file", _ASSIMP, ".amf"),
    ("a DirectX mesh", _ASSIMP, ".x"),
    ("an OpenCTM mesh", _MESHLAB, ".ctm"),
    ("a MilkShape or game model", _ASSIMP, ".ms3d .md2 .md3 .md5mesh .mdc .smd .b3d .iqm .m3d"),
    ("an Irrlicht mesh or scene", _ASSIMP, ".irrmesh .irr"),
    ("an OpenGEX scene", _ASSIMP, ".ogex"),
    ("a mesh of XGL, NFF or Quick3D", _ASSIMP, ".xgl .zgl .nff .q3o .q3s"),
    ("a U3D scene", "export it as .obj or .glb from the program that made it", ".u3d"),
    ("a VRM avatar, which is binary glTF", "name it .glb", ".vrm"),
    ("a Draco mesh", "decode it with `draco_decoder -i FILE -o FILE.ply` (free)", ".drc"),
    ("a mesh for simulation", _MESHIO, ".vtk .vtu .vtp .msh .inp .bdf .nas .med .xdmf"),
    ("a point cloud of another format", _CLOUD, ".pcd .las .laz .e57 .pts .ptx .fls"),
    ("a grid of voxels", _NOT_TRIANGLES, ".vox .binvox .vdb .nvdb"),
    ("a cloud of Gaussians", _NOT_TRIANGLES, ".splat .ksplat .spz"),
)
REASONS = {
    suffix: f"is {what}, which is not read; {advice}"
    for what, advice, suffixes in _GROUPS
    for suffix in suffixes.split()
}


def reason_of(path: str | os.PathLike[str]) -> str:
    """Why a file of a known 3D format is not read and what to do, by its extension; empty for other
    files.
    """
    return REASONS.get(pathlib.PurePath(path).suffix.lower(), "")
