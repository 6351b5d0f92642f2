"""Tables 1 and 2 of the ULIP-2 fine-tuning paper (Computers & Graphics 122, 2024, 103993)."""

from __future__ import annotations

COLUMNS = ("MN40", "SN_Norm", "SN_Per", "MCB", "Prop", "ObjaEasy", "ScanObjectNN")
# Table 1, nearest-neighbour accuracy in per cent; None: not given (the scans have no meshes).
TABLE_1 = {
    "PointNet++/random": (76.0, 74.9, 38.3, 83.1, 55.9, 55.9, 41.7),
    "PointNet++/classification": (90.2, 84.7, 73.1, 95.4, 71.0, 72.4, 79.8),
    "PointNet++/vicreg": (88.7, 83.4, 74.2, 94.7, 71.7, 73.4, 75.2),
    "PointBERT/random": (78.0, 75.9, 40.4, 88.4, 56.8, 57.1, 43.2),
    "PointBERT/classification": (89.6, 85.2, 78.3, 96.4, 71.7, 75.0, 82.3),
    "PointBERT/vicreg": (85.5, 81.2, 68.1, 95.1, 64.3, 68.8, 56.3),
    "PointBERT/mmcl": (86.6, 83.5, 76.4, 95.6, 66.5, 75.6, None),
    "ULIP2/pretrained": (88.7, 86.6, 78.5, 96.3, 77.6, 85.1, 76.3),
    "ULIP2/classification": (93.1, 89.1, 84.8, 97.4, 82.6, 88.1, 93.2),
    "ULIP2/vicreg": (90.7, 86.4, 81.9, 96.1, 79.4, 84.0, 78.2),
    "ULIP2/mmcl": (91.5, 86.5, 80.7, 96.4, 78.1, 87.1, None),
}

# Table 2 sets ULIP2/classification beside networks that see rendered views.
TABLE_2 = {
    "View-GCN/classification": (93.1, 86.9, 83.1, 97.3, 80.3, 88.4, None),
    "MVTN/classification": (92.7, 88.9, 85.2, 97.1, 79.5, 87.8, 91.8),
}


def published(row: str, column: str) -> dict[str, dict[str, float]]:
    """One number of tables 1 and 2 as `config.published` takes it; nothing where there is none.

    row: "NETWORK/OBJECTIVE". column: one of COLUMNS.
    """
    table = 1 if row in TABLE_1 else 2
    number = (TABLE_1 | TABLE_2)[row][COLUMNS.index(column)]
    return (
        {}
        if number is None
        else {f"{row} on {column} (paper, table {table})": {"nn_acc": round(number / 100, 4)}}
    )
