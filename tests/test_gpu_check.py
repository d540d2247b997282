"The checks of a GPU (`benchmarks/gpu_check.py`), with tiny sizes on the CPU: the script keeps in step with the package."
import pytest
from conftest import ROOT, environment, paths, run_file


def ask(tmp_path, *args):
    "What the script prints, a line per question"
    env = environment(PYTHONPATH=paths(), FOPROKD_CACHE=str(tmp_path/'facts'))
    done = run_file(ROOT/'benchmarks'/'gpu_check.py', ['--device', 'cpu', *args], tmp_path, env, False)
    said = [o for o in done.stdout.splitlines() if o[:4] in ('PASS', 'FAIL')]
    assert done.returncode == 0 and not [o for o in said if o.startswith('FAIL')], done.stdout[-3000:] + done.stderr[-3000:]
    return said


def test_given_on_device(tmp_path): assert len(ask(tmp_path, '--only', 'given_on_device')) == 5


@pytest.mark.long
def test_all_checks(tmp_path): assert len(ask(tmp_path, '--budget', '900', '--skip', 'compiled')) > 50
