#!/usr/bin/env bash
# Makes the committed board: base, SFT, SOAR and SOAR at SFT's compute over five training seeds, on
# the same prompts and noise; 20 sampling steps, and 5, 10 and 40, and guidance 6. Two core-hours of
# training (a SOAR step takes five times as long as one of SFT) and two of evaluation. Stopped, it
# goes on.
#   bash benchmarks/shapes_board.sh [SEEDS]
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-"0 1 2 3 4"}
# Other numbers of threads and images at once round otherwise, which moves a few images.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
bench() { "${SOAR_BENCH:-.venv/bin/soar-bench}" "$@"; }
judge() { bench eval "$@" --batch-size 32 --device cpu; }

# A SOAR step with K points costs as much as (3 (1 + K) + 1) / 3 SFT steps (a backward pass counts
# as two forward ones): 5.33 for K = 4, so 200 steps of SOAR are worth 1,067 of SFT.
checkpoints=(shapes)
early=()
for seed in $seeds; do
  for method in sft soar; do
    bench train $method --base shapes --seed "$seed" --name $method \
      --output "outputs/train/$method-seed$seed"
    checkpoints+=("outputs/train/$method-seed$seed")
  done
  early+=("outputs/train/soar-seed$seed/checkpoint-000200")
done
judge "${checkpoints[@]}" "${early[@]}" --suite shapes,shapes-signs
judge "${checkpoints[@]}" --suite shapes --steps 5,10,40 --images 1
judge "${checkpoints[@]}" --suite shapes --guidance 6 --images 1
bench leaderboard
