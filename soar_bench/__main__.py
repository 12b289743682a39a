"""``python -m soar_bench``, for launchers such as ``accelerate launch``."""

from soar_bench.cli import main

main()
