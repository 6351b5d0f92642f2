"""ScanObjectNN: objects cut from scans of real rooms."""
