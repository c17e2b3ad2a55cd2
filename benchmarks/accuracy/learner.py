"""The training of one network from a pool of patches, as `pooled.py` does many of at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pool import COMPANIONS, Pool
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pleural.data.split import Split
from pleural.loop import forgetting_average, halved
from pleural.loss import KnownOnly
from pleural.prepared import Sample
from pleural.start import start_from
from pleural.tuned import tuned

LAST = 0.1  # share of a training over which its loss is averaged


class Learner:
    """The training of one network, a step at a time; on a GPU on a stream of its own.

    Streams overlap the small kernels of several networks, and graphs leave no time between them.
    """

    def __init__(self, made: DictConfig, pool: Pool, held_out: str, device: torch.device) -> None:
        self.made, self.pool, self.held_out, self.device = made, pool, held_out, device
        torch.manual_seed(made.seed)
        nets = [instantiate(made.model) for _ in range(2)]
        for net in nets:
            start_from(made.start, net, Split([], [], []))  # phantoms: whoever validates
        self.net, self.average = (tuned(net).to(device) for net in nets)
        self.averages, self.weights = (
            [*net.state_dict().values()] for net in (self.average, self.net)
        )
        self.loss = KnownOnly(instantiate(made.loss)).to(device)
        self.schedule = instantiate(made.scheduler)
        self.optimizer = instantiate(made.optimizer)(
            self.net.parameters(),
            lr=torch.zeros((), device=device),
            capturable=device.type == "cuda",
        )
        self.rate = self.optimizer.param_groups[0]["lr"]
        self.n_steps = int(made.epochs * made.dataset.steps_per_epoch)
        self.done = 0
        self.image = torch.zeros(made.dataset.cases_per_batch, 1, *made.patch_size, device=device)
        self.label = torch.zeros_like(self.image)
        self.summed = torch.zeros((), device=device)
        self.random = np.random.default_rng(made.seed)
        self.cases = self._cases()
        self.stream = torch.cuda.Stream() if device.type == "cuda" else None
        self.learn = {coarse: self._captured(coarse) for coarse in (True, False)}

    def step(self, available: int) -> None:
        progress = self.done / self.n_steps
        with torch.cuda.stream(self.stream):
            for image, label in zip(self.image, self.label, strict=True):
                drawn = next(self.cases), int(self.random.integers(available))
                for place, patch in zip((image[0], label[0]), self.pool.patch(*drawn), strict=True):
                    place.copy_(patch)
            self.rate.fill_(self.made.optimizer.lr * self.schedule(progress))
            if self.done == self._last:
                self.summed.zero_()
            self.learn[progress < self.made.coarse_until]()
            with torch.no_grad():
                decay = self.made.ema_decay or 0.0
                forgetting_average(decay, self.averages, self.weights, self.done)
        self.done += 1

    @property
    def last_loss(self) -> float:
        return float(self.summed) / (self.n_steps - self._last)

    def probability(self, sample: Sample) -> np.ndarray:
        """0 to 255, ``(X, Y, Z)``, of the averaged network, on the grid of ``sample``."""
        image = torch.from_numpy(sample["image"])[None].float().to(self.device)
        inferer = instantiate(self.made.inference)
        with torch.inference_mode(), self._autocast():
            logits: Tensor = inferer(image, self.average.eval())
        whole: np.ndarray = (logits[0, 0].float().sigmoid() * 255).round().byte().cpu().numpy()
        return whole

    @property
    def _last(self) -> int:
        return int((1 - LAST) * self.n_steps)

    def _cases(self) -> Iterator[int]:
        unseen = {self.held_out} if self.made.companions else {self.held_out, COMPANIONS}
        own = [number for number, name in enumerate(self.pool.names) if name not in unseen]
        while True:
            yield from self.random.permutation(own).tolist()

    def _autocast(self) -> torch.autocast:
        on_gpu = self.device.type == "cuda"  # on most CPUs, bf16 takes far longer
        return torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu)

    def _learn(self, coarse: bool) -> None:
        image, label = self.image, self.label
        if coarse:
            image, label = halved(image), halved(label)
        with self._autocast():
            logits = self.net(image.contiguous(memory_format=torch.channels_last_3d))
        # As DeepSupervisionLoss, which no graph can capture: it makes a tensor of a number.
        loss = torch.zeros((), device=self.device)
        for depth, level in enumerate([logits] if isinstance(logits, Tensor) else logits):
            wanted = interpolate(label, level.shape[2:], mode="nearest-exact")
            loss = loss + 0.5**depth * self.loss(level.float(), wanted)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.made.trainer.gradient_clip_val)
        self.optimizer.step()
        self.summed += loss.detach()

    def _captured(self, coarse: bool) -> Callable[[], None]:
        def eager() -> None:
            self.optimizer.zero_grad(set_to_none=True)
            self._learn(coarse)

        if self.stream is None:
            return eager
        before = [value.clone() for value in self.weights]
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(3):  # at a rate of 0
                eager()
        torch.cuda.synchronize()
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            self._learn(coarse)
        with torch.no_grad():  # as if nothing had been learnt
            for value, as_it_was in zip(self.weights, before, strict=True):
                value.copy_(as_it_was)
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()
            self.summed.zero_()
        torch.cuda.synchronize()
        replay: Callable[[], None] = graph.replay
        return replay
