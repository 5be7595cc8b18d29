"""nnU-Net's trainer with a schedule that ends at a budget; runs in nnU-Net's environment."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from benchmarks.accuracy.budget import Budget, poly
from benchmarks.accuracy.meter import Meter


@dataclass(frozen=True)
class Arithmetic:
    """How a training step is computed: float32 as nnU-Net does on a CPU, or with autocast."""

    bfloat16: bool = False
    channels_last: bool = False

    def __str__(self) -> str:
        name = "bfloat16 autocast" if self.bfloat16 else "float32"
        return f"{name}, channels last" if self.channels_last else name


CANDIDATES = (
    Arithmetic(),
    Arithmetic(bfloat16=True),
    Arithmetic(bfloat16=True, channels_last=True),
)


def possible() -> tuple[Arithmetic, ...]:
    """Of the candidates those that oneDNN computes here.

    Without instructions for it, PyTorch computes bfloat16 by loops on one core: ten minutes did
    not suffice for one step of nnU-Net's own plan of ``ms_lesions``.
    """
    bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return tuple(one for one in CANDIDATES if bfloat16 or not one.bfloat16)


class BudgetTrainer(nnUNetTrainer):
    """nnU-Net's training in one stretch, annealed by a budget instead of 1,000 epochs.

    Optimiser, loss, deep supervision, augmentation, oversampling and gradient clipping are those
    of nnU-Net. The learning rate follows its decay at every iteration, not every 250, and nothing
    is spent on its validation between epochs. Set ``budget`` and ``arithmetic`` before training.
    """

    budget: Budget
    arithmetic = Arithmetic()
    report: dict[str, Any]

    def run_training(self) -> None:
        """Train until the budget is used; the checkpoint is nnU-Net's."""
        self.on_train_start()
        self._lay_out()
        self.network.train()
        losses: list[float] = []
        meter = Meter()
        while (progress := self.budget.progress(len(losses), meter.seconds)) < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = poly(self.initial_lr, progress)
            losses.append(float(self.train_step(next(self.dataloader_train))["loss"]))
            if len(losses) % 10 == 0:
                recent = statistics.fmean(losses[-10:])
                print(f"{len(losses)} iterations, {meter.seconds:.0f} s: {recent:.4f}", flush=True)
        self.report = {
            **meter.read(),
            "iterations": len(losses),
            "batch": self.batch_size,
            "patch": list(self.configuration_manager.patch_size),
            "arithmetic": str(self.arithmetic),
            "first_losses": _mean(losses[:10]),
            "last_losses": _mean(losses[-10:]),
        }
        self.on_train_end()

    def train_step(self, batch: dict) -> dict:
        """One step of nnU-Net, in the arithmetic chosen; the loss is always float32."""
        data, target = batch["data"], batch["target"]
        if self.arithmetic.channels_last:
            data = data.contiguous(memory_format=torch.channels_last_3d)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.arithmetic.bfloat16):
            outputs = self.network(data)
        loss = self.loss([output.float() for output in outputs], target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        self.optimizer.step()
        return {"loss": loss.detach().numpy()}

    def calibrate(self, steps: int = 3) -> dict[str, Any]:
        """Seconds per step of each possible arithmetic on made-up patches; spoils the network.

        Returns
        -------
        dict
            ``fastest``: the arguments of an :class:`Arithmetic`; ``seconds``: medians by name.
        """
        self.initialize()
        self.set_deep_supervision_enabled(True)
        batch = self._made_up_batch()
        taken: dict[Arithmetic, list[float]] = {candidate: [] for candidate in possible()}
        for _ in range(1 + steps):  # in turns, as other work comes and goes; the first warms up
            for candidate, samples in taken.items():
                self.arithmetic = candidate
                self._lay_out()
                samples.append(self._timed(batch))
        medians = {one: statistics.median(samples[1:]) for one, samples in taken.items()}
        fastest = min(medians, key=medians.__getitem__)
        seconds = {str(one): round(median, 3) for one, median in medians.items()}
        return {"fastest": asdict(fastest), "seconds": seconds}

    def _lay_out(self) -> None:
        last = self.arithmetic.channels_last
        self.network.to(memory_format=torch.channels_last_3d if last else torch.contiguous_format)

    def _timed(self, batch: dict) -> float:
        started = time.perf_counter()
        self.train_step(batch)
        return time.perf_counter() - started

    def _made_up_batch(self) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(0)
        patch = self.configuration_manager.patch_size
        shape = (self.batch_size, self.num_input_channels, *patch)
        heads = self.label_manager.num_segmentation_heads
        targets = []
        for scales in self._get_deep_supervision_scales():
            size = [round(n * s) for n, s in zip(patch, scales, strict=True)]
            labels = torch.randint(heads, (self.batch_size, 1, *size), generator=generator)
            targets.append(labels.float())
        return {"data": torch.randn(shape, generator=generator), "target": targets}


def _mean(values: list[float]) -> float | None:
    return round(statistics.fmean(values), 4) if values else None
