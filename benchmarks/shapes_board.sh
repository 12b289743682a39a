#!/usr/bin/env bash
# Makes the committed board: base, SFT at equal steps, SFT at equal compute and SOAR over five
# training seeds, on the same prompts and noise, at 10, 20 and 40 sampling steps. About four hours:
# the committed trainings took 1.2 and the evaluations 2.8, on one thread of a machine that did
# other work (a quiet one is up to twice as fast). Stopped, it goes on.
#   bash benchmarks/shapes_board.sh [SEEDS]
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-"0 1 2 3 4"}
# Other numbers of threads and images at once round otherwise, which moves a few images.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
bench() { "${SOAR_BENCH:-.venv/bin/soar-bench}" "$@"; }
judge() { bench eval "${checkpoints[@]}" --batch-size 32 --device cpu "$@"; }

# A SOAR step with K points costs as much as (3 (1 + K) + 1) / 3 SFT steps (a backward pass counts
# as two forward ones): 5.33 for K = 4, so 1067 SFT steps are worth 200 of SOAR.
checkpoints=(shapes)
for seed in $seeds; do
  bench train sft  --base shapes --seed "$seed" --name sft --output "outputs/train/sft-seed$seed"
  bench train soar --base shapes --seed "$seed" --name soar --output "outputs/train/soar-seed$seed"
  bench train sft  --base shapes --seed "$seed" --name sft-equal-compute --steps 1067 \
    --output "outputs/train/sft-equal-compute-seed$seed"
  checkpoints+=("outputs/train/sft-seed$seed" "outputs/train/soar-seed$seed"
                "outputs/train/sft-equal-compute-seed$seed")
done
judge --suite shapes,shapes-signs
judge --suite shapes --steps 10 --images 1
judge --suite shapes --steps 40 --images 1
bench leaderboard
