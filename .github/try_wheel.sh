#!/usr/bin/env bash
# Uses the installed package as a stranger would, in an empty folder: `bash .github/try_wheel.sh BIN`, where BIN is the
# folder with python and the commands. The wheel has to be installed there with its extra `deploy`.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=$(cd "${1:?folder with python and the commands}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset PYTHONPATH
export HF_HUB_OFFLINE=1 FOPROKD_CACHE=$work/facts MPLBACKEND=Agg

"$bin/python" - "$source" <<'PY'
import importlib, pkgutil, sys
from importlib.metadata import version
from pathlib import Path
import foprokd
where, source = Path(foprokd.__file__).resolve(), Path(sys.argv[1])
assert source/'foprokd' not in where.parents, f'{where} is the source tree, not the installed wheel'
names = [m.name for m in pkgutil.walk_packages(foprokd.__path__, 'foprokd.') if not m.ispkg]
assert len(names) > 50 and len({n.split('.')[1] for n in names if n.count('.') > 1}) == 6, names  # the method, and six wings
for n in names:
    if n != 'foprokd.train.distributed': importlib.import_module(n)  # which needs accelerate, the extra `distributed`
print('Python', sys.version.split()[0], *(f'{n} {version(n)}' for n in ('foprokd', 'torch', 'fastai', 'fastcore', 'timm')), f'{len(names)} modules')
PY

# Flags with dashes and several words are where versions of fastcore differ.
"$bin/foprokd_run" --data demo --n-max 60 --imbalance 10 --method fopro --student test_resnet --distill 2 --seeds 0 --quiet --out demo
test -s demo/results.jsonl
"$bin/foprokd_data" --data demo --out demo
test -s demo/data.html
"$bin/foprokd_table" demo demo/results.jsonl --metrics mcc --n-boot 50
"$bin/foprokd_plot" demo --kind confusion --out confusion.png
test -s confusion.png

"$bin/python" - <<'PY'
from pathlib import Path
from PIL import Image
from foprokd.learner import fopro_learner
from foprokd.data.synth import demo_dls, synth_images
learn = fopro_learner(demo_dls(n_max=40, ratio=10, size=32, bs=16), 'test_resnet')
with learn.no_bar(), learn.no_logging(): learn.fit_fopro(explore=1, distill=1)
learn.export_student('student.onnx', calibration=True)
Path('images').mkdir()
for i, im in enumerate(synth_images([0, 1, 2], size=40, seed=1)): Image.fromarray(im).save(f'images/{i}.png')
PY
"$bin/foprokd_predict" student.onnx images --csv out.csv --level 0.9
test "$(wc -l <out.csv)" = 4
echo "the installed wheel works"
