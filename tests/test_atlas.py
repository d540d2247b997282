"An atlas that is killed in the middle measures only what is missing."
import signal
import subprocess
import sys
from pathlib import Path

from conftest import environment, paths, run_file

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


def start(cwd, *args):
    "The script in a second process"
    (cwd/'atlas.py').write_text(CODE)
    return subprocess.Popen([sys.executable, 'atlas.py', *map(str, args)], cwd=cwd, env=environment(PYTHONPATH=paths()), stdout=subprocess.PIPE, text=True)


def said(cwd, folder):
    "Lines of the script once it has ended"
    res = run_file(cwd/'atlas.py', [folder], cwd, environment(PYTHONPATH=paths()), False)
    assert res.returncode == 0, res.stderr[-2000:]
    return res.stdout.splitlines()


def test_a_killed_atlas_goes_on(tmp_path):
    folder = tmp_path/'atlas'
    killed = start(tmp_path, folder, 'slow')
    lines = [killed.stdout.readline().strip() for _ in range(3)]
    assert lines == ['untrained 0 measured', 'untrained 1 measured', 'inside']
    killed.send_signal(signal.SIGKILL)
    killed.wait(30)
    whole = next(folder.glob('untrained_1-*.safetensors'))
    (folder/f'.{whole.name}.1').write_bytes(whole.read_bytes()[:100]) # what a kill while writing leaves behind
    *lines, sums = said(tmp_path, folder)
    assert lines == [f'untrained {i} {"found" if i < 2 else "measured"}' for i in range(4)]
    *_, whole = said(tmp_path, tmp_path/'other')
    assert sums == whole
    assert len(list(Path(folder).glob('[!.]*'))) == 8
