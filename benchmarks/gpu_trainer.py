"""Steps of SD3.5-Medium's shape, for the parts of benchmarks/gpu.py."""

from __future__ import annotations

from pathlib import Path

#: text tokens: 77 of CLIP and 256 of T5
TOKENS = 333


class Trainer:
    """Steps of a transformer of SD3.5-Medium's shape on random encodings, with our own code."""

    def __init__(self, device: str, small: bool, working_copy: bool = False) -> None:
        import torch

        from benchmarks.sd35m import transformer
        from benchmarks.train_step import pass_flops
        from training.draws import Random
        from training.objectives.flow import draw_time
        from training.objectives.soar import Draws, draw_paths
        from training.parallel import Parallel
        from training.step import Batch
        from training.types import NoiseLevels, Soar

        self._parallel = Parallel("bf16", working_copy)
        torch.manual_seed(0)
        with torch.device(device):
            model = transformer(small)
        self.model = model.requires_grad_(True).train()
        config = model.config
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=1e-5, fused=device == "cuda" or None
        )
        self._model, self.optimizer = self._parallel.prepare(model, self.optimizer, 1.0)
        random = torch.Generator().manual_seed(1)
        self.device, self.side = device, 16 if small else 64
        streams = Random(1, 0, range(4))
        z1, t0 = streams.normal(16, self.side, self.side), draw_time(NoiseLevels(), streams)
        draws = Draws(z1, t0, *draw_paths(z1, Soar(), streams)).to(self._parallel.device)
        words = torch.randn(5, TOKENS, config.joint_attention_dim, generator=random).to(device)
        pooled = torch.randn(5, config.pooled_projection_dim, generator=random).to(device)
        z0 = torch.randn(z1.shape, generator=random).to(device)
        empty = [words[4], pooled[4]]
        self._batch = Batch(self._model, z0, draws, [words[:4], pooled[:4]], empty, 1000)
        self._parallel.refresh()
        #: of a forward pass of one sample; counted here, since compiled passes show none
        self.flop = pass_flops(self.model, self.side, TOKENS)

    def gradients(self, method: str, chunk: int) -> None:
        from training.gradients import add_gradients
        from training.objectives.soar import SoarObjective
        from training.types import Soar

        weight = 1.0 if method == "soar" else 0.0
        objective = SoarObjective(Soar(weight=weight, aux_chunk=chunk), 3.0, lambda *_: [])
        counts = objective.counts([self._batch])
        self._parallel.refresh()
        self.optimizer.zero_grad()
        add_gradients(self._parallel, self._model, objective, [self._batch], counts)

    def step(self, method: str, chunk: int) -> None:
        self.gradients(method, chunk)
        self._parallel.clip(self.model.parameters(), 1.0)
        self.optimizer.step()


def fitting_chunk(device: str, small: bool) -> int:
    """``aux_chunk: auto`` on this device, by the code that a training asks."""
    import torch

    from benchmarks.sd35m import sd35m
    from soar_bench.checkpoints.in_memory import Loaded
    from soar_bench.pipelines.folder import Pipeline
    from soar_bench.trainer.memory import measure
    from training.memory import Place, choose
    from training.types import Config

    loaded = Loaded(sd35m("meta", small))
    memory = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else None
    # With the text tokens of the steps that are measured: 77 are CLIP's.
    config = Config(base="x", data="x", output=Path("x"), max_sequence_length=TOKENS - 77)
    pipeline = Pipeline(loaded.folder)
    return choose(config, lambda c: measure(pipeline, c), Place(memory))[0]
