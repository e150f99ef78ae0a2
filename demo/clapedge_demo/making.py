"""The whole way from recordings and seeds to a checkpoint."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import ClapModel, RobertaTokenizer

from clapedge_demo import captions, data, synth
from clapedge_demo.batches import Batches, Recipe
from clapedge_demo.card import write_card
from clapedge_demo.evaluation import accuracy
from clapedge_demo.model import new_model, save_checkpoint, train_tokenizer
from clapedge_demo.text_training import TextRecipe, train_text
from clapedge_demo.training import Schedule, Trainer, set_input_statistics
from clapedge_demo.weights import load_state, save_state
from clapedge_demo.wordings import RECORDED, SYNTHESISED

TRAINING_FOLDS = (1, 2, 3)
VALIDATION_FOLD = 4
SOUNDS_PER_KIND = 80
"""Synthesised sounds of every kind to train with."""
VALIDATION_PER_KIND = 4
HALVED = 0.7
"""Share of the steps, the first ones, that hear half clips."""
REPORT_EVERY = 250
"""Steps from one saved state to the next."""
TEXT_STATE, AUDIO_STATE = "text.pt", "training.pt"


@dataclass(frozen=True)
class Options:
    """What is made of what.

    Attributes:
        esc10: folder of ESC-10 with its `clips.csv`.
        out: directory of the checkpoint.
        work: directory of mels and of the state of the training, which goes on where it stopped.
        steps: of the audio tower.
        seed: of everything that is random.
    """

    esc10: Path
    out: Path
    work: Path
    steps: int = Schedule.steps
    seed: int = 0


def make(options: Options) -> None:
    """Train both towers and write the checkpoint with its model card."""
    torch.set_num_threads(1)  # the training has threads of its own
    torch.manual_seed(options.seed)
    table = data.read_table(options.esc10)
    tokenizer = train_tokenizer(captions.training_texts())
    model = new_model(len(tokenizer))
    _make_text_tower(model, tokenizer, options)
    _make_audio_tower(model, table, options)
    partial = options.out.with_name(options.out.name + ".partial")
    save_checkpoint(model, tokenizer, partial)
    trained = [row for row in table if row.fold in TRAINING_FOLDS]
    write_card(partial, trained, steps=options.steps, seed=options.seed, fold=VALIDATION_FOLD)
    shutil.rmtree(options.out, ignore_errors=True)
    partial.rename(options.out)
    for state in (TEXT_STATE, AUDIO_STATE):  # what is finished is not gone on with
        (options.work / state).unlink()
    print(f"{options.out} is written", file=sys.stderr)


def _make_text_tower(model: ClapModel, tokenizer: RobertaTokenizer, options: Options) -> None:
    """Train the text tower of `model`, or load it if that is done."""
    state = options.work / TEXT_STATE
    if not state.exists():
        print("training the text tower ...", file=sys.stderr)
        train_text(model, tokenizer, recipe=TextRecipe(), seed=options.seed)
        options.work.mkdir(parents=True, exist_ok=True)
        text = {name: value for name, value in model.state_dict().items() if name.startswith("text_")}
        save_state(text, state)
    model.load_state_dict(load_state(state), strict=False)


def _make_audio_tower(model: ClapModel, table: list[data.Recording], options: Options) -> None:
    """Train the audio tower and load the average of its weights into `model`."""
    cache = options.work / "mels"
    recorded = data.recorded([row for row in table if row.fold in TRAINING_FOLDS], cache)
    synthesised = data.synthesised([*synth.KINDS, *synth.IMITATIONS], cache, count=SOUNDS_PER_KIND)
    fold = data.recorded([row for row in table if row.fold == VALIDATION_FOLD], cache, speeds=(1.0,))
    unseen = data.synthesised(synth.KINDS, cache, count=VALIDATION_PER_KIND, first_seed=data.UNSEEN_SEEDS)
    set_input_statistics(model, [*recorded.mels[:: len(data.SPEEDS)], *synthesised.mels[::10]])
    shadow = new_model(model.text_model.embeddings.word_embeddings.num_embeddings)
    trainer = Trainer(model, Schedule(steps=options.steps), seed=options.seed)
    state = options.work / AUDIO_STATE
    if state.exists():
        trainer.resume(state)
        print(f"going on at step {trainer.step}; delete {options.work} to begin anew", file=sys.stderr)

    def report(trainer: Trainer, loss: float, seconds: float) -> None:
        trainer.save(state)
        trainer.load_average(shadow)
        figures = (accuracy(shadow, fold, tuple(RECORDED)), accuracy(shadow, unseen, tuple(SYNTHESISED)))
        print(
            f"step {trainer.step}/{options.steps}: loss {loss:.3f}, {seconds:.2f} s a step, fold {VALIDATION_FOLD} "
            f"{figures[0]:.3f}, synthesised {figures[1]:.3f}, scale {shadow.logit_scale_a.exp().item():.1f}",
            file=sys.stderr,
            flush=True,
        )

    recipe = Recipe(halved=int(options.steps * HALVED), seed=options.seed)
    trainer.train(Batches(recorded, synthesised, recipe=recipe, steps=options.steps), every=REPORT_EVERY, report=report)
    trainer.load_average(model)
