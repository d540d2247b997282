"The table beside other packages: complete, printed as it stands on the front page, and our column is true today."
import json

import pytest
from checks import cell_source, read_notebooks
from conftest import ROOT, environment, paths, run_file

SCRIPT, FILE = ROOT/'benchmarks'/'compare_rivals.py', ROOT/'results'/'rivals_checked.json'
COLUMNS = 'foprokd', 'fasterai', 'timm', 'torchdistill', 'paper'


def script(*args, cwd=ROOT):
    "What the script prints"
    out = run_file(SCRIPT, args, cwd, environment(PYTHONPATH=paths()), fresh=False)
    assert out.returncode == 0, out.stderr[-3000:]
    return out.stdout


@pytest.fixture(scope='module')
def known(): return json.loads(FILE.read_text(encoding='utf-8'))


def test_every_cell_has_its_evidence(known):
    assert tuple(known['columns']) == COLUMNS and 10 <= len(known['rows']) <= 14
    assert known['date'] == max(c['date'] for c in known['columns'].values()) and known['torch'] and known['machine']
    for name, column in known['columns'].items():
        assert set(column['cells']) == set(known['rows']) and column['version'], name
        for row, c in column['cells'].items():
            verdict = c['verdict']
            allowed = ('yes', 'partly', 'no') + (('?',) if name == 'paper' else ())
            assert verdict in allowed or verdict[0].isdigit(), (name, row, verdict)
            assert c['evidence'].endswith('.') and '/tmp' not in c['evidence'] and c['probe'], (name, row)
            assert (c['probe'] == 'read, not run') == (name == 'paper'), (name, row)
            assert bool(c['note']) == (verdict == 'partly'), (name, row)


def test_no_cell_of_ours_is_the_only_good_one_in_all_rows(known):
    "A table in which nobody else is better anywhere was made for ourselves"
    def better(row): return [n for n in COLUMNS[1:] if known['columns'][n]['cells'][row]['verdict'] == 'yes'
                             and known['columns']['foprokd']['cells'][row]['verdict'] == 'no']
    assert sum(bool(better(r)) for r in known['rows']) >= 2


def test_the_table_of_the_site_is_the_checked_one():
    lines = [line for line in script('--table').strip().splitlines() if not line.startswith('<!--')]
    front = ''.join(map(cell_source, read_notebooks(ROOT/'nbs')['reference/07_comparison']['cells']))
    assert sum(line.startswith('|') for line in lines) == 2 + len(json.loads(FILE.read_text(encoding='utf-8'))['rows'])
    missing = [line for line in lines if line not in front]
    assert not missing, f"Paste the output of compare_rivals.py --table into nbs/reference/07_comparison.ipynb: {missing[0][:80]}"


def test_our_own_column_is_true_today(known, tmp_path):
    today = json.loads(script('--probe', 'foprokd', cwd=tmp_path).splitlines()[-1])
    then = known['columns']['foprokd']['cells']
    assert {r: c['verdict'] for r, c in today.items()} == {r: c['verdict'] for r, c in then.items()}
