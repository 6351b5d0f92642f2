"""ModelNet10 and ModelNet40 from OFF meshes, PointNet HDF5 files or resampled text clouds."""
