"An atlas that is killed in the middle measures only what is missing."
import os
import signal
import time
from pathlib import Path

from conftest import environment, paths, run_file, start_file

CODE = '''
import sys, time
import torch
from foprokd.frequency import atlas
from foprokd.frequency.atlas import frequency_atlas
if len(sys.argv) > 2: # the place to be killed: inside the measurement of the third model
    measure, calls = atlas.sensitivity_map, []
    def slow(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3: print('inside', flush=True); time.sleep(600)
        return measure(*args, **kwargs)
    atlas.sensitivity_map = slow
models = {f'untrained {i}': dict(model='test_resnet', pretrained=False, seed=i) for i in range(4)}
def report(name, what): print(name, what, flush=True)
x = torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
atlas = frequency_atlas(models, x, sys.argv[1], gains=(0.,), progress=False, report=report)
print([round(float(m.cosine.sum()), 6) for m in atlas.maps.values()])
'''


def said(cwd, folder):
    "Lines of the script once it has ended"
    res = run_file(cwd/'atlas.py', [folder], cwd, environment(PYTHONPATH=paths()), False)
    assert res.returncode == 0, res.stderr[-2000:]
    return res.stdout.splitlines()


def test_a_killed_atlas_goes_on(tmp_path):
    folder = tmp_path/'atlas'
    out = tmp_path/'out.txt'
    (tmp_path/'atlas.py').write_text(CODE)
    killed = start_file(tmp_path/'atlas.py', [folder, 'slow'], tmp_path, environment(PYTHONPATH=paths()), out, tmp_path/'err.txt')
    while 'inside\n' not in (out.read_text() if out.exists() else '') and killed.poll() is None: time.sleep(.01)
    assert out.read_text().splitlines() == ['untrained 0 measured', 'untrained 1 measured', 'inside'], (tmp_path/'err.txt').read_text()[-2000:]
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    whole = next(folder.glob('untrained_1-*.safetensors'))
    (folder/f'.{whole.name}.1').write_bytes(whole.read_bytes()[:100]) # what a kill while writing leaves behind
    *lines, sums = said(tmp_path, folder)
    assert lines == [f'untrained {i} {"found" if i < 2 else "measured"}' for i in range(4)]
    *_, whole = said(tmp_path, tmp_path/'other')
    assert sums == whole
    assert len(list(Path(folder).glob('[!.]*'))) == 8
