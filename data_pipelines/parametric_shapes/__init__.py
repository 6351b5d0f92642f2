"""The embedded data set: closed meshes of machine parts and household objects, each class a small
program.
"""
