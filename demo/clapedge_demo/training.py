"""Training of the audio tower: sounds to the anchors of their kinds, in steps that can be stopped and resumed."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from transformers import ClapModel

from clapedge_demo.anchors import make_anchors
from clapedge_demo.batches import Batch, Batches
from clapedge_demo.data import Mel
from clapedge_demo.tower import TrainingTower
from clapedge_demo.weights import load_state, parameter_groups, save_state

WORKERS = 3
"""Threads that train. Each takes a part of every batch: threads within an operator wait for one another too often."""


@dataclass(frozen=True)
class Schedule:
    """How the weights are changed.

    Attributes:
        steps: number of batches.
        warmup: steps in which the learning rate rises.
        decay: share of the steps, the last ones, in which it falls to zero.
        rate: highest learning rate of AdamW.
        weight_decay: of matrices.
        average: share of the old value in the moving average of the weights, which is what is kept in the end.
        smoothing: of the targets, so that probabilities stay below 1.
        scale: largest logit scale.
    """

    steps: int = 6000
    warmup: int = 200
    decay: float = 0.5
    rate: float = 1e-3
    weight_decay: float = 0.05
    average: float = 0.998
    smoothing: float = 0.05
    scale: float = 20.0

    def rate_at(self, step: int) -> float:
        """Return the learning rate at a step."""
        left = (self.steps - step) / (self.steps * self.decay)
        return self.rate * min((step + 1) / self.warmup, 0.5 - 0.5 * math.cos(math.pi * min(1.0, left)))


Report: TypeAlias = Callable[["Trainer", float, float], None]
"""Receives the trainer, the mean loss and the seconds that a step took since the last report."""


class Trainer:
    """An audio tower in training: weights, their moving average, optimiser and step."""

    def __init__(self, model: ClapModel, schedule: Schedule, *, seed: int) -> None:
        """Prepare to train the audio tower of `model` in place."""
        self.model = model
        self.schedule = schedule
        self.seed = seed
        self.step = 0
        self._towers = {quarters: TrainingTower(model, quarters=quarters) for quarters in (2, 4)}
        self._anchors = make_anchors(model.config.projection_dim)
        named = [(n, p) for n, p in model.named_parameters() if n.startswith("audio_") or n == "logit_scale_a"]
        self._parameters = [parameter for _, parameter in named]
        groups = parameter_groups(named, schedule.weight_decay)
        self._optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        self._average = {name: value.clone() for name, value in self._audio_state().items()}
        self._pool = ThreadPoolExecutor(WORKERS)

    def train(self, batches: Batches, *, every: int, report: Report) -> None:
        """Train to the end of the schedule; call `report` every so many steps and at the end."""
        rest = Subset(batches, range(self.step, self.schedule.steps))
        losses: list[float] = []
        began = time.monotonic()
        for batch in DataLoader(rest, batch_size=None, num_workers=1, prefetch_factor=4):
            losses.append(self._learn(batch, self._towers[batches.recipe.quarters(self.step)]))
            self.step += 1
            if self.step % every == 0 or self.step == self.schedule.steps:
                report(self, float(np.mean(losses)), (time.monotonic() - began) / len(losses))
                losses.clear()
                began = time.monotonic()

    def _learn(self, batch: Batch, tower: TrainingTower) -> float:
        """Make one step; every worker takes a part of the batch."""
        torch.manual_seed(self.seed * 1_000_003 + self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = self.schedule.rate_at(self.step)
        self._train_mode()
        share = 1 / len(batch.whole)
        done = list(self._pool.map(lambda part: self._gradients(part, tower, share), batch.split(WORKERS)))
        for parameter, *gradients in zip(self._parameters, *(gradients for _, gradients in done), strict=True):
            known = [gradient for gradient in gradients if gradient is not None]
            parameter.grad = torch.stack(known).sum(0) if known else None
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        with torch.no_grad():
            self.model.logit_scale_a.clamp_(max=math.log(self.schedule.scale))
        self._follow()
        return sum(loss for loss, _ in done)

    def _train_mode(self) -> None:
        """Switch dropout on, but leave BatchNorms as they are.

        That of the mels has the statistics of the data; in those of the fusion a few rows would give poor ones.
        """
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def _gradients(self, part: Batch, tower: TrainingTower, share: float) -> tuple[float, tuple[Tensor | None, ...]]:
        """Return the loss of a part of a batch, each row weighing `share`, and its gradients."""
        # the cache of autocast would be shared by all workers
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            sounds = tower(part.whole, part.crops).float()
        logits = self.model.logit_scale_a.exp() * sounds @ self._anchors.T
        loss = share * F.cross_entropy(logits, part.targets, label_smoothing=self.schedule.smoothing, reduction="sum")
        return float(loss.detach()), torch.autograd.grad(loss, self._parameters, allow_unused=True)

    def _audio_state(self) -> dict[str, Tensor]:
        """Return the tensors of the model without those of the text tower, which is trained elsewhere."""
        return {name: value for name, value in self.model.state_dict().items() if not name.startswith("text_")}

    def _follow(self) -> None:
        """Move the average towards the weights; early on faster, so that it forgets the beginning."""
        keep = min(self.schedule.average, (1 + self.step) / (10 + self.step))
        for name, value in self._audio_state().items():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1 - keep)
            else:
                self._average[name].copy_(value)

    def load_average(self, into: ClapModel) -> ClapModel:
        """Load the averaged audio tower into another model of the same shape and return it, ready to be used."""
        into.load_state_dict(self._average, strict=False)
        return into.eval()

    def save(self, path: Path) -> None:
        """Write everything that is needed to go on."""
        state = {
            "step": self.step,
            "model": self._audio_state(),
            "average": self._average,
            "optimizer": self._optimizer.state_dict(),
            "schedule": asdict(self.schedule),
        }
        save_state(state, path)

    def resume(self, path: Path) -> None:
        """Take up a training that `save` wrote."""
        state = load_state(path)
        self.step = state["step"]
        self.model.load_state_dict(state["model"], strict=False)
        self._average = state["average"]
        self._optimizer.load_state_dict(state["optimizer"])


def set_input_statistics(model: ClapModel, mels: Sequence[Mel]) -> None:
    """Fix the BatchNorm over mel bands to the mean and variance of the training mels."""
    frames = torch.from_numpy(np.concatenate(mels).astype(np.float32))
    norm = model.audio_model.audio_encoder.batch_norm
    statistics = {"running_mean": frames.mean(0), "running_var": frames.var(0)}
    norm.load_state_dict(statistics, strict=False)
