"""One seed, one row: whatever process, whatever was done in it before, however many workers load the images."""
import json

import pytest
import torch
from safetensors.torch import load_file

from conftest import LAUNCHER, NO_FIGURES, command, environment, paths, python, run_file

IMAGES = '''
from foprokd.data.synth import demo_set
demo_set('images', n_max=12, ratio=2, n_valid=2, n_test=2, size=32)
'''
BEFORE = NO_FIGURES + '''
import random
import numpy as np
import torch
from foprokd.study.jobs import run_grid
from foprokd.study.settings import RunConfig

if __name__ == '__main__':
    kwargs = dict(data='images', student='test_resnet', size=32, bs=16, explore=1, distill=1)
    random.random(), np.random.rand(7), torch.rand(99)
    run_grid([(RunConfig(method='kd', out='other', **kwargs), [5])], bar=False)
    run_grid([(RunConfig(method='fopro_akd', adversarial=1, out='after', **kwargs), [1, 0])], bar=False)
'''
AGREE = ('seconds', 'finished', 'settings', 'phase_history', 'git_dirty', 'git_commit') # what may differ, or is compared in part


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    "The same run by itself, with two workers, and in a process that has done other work, each as (row, weights)"
    cwd = tmp_path_factory.mktemp('seed')
    made = python(IMAGES, cwd)
    assert made.returncode == 0, made.stderr[-2000:]
    run = command('foprokd_run', 'study.commands', cwd)
    flags = '--data images --method fopro_akd --student test_resnet --size 32 --bs 16 --explore 1 --distill 1 --adversarial 1 --quiet --seeds 0'.split()
    (cwd/'alone.py').write_text(NO_FIGURES + LAUNCHER.format('study.commands', 'foprokd_run', 'foprokd_run'))
    env = environment(PYTHONPATH=paths(), FOPROKD_CACHE=str(cwd/'facts'))
    alone = run_file(cwd/'alone.py', [*flags, '--out', 'alone'], cwd, env, fresh=True) # what the two forks share is drawn anew for it
    ended = [alone, run(*flags, '--out', 'workers', '--workers', 2), python(BEFORE, cwd, FOPROKD_CACHE=str(cwd/'facts'))]
    for res in ended: assert res.returncode == 0, res.stderr[-2000:]

    def of(out, seed):
        [row] = [r for r in map(json.loads, (cwd/out/'results.jsonl').read_text().splitlines()) if r['seed'] == seed]
        [folder] = (cwd/out).glob(f'fopro_akd*_seed{seed}')
        return row, {**load_file(folder/'student.safetensors'), **{f'prompt.{k}': v for k, v in load_file(folder/'prompt.safetensors').items()}}
    return dict(alone=of('alone', 0), workers=of('workers', 0), after=of('after', 0), other_seed=of('after', 1))


def same(a, b):
    "Names of what differs between two runs"
    (row, sd), (row2, sd2) = a, b
    phases = [[{k: v for k, v in p.items() if k != 'seconds'} for p in r['phase_history']] for r in (row, row2)]
    res = [k for k in {*row, *row2} - {*AGREE} if row.get(k) != row2.get(k)] + ['phase_history'] * (phases[0] != phases[1])
    return res + [k for k in {*sd, *sd2} if k not in sd or k not in sd2 or not torch.equal(sd[k], sd2[k])]


@pytest.mark.parametrize('how', ['workers', 'after'])
def test_the_row_the_curves_and_the_weights_are_the_same(runs, how): assert same(runs['alone'], runs[how]) == []


def test_another_seed_is_another_run(runs):
    differs = same(runs['alone'], runs['other_seed'])
    assert 'seed' in differs and 'phase_history' in differs and any(k.endswith('.weight') for k in differs)
