#!/usr/bin/env bash
# run.sh FILE ARGS: a Python file on the pretend device, which it sees as `cuda`. PYTHON as in build.sh; FAKECUDA_N: how many devices
# (1); PRETEND_CUDA: the folder that build.sh filled (one in the temporary folder, filled now).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${PRETEND_CUDA:-${TMPDIR:-/tmp}/pretend_cuda_$(id -u)}
[ -e "$out/libcuda.so.1" ] || bash "$here/build.sh" "$out"
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 HF_HUB_OFFLINE=1 MPLBACKEND=agg
export LD_LIBRARY_PATH="$out:${LD_LIBRARY_PATH:-}" PYTHONPATH="$here:${PYTHONPATH:-}"
exec env LD_PRELOAD="$out/libshim.so" "${PYTHON:-python3}" "$@"
