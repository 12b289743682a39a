#!/usr/bin/env bash
# Makes the committed board: base, SFT at equal steps, SFT at equal compute and SOAR over several
# seeds, on the same prompts and noise. About an hour and a half on two cores; stopped, it goes on.
#   bash benchmarks/shapes_board.sh [SEEDS]
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-"0 1 2"}
bench() { "${SOAR_BENCH:-.venv/bin/soar-bench}" "$@"; }

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
bench eval "${checkpoints[@]}" --suite shapes,shapes-signs
bench eval "${checkpoints[@]}" --suite shapes --steps 10 --images 1
bench leaderboard
