"""The Mechanical Components Benchmark, or any tree of OBJ files in its layout."""
