#!/bin/sh
# What only a GPU can show, in at most eight minutes on one card of 80 GB: one JSON and one table.
#   bash benchmarks/gpu.sh                        # writes outputs/gpu/gpu.json and gpu.md
#   bash benchmarks/gpu.sh --small --device cpu   # the same program in small, to try it
cd "$(dirname "$0")/.." && exec "${PYTHON:-python}" benchmarks/gpu.py "$@"
