"""Three fixed runs whose losses are kept per platform, see `tests/test_golden.py`: `python tests/golden/runs.py` adds those of this one.

Run it on purpose only: after a change that is meant to move losses, with a line in CHANGELOG.md, or on a platform that is not kept yet."""
import json
import platform
import sys
import warnings
from pathlib import Path

import torch
from fastai.torch_core import set_seed

from foprokd.data.synth import demo_dls
from foprokd.learner import fopro_learner
from foprokd.prompt import IdentityPrompt

KEPT = Path(__file__).with_name('losses.json')
RUNS = dict(ekd=dict(explore=0, distill=2), exploration=dict(explore=2, distill=0), adversarial=dict(explore=0, distill=0, adversarial=2))
DEMO = dict(size=32, bs=16, n_max=16, ratio=4, n_valid=2, n_test=1)


def this_platform():
    "What the losses of a seed depend on: system, processor, version of torch"
    return f"{platform.system()} {platform.machine()} torch {'.'.join(torch.__version__.split('.')[:2])}"


def losses(name, folder=None, **kwargs):
    "The training loss of each step of a run, in one thread"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        set_seed(0, reproducible=True)
        learn = fopro_learner(demo_dls(folder, **DEMO), 'test_resnet', prompt=IdentityPrompt() if name == 'ekd' else None, **kwargs)
        with learn.no_bar(), learn.no_logging(): [phase] = learn.fit_fopro(**RUNS[name])
        return [float(o) for o in phase['losses']]
    finally: torch.set_num_threads(threads)


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    kept[this_platform()] = {name: [float(f'{o:.7g}') for o in losses(name)] for name in RUNS}
    KEPT.write_text(json.dumps(kept, indent=1) + '\n')
    print(json.dumps({this_platform(): kept[this_platform()]}, indent=1), file=sys.stderr)
