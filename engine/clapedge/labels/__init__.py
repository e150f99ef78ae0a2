"""Words to a label set, and a label set to embeddings.

A label is what the user reads, a prompt what the text tower reads; a label with several prompts is their average.
"""

from clapedge.labels.embedded import EmbeddedLabels, TextEncoder
from clapedge.labels.files import find_file, shipped_sets
from clapedge.labels.label import DEFAULT_TEMPLATE, NOVELTY, Label, fill
from clapedge.labels.label_set import LabelSet

__all__ = [
    "DEFAULT_TEMPLATE",
    "NOVELTY",
    "EmbeddedLabels",
    "Label",
    "LabelSet",
    "TextEncoder",
    "fill",
    "find_file",
    "shipped_sets",
]
