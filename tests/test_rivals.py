"The rivals' own code in a run like ours: a row and its files, which tables read."
import ast
import json

import pytest
from conftest import ROOT, environment, paths, run_file

SCRIPT = ROOT/'benchmarks'/'rivals.py'


def test_what_the_script_takes_from_the_package_is_there():
    "The twin of the long one: private names move, and nothing else here would notice"
    from foprokd.study import experiment, settings
    held, used = dict(experiment=experiment, settings=settings), set()
    for node in ast.walk(ast.parse(SCRIPT.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Attribute) and getattr(node.value, 'id', '') in held: used.add((node.value.id, node.attr))
    assert {('experiment', '_measure'), ('settings', '_check_method')} <= used
    assert [f'{m}.{n}' for m, n in sorted(used) if not hasattr(held[m], n)] == []


@pytest.mark.long
@pytest.mark.parametrize('rival, options', [('timm_logit', ''), ('fasterai', 'loss=SoftTarget')])
def test_a_rival_leaves_a_row_and_its_files(rival, options, tmp_path):
    grid = tmp_path/'grid.yaml'
    grid.write_text('shared: {data: demo, student: test_resnet, teacher: embedded, explore: 1, distill: 1, size: 32}\n'
                    'runs:\n  - {method: kd}\n')
    args = ['--rival', rival, '--grid', grid, '--only', 'kd', '--out', tmp_path/'out', '--method-kwargs', options]
    out = run_file(SCRIPT, [str(a) for a in args], tmp_path, environment(PYTHONPATH=paths()), fresh=False)
    assert out.returncode == 0 and 'could not be written' not in out.stdout, out.stdout[-1000:] + out.stderr[-3000:]
    [row] = map(json.loads, (tmp_path/'out'/'results.jsonl').read_text(encoding='utf-8').splitlines())
    assert row['method'] == rival and 0 < row['balanced_accuracy'] < 1 and rival.split('_')[0] in row['versions']
    files = {p.name for p in (tmp_path/'out').rglob('*')}
    assert {'student.safetensors', 'test_predictions.npz', 'history.json'} <= files
