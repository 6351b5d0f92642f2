"""Any folder of meshes as a data set with classes and splits."""
