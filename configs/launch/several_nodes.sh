#!/usr/bin/env bash
# Two machines with eight GPUs each: run this on both, with MASTER the name of the first. data.cache and run must lie in
# a folder that both see.
set -euo pipefail
CONFIG=${1:-configs/video/wan21_14b_lora_seppo.yaml}
export OMP_NUM_THREADS=8
# seconds that torchrun gives its processes to save and leave before it kills them; its own 30 are few for a checkpoint
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=240
torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_id seppo --rdzv_endpoint "${MASTER:?name of the first machine}:29500" \
  -m -- seppo_video train "$CONFIG" "${@:2}"
