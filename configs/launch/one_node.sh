#!/usr/bin/env bash
# One machine with eight GPUs. The same line again continues a run that was stopped.
set -euo pipefail
CONFIG=${1:-configs/image/sd15_pickapic_seppo.yaml}
export OMP_NUM_THREADS=8
# seconds that torchrun gives its processes to save and leave before it kills them; its own 30 are few for a checkpoint
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=240
torchrun --standalone --nproc_per_node 8 -m -- seppo_image prepare "$CONFIG" "${@:2}"
torchrun --standalone --nproc_per_node 8 -m -- seppo_image train "$CONFIG" "${@:2}"
# a model that one GPU cannot hold in full: configs/launch/one_node.sh CONFIG.yaml --loop.sharded true
