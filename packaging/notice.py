"""Print NOTICE: who made what a clapedge wheel holds beside its own code. python packaging/notice.py > NOTICE."""

import csv
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

HEAD = """\
clapedge
Copyright The clapedge maintainers

Licensed under the Apache License 2.0, see LICENSE. Other packages that it needs are not part of it and have licences
of their own: `clapedge bundle pack` lists those of a kit in sbom.cdx.json, `make release-check` those of the service.

The built-in demo model
-----------------------

clapedge/demo_model was trained on synthesised sounds and on the recordings below, which come from Freesound by way of
ESC-10, a part of ESC-50 (K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015).
No recording is part of clapedge; the clips in clapedge/demo_clips are synthesised. The architecture and the text
format are those of transformers' ClapModel (Apache License 2.0).
"""

LICENCES = {
    "CC-BY": "Creative Commons Attribution 3.0 (https://creativecommons.org/licenses/by/3.0/)",
    "CC0": "Creative Commons Zero 1.0 (https://creativecommons.org/publicdomain/zero/1.0/)",
}
"""The licences of ESC-10's recordings, by their names in its list."""


def notice(attribution: Path = ROOT / "demo/checkpoint/ATTRIBUTION.csv") -> str:
    """Return the text of NOTICE.

    Args:
        attribution: CSV of the recordings, with the columns `title`, `author`, `source` and `licence`.
    """
    by_licence: dict[str, set[str]] = defaultdict(set)
    with attribution.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            by_licence[row["licence"]].add(f'"{row["title"]}" by {row["author"]}, {row["source"]}')
    lists = (
        f"{LICENCES[name]}:\n\n" + "".join(f"- {line}\n" for line in sorted(by_licence[name]))
        for name in sorted(by_licence)
    )
    return "\n".join((HEAD, *lists))


if __name__ == "__main__":
    print(notice(), end="")
