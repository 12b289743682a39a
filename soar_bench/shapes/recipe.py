"""How the embedded base is post-trained unless told otherwise.

These settings replace the published recipe's where the base is the embedded one, whose size and
data are a thousandth of SD3.5-Medium's. They were chosen on the suite ``shapes-dev``
(docs/embedded-world.md).
"""

from __future__ import annotations

from typing import Any

from soar_bench.shapes.captions import MAX_TOKENS

RECIPE: dict[str, Any] = {
    "data": "shapes-clean",
    "resolution": 64,
    "max_sequence_length": MAX_TOKENS,
    "precision": "fp32",
    "batch_size": 16,
    "steps": 1000,
    "ema_decay": 0.995,
    "save_every": 200,
    "log_every": 10,
    "soar": {"points": 4, "rollout_steps": 20, "guidance": 3.0},
    "optimizer": {"lr": 5e-5, "warmup_steps": 20},
}
