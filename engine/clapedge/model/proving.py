"""A proof for a bundle that was exported without one."""

import msgspec

from clapedge.features.clips import ClipMaker
from clapedge.model.bundle import Bundle, write_manifest
from clapedge.model.proof import embed_audio, make_proof
from clapedge.model.proof_inputs import PROMPTS
from clapedge.model.towers import AudioTower, TextTower


def prove(bundle: Bundle) -> Bundle:
    """Put into a manifest what the float32 towers give here, and return the bundle; nothing else of it changes.

    Raises:
        BundleError: the bundle has no float32 audio tower.
    """
    manifest = bundle.manifest
    audio = AudioTower(bundle.path(bundle.file("audio", "fp32")))
    rows, text = embed_audio(audio, ClipMaker(manifest.front_end)), None
    if "fp32" in bundle.variants("text"):
        file, tokenizer = bundle.file("text", "fp32"), bundle.read(bundle.file("tokenizer"))
        text = TextTower(bundle.path(file), tokenizer, max_tokens=manifest.max_tokens).embed(PROMPTS)
    write_manifest(bundle.directory, msgspec.structs.replace(manifest, proof=make_proof(rows, text)))
    return Bundle.open(bundle.directory)
