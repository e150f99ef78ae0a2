"""Training data among the recordings of an evaluation: the figures of the built-in model are too good for them."""

import re
import warnings
from collections.abc import Sequence

from clapedge.errors import ClapEdgeWarning
from clapedge.model.bundle import Manifest
from clapedge_calib.dataset import Example

TRAINED = re.compile(r"[123]-\d+-[A-Z](-(0|1|10|11|12|20|21|38|40|41))?")
"""Names, without suffix, of the recordings in folds 1 to 3 of ESC-10 and of the same classes in ESC-50: fold, Freesound
number, take, and in ESC-50 the class."""


def warn_of_leakage(manifest: Manifest, examples: Sequence[Example]) -> None:
    """Warn of recordings that trained the built-in model, if that is the model."""
    known = sum(TRAINED.fullmatch(example.path.stem) is not None for example in examples)
    if manifest.weights == "demo" and known:
        warnings.warn(
            f"{known} of {len(examples)} recordings are of folds 1 to 3 of ESC-10, which trained the built-in model; "
            "it scores them better than others, so measure with fold 4 or 5",
            ClapEdgeWarning,
            stacklevel=2,
        )
