#!/usr/bin/env bash
# What a machine with GPUs would run, on a pretend one (benchmarks/pretend_cuda): notebooks, two processes with a GPU each, and what a
# step of each phase waits for. It shows faults of placement and logic, and the waits of the host; nothing of a GPU's arithmetic or speed. Where the
# device cannot be built it says so, on one line, and ends well.
#   PYTHON=... bash tools/pretend_gpu.sh          what CI runs: pages that move tensors, two processes with a GPU each, the waits
#   PYTHON=... bash tools/pretend_gpu.sh all      what the nightly workflow runs: many more pages, and gpu_check.py with NCCL in one process
#   PYTHON=... bash tools/pretend_gpu.sh pages    one part of it: pages, a_device_each, processes, checks, all_pages, all_checks
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export PYTHON=${PYTHON:-$root/.venv-dev/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PRETEND_CUDA=$work/built FOPROKD_CACHE=$work/facts PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
unset CUDA_VISIBLE_DEVICES
device=$root/benchmarks/pretend_cuda

said=$(bash "$device/build.sh" "$PRETEND_CUDA" 2>&1)
status=$?
if [ $status = 0 ]; then
    said=$("$device/run.sh" -c "import torch; x = torch.ones(2, device='cuda'); print('works', (x + x).sum().item())" 2>&1) || status=3
fi
if [ $status != 0 ]; then
    echo "left out: $(tail -n 1 <<<"$said")"
    exit 0
fi

notebooks() { "$device/run.sh" "$device/notebooks.py" "$@"; }
pages() { notebooks nbs/{10,12,15,30,32,34}_*.ipynb; }
all_pages() { notebooks nbs/[0-9]*.ipynb nbs/train/*.ipynb nbs/frequency/*.ipynb nbs/tutorials/0[0-6]_*.ipynb; }
ranks() { FAKECUDA_N=2 "$device/run.sh" -m pytest -q -p no:cacheprovider tests/test_distributed.py -m "not long" -k "$1"; }
a_device_each() { PARTS=exported ranks exported; }
processes() { ranks "gradients or same_weights or each_phase or ranks_draw or predictions or exported"; }
checks() { "$PYTHON" -m pytest -q -p no:cacheprovider tests/test_faults_gpu.py -k pretend; }
all_checks() { checks && "$device/run.sh" benchmarks/gpu_check.py --small --only given_on_device,waits,prior,nccl; }

case "$*" in
    '') asked=("pages a_device_each" checks) ;;
    all) asked=(all_pages "processes all_checks") ;;
    *) asked=("$@") ;;
esac
pids=()
for part in "${asked[@]}"; do
    (code=0; for p in $part; do $p >"$work/$p.log" 2>&1 || code=1; done; exit $code) &
    pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
for part in "${asked[@]}"; do
    for p in $part; do printf '%s\n' "--- $p"; tail -n 60 "$work/$p.log"; done
done
exit $failed
