"""The export side of clapedge: a checkpoint becomes a verified bundle. Runs on a workstation, once.

Example:
    >>> from pathlib import Path
    >>> from clapedge_export import ExportOptions, export_bundle
    >>> export_bundle("laion/clap-htsat-fused", Path("bundles/fused"), ExportOptions(precisions=("fp32", "fp16")))
    ... # doctest: +SKIP
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clapedge_export.export import export_bundle as export_bundle
    from clapedge_export.options import ExportOptions as ExportOptions

__all__ = ["ExportOptions", "export_bundle"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562), so that `clapedge export --help` loads no torch."""
    if name == "export_bundle":
        from clapedge_export.export import export_bundle

        return export_bundle
    if name == "ExportOptions":
        from clapedge_export.options import ExportOptions

        return ExportOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
